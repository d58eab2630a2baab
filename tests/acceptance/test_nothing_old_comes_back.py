"""Whoever can write to the registry's folder brings nothing back that was signed earlier."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.errors import SignatureError
from hermes_apprentice.pipeline import Pipeline, forgetting, open_pipeline
from hermes_apprentice.pipeline.past import dataset_of
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.router.specialists import Loading
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout
from hermes_apprentice.storage.specialists import find_specialist, save_specialist
from hermes_apprentice.storage.transfers import MATCHER, highest_number

NOW = 1_790_000_000.0


@pytest.fixture
def pipeline(trained_home: Path, copy_of: Callable[[Path], Settings]) -> Iterator[Pipeline]:
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database:
        yield open_pipeline(settings, database, clock=lambda: NOW)


def ticket(pipeline: Pipeline) -> Specialist:
    found = [one.specialist for one in pipeline.specialists()]
    return next(one for one in found if one.slug.startswith("ticket"))


def loaded(pipeline: Pipeline) -> Loading:
    source = RegistrySource(pipeline.shop.settings)
    try:
        return source.load({one.specialist.slug: 1 for one in pipeline.specialists()})
    finally:
        source.close()


def register_again(pipeline: Pipeline) -> int:
    """Register what the present run has trained as another version, as a retraining would."""
    specialist = ticket(pipeline)
    run = f"run-again-{specialist.version}"
    shutil.copytree(
        pipeline.shop.run_dir(specialist.run_id),
        pipeline.shop.run_dir(run),
        dirs_exist_ok=True,
    )
    with pipeline.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist, step=Step.VALIDATED, run_id=run))
    assert [move.step for move in pipeline.tick().moves] == [Step.REGISTERED]
    return ticket(pipeline).version or 0


def test_an_older_matcher_is_not_used_and_a_new_one_replaces_it(pipeline: Pipeline) -> None:
    root = pipeline.shop.registry.root / MATCHER_FOLDER
    older = pipeline.shop.registry.matcher_number()
    assert older is not None
    assert register_again(pipeline) == 2
    newer = pipeline.shop.registry.matcher_number()
    assert newer == older + 1
    kept = root.parent.parent / "kept"
    shutil.move(root / str(newer), kept)
    loading = loaded(pipeline)
    assert loading.matcher is None
    assert f"matcher {older} is older than matcher {newer}" in loading.problems["matcher"]
    assert pipeline.tick().matcher_refitted
    assert pipeline.shop.registry.matcher_number() == newer + 1
    assert loaded(pipeline).matcher is not None
    # Its number is used up, so it cannot pass for the new one either.
    shutil.rmtree(root / str(newer + 1))
    shutil.move(kept, root / str(newer + 1))
    with pytest.raises(SignatureError, match="it was moved"):
        pipeline.shop.registry.open_matcher()


def test_a_registry_whose_matchers_were_all_removed_counts_on(pipeline: Pipeline) -> None:
    number = pipeline.shop.registry.matcher_number()
    assert number is not None
    shutil.rmtree(pipeline.shop.registry.root / MATCHER_FOLDER)
    assert pipeline.tick().matcher_refitted
    assert pipeline.shop.registry.matcher_number() == number + 1
    with pipeline.shop.database.transaction() as connection:
        assert highest_number(connection, MATCHER) == number + 1


def test_a_number_is_never_given_twice_even_if_alias_and_version_are_put_back(
    pipeline: Pipeline,
) -> None:
    specialist = ticket(pipeline)
    folder = pipeline.shop.registry.root / specialist.slug
    alias = (folder / "current.json").read_bytes()
    assert register_again(pipeline) == 2
    stolen = folder.parent.parent / "stolen"
    shutil.move(folder / "2", stolen)
    (folder / "current.json").write_bytes(alias)
    assert pipeline.shop.registry.alias(specialist.slug) == 1
    assert register_again(pipeline) == 3
    shutil.rmtree(folder / "3")
    shutil.move(stolen, folder / "3")
    with pytest.raises(SignatureError, match="it was moved"):
        pipeline.shop.registry.open_version(specialist.slug, 3)


def test_an_alias_that_was_put_back_changes_nothing_that_is_served(pipeline: Pipeline) -> None:
    specialist = ticket(pipeline)
    path = pipeline.shop.registry.root / specialist.slug / "current.json"
    alias = path.read_bytes()
    assert register_again(pipeline) == 2
    path.write_bytes(alias)
    assert pipeline.shop.registry.alias(specialist.slug) == 1
    pipeline.tick()
    with pipeline.shop.database.transaction() as connection:
        rollout = find_rollout(connection, specialist.slug)
        now = find_specialist(connection, specialist.slug)
    assert rollout is not None
    assert now is not None
    assert (rollout.version, rollout.stage, now.version) == (2, Stage.SHADOW, 2)


def test_what_was_forgotten_leaves_service_with_the_next_version(pipeline: Pipeline) -> None:
    shop, slug = pipeline.shop, ticket(pipeline).slug
    rows = shop.database.read(
        "SELECT session_id, exchange_id FROM exchanges JOIN pattern_members USING (exchange_id) "
        "JOIN specialists USING (pattern_id) WHERE slug = ? ORDER BY asked_at LIMIT 3",
        (slug,),
    )
    older = shop.registry.matcher_number()
    forgetting.forget(shop, sorted({row["session_id"] for row in rows}))
    (question,) = (one for one in pipeline.questions() if slug in one.about)
    pipeline.reply(f"train {question.handle}")
    while pipeline.tick().pending:
        pass
    after = ticket(pipeline)
    assert (after.step, after.version) == (Step.REGISTERED, 2), after.reason
    assert shop.registry.versions(slug) == (2,)
    learnt = dataset_of(shop, shop.registry.open_version(slug, 2).manifest).examples
    assert not {row["exchange_id"] for row in rows} & {one.example_id for one in learnt}
    # The matcher was fitted without them, and no older one is left.
    assert shop.registry.open_matcher().details["forgotten"] >= 1
    assert not (shop.registry.root / MATCHER_FOLDER / str(older)).exists()
    assert not pipeline.tick().matcher_refitted
