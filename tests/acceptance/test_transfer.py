"""A specialist of one machine answers on another as it did at home."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.demo.texts import Corpus
from hermes_apprentice.domain.dataset import Split
from hermes_apprentice.domain.specialist import Answer, Manifest, Stage, Step
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.views import matching_vectors
from hermes_apprentice.errors import RegistryError, ReplyError, SignatureError
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.exporting import export_specialist
from hermes_apprentice.pipeline.importing import import_specialist
from hermes_apprentice.pipeline.past import IMPORTED_FROM, dataset_of
from hermes_apprentice.privacy.fillers import filled
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.bundle import open_bundle, write_bundle
from hermes_apprentice.registry.signing import load_or_create_keys, rotate_keys, trust_key
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.settings import ModelSettings, Settings
from hermes_apprentice.statistics.open_set import OpenSetModel
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout
from hermes_apprentice.storage.specialists import save_specialist

NOW = 1_790_000_000.0
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"


@pytest.fixture
def home(trained_home: Path, copy_of: Callable[[Path], Settings]) -> Iterator[Pipeline]:
    """The machine that a specialist was trained on."""
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database:
        yield open_pipeline(settings, database, clock=lambda: NOW)


@pytest.fixture
def away(home: Pipeline, tmp_path: Path) -> Iterator[Pipeline]:
    """Another machine with nothing on it, which trusts the first one's key."""
    settings = home.shop.settings.model_copy(update={"home": tmp_path / "away"})
    load_or_create_keys(settings.keys_dir)
    trust(settings, home)
    with Database(settings.database_path) as database:
        yield open_pipeline(settings, database, clock=lambda: NOW + 60)


def trust(settings: Settings, home: Pipeline) -> None:
    keys = home.shop.settings.keys_dir
    trust_key(settings.keys_dir, keys / "trusted" / f"{load_or_create_keys(keys).key_id}.pem")


def slug_of(pipeline: Pipeline, beginning: str) -> str:
    slugs = [one.specialist.slug for one in pipeline.specialists()]
    return next(slug for slug in slugs if slug.startswith(beginning))


@pytest.fixture(scope="session")
def written(
    trained_home: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with both specialists, exported once for all stories."""
    root = tmp_path_factory.mktemp("written")
    shutil.copytree(trained_home, root / "home")
    settings = Settings(
        home=root / "home" / "apprentice",
        hermes_home=root / "home" / "hermes",
        models=ModelSettings(embedder=embedder.name, folder=MODELS),
    )
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        for beginning in ("ticket", "reference"):
            export_specialist(
                pipeline.shop, slug_of(pipeline, beginning), root / f"{beginning}.specialist"
            )
    return root


@pytest.fixture
def tickets(written: Path) -> Path:
    return written / "ticket.specialist"


@pytest.fixture
def orders(written: Path) -> Path:
    return written / "reference.specialist"


def matched(pipeline: Pipeline, embedder: Embedder, texts: list[str]) -> list[str | None]:
    """Return what the published matcher says about requests."""
    files = pipeline.shop.registry.open_matcher().files
    model = OpenSetModel.from_bytes(files["matcher.npz"])
    decisions = model.decide(matching_vectors(embedder.encode(texts)))
    return [decision.label for decision in decisions]


def answers(pipeline: Pipeline, embedder: Embedder, slug: str, texts: list[str]) -> list[object]:
    version = pipeline.shop.registry.alias(slug)
    assert version is not None
    runtime = load_runtime(pipeline.shop.registry.open_version(slug, version), embedder, Redactor)
    try:
        return list(runtime.answer_many(texts))
    finally:
        runtime.close()


@pytest.mark.parametrize("beginning", ["ticket", "reference"])
def test_what_matched_before_matches_again_and_is_answered_identically(
    home: Pipeline, away: Pipeline, written: Path, past: Corpus, embedder: Embedder, beginning: str
) -> None:
    slug = slug_of(home, beginning)
    done = import_specialist(away.shop, written / f"{beginning}.specialist")
    assert (done.slug, done.version, done.again) == (slug, 1, False)
    assert away.tick().matcher_refitted
    assert not away.tick().matcher_refitted
    (view,) = away.specialists()
    assert view.specialist.step is Step.REGISTERED
    assert view.rollout is not None
    assert (view.rollout.stage, view.rollout.share) == (Stage.SHADOW, 0.0)
    own = [one.request for one in past.of("ticket" if beginning == "ticket" else "order")]
    there = matched(home, embedder, own)
    here = matched(away, embedder, own)
    assert there.count(slug) > 0.9 * len(own)
    # Without any other traffic to judge by the matcher keeps to what it is surest of.
    assert here.count(slug) >= 0.45 * there.count(slug)
    assert set(here) <= {slug, None}
    others = [one.request for one in past.of("chat")]
    assert matched(away, embedder, others).count(slug) <= 0.02 * len(others)
    before = answers(home, embedder, slug, own)
    assert answers(away, embedder, slug, own) == before
    assert sum(isinstance(answer, Answer) for answer in before) > 0.7 * len(own)


def test_the_sidecar_of_the_other_machine_serves_it(away: Pipeline, tickets: Path) -> None:
    done = import_specialist(away.shop, tickets)
    away.tick()
    source = RegistrySource(away.shop.settings)
    try:
        loading = source.load({done.slug: done.version})
    finally:
        source.close()
    assert loading.problems == {}
    assert set(loading.specialists) == {done.slug}
    assert loading.matcher is not None


def test_the_manifest_is_signed_here_and_names_where_it_came_from(
    home: Pipeline, away: Pipeline, tickets: Path
) -> None:
    done = import_specialist(away.shop, tickets, "tickets-of-home")
    theirs = load_or_create_keys(home.shop.settings.keys_dir).key_id
    ours = load_or_create_keys(away.shop.settings.keys_dir).key_id
    version = away.shop.registry.open_version("tickets-of-home", 1)
    assert json.loads((version.folder / "manifest.sig").read_bytes())["key"] == ours
    origin = home.shop.registry.open_version(slug_of(home, "ticket"), 1).manifest
    recipe = dict(version.manifest.recipe)
    assert recipe[IMPORTED_FROM].split()[:3] == [theirs, origin.slug, "1"]
    assert "run" not in recipe
    assert version.manifest.files == origin.files
    assert version.manifest.verdict == origin.verdict
    assert done.signer == theirs
    assert theirs in away.specialist("tickets-of-home").report


def test_no_text_of_a_request_leaves_the_machine(
    home: Pipeline, orders: Path, past: Corpus, embedder: Embedder
) -> None:
    data = orders.read_bytes()
    for text in past.texts():
        assert text.encode() not in data
    manifest = home.shop.registry.open_version(slug_of(home, "reference"), 1).manifest
    examples = dataset_of(home.shop, manifest).examples
    assert not any(one.request.encode() in data for one in examples)
    with open_bundle(orders, load_or_create_keys(home.shop.settings.keys_dir)) as bundle:
        about = dict(bundle.about)
        vectors = np.frombuffer(bundle.extras["members.f16"], dtype="<f2")
    vectors = vectors.reshape(about["members"], about["dimension"]).astype(np.float32)
    assert about["pattern"]["size"] == 0
    assert about["pattern"]["forecast"]["cost_per_request"] == 0
    # They are those of the redacted texts with invented values in the gaps, sorted: neither the raw
    # text nor its place is in them.
    rng = random.Random(0)
    made = matching_vectors(embedder.encode([filled(one.request, rng) for one in examples]))
    assert np.abs(vectors @ made.T).max(axis=1).min() > 0.999
    assert np.array_equal(vectors, np.unique(vectors, axis=0))


def test_importing_twice_is_recognised(home: Pipeline, away: Pipeline, tickets: Path) -> None:
    first = import_specialist(away.shop, tickets)
    again = import_specialist(away.shop, tickets)
    assert again == first._replace(again=True)
    assert away.shop.registry.versions(first.slug) == (1,)
    own = import_specialist(home.shop, tickets)
    assert own.again
    assert home.shop.registry.versions(first.slug) == (1,)


def test_an_import_that_was_killed_is_finished_by_the_next_one(
    away: Pipeline, tickets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hermes_apprentice.pipeline.importing._store", dies)
        with pytest.raises(KeyboardInterrupt):
            import_specialist(away.shop, tickets)
    assert away.specialists() == []
    done = import_specialist(away.shop, tickets)
    assert (done.version, done.again) == (1, False)
    assert away.shop.registry.versions(done.slug) == (1,)
    assert len(away.specialists()) == 1


def test_a_newer_version_follows_and_an_older_one_does_not_come_back(
    home: Pipeline, away: Pipeline, tickets: Path, tmp_path: Path
) -> None:
    second = resigned(home, tickets, tmp_path / "second", created_at=NOW + 1)
    third = resigned(home, tickets, tmp_path / "third", created_at=NOW + 2)
    slug = import_specialist(away.shop, second).slug
    with pytest.raises(RegistryError, match="older version 1"):
        import_specialist(away.shop, tickets)
    assert away.shop.registry.versions(slug) == (1,)
    assert import_specialist(away.shop, third).version == 2
    assert import_specialist(away.shop, third).again
    assert away.shop.registry.history(slug) == (1, 2)
    with away.shop.database.transaction() as connection:
        rollout = find_rollout(connection, slug)
    assert rollout is not None
    assert (rollout.version, rollout.stage) == (2, Stage.SHADOW)


def test_a_name_that_is_taken_is_refused_until_another_is_given(
    away: Pipeline, tickets: Path, orders: Path
) -> None:
    import_specialist(away.shop, tickets, "mine")
    with pytest.raises(RegistryError, match="--as NAME"):
        import_specialist(away.shop, orders, "mine")
    with pytest.raises(RegistryError, match="--as mine"):
        import_specialist(away.shop, tickets)
    for odd in ("../evil", "UP", "a/b", ""):
        with pytest.raises(RegistryError, match="not a specialist's name"):
            import_specialist(away.shop, orders, odd)
    assert import_specialist(away.shop, orders, "orders").version == 1
    assert {one.specialist.slug for one in away.specialists()} == {"mine", "orders"}


def test_after_a_rotation_the_export_names_every_key_that_must_be_trusted(
    home: Pipeline, tmp_path: Path
) -> None:
    keys = home.shop.settings.keys_dir
    before = load_or_create_keys(keys).key_id
    after = rotate_keys(keys).key_id
    path = tmp_path / "rotated.specialist"
    done = export_specialist(home.shop, slug_of(home, "ticket"), path)
    assert done.signers == (after, before)
    settings = home.shop.settings.model_copy(update={"home": tmp_path / "third"})
    load_or_create_keys(settings.keys_dir)
    with Database(settings.database_path) as database:
        third = open_pipeline(settings, database, clock=lambda: NOW + 60)
        trust_key(settings.keys_dir, keys / "trusted" / f"{after}.pem")
        with pytest.raises(SignatureError, match=before):
            import_specialist(third.shop, path)
        trust_key(settings.keys_dir, keys / "trusted" / f"{before}.pem")
        assert import_specialist(third.shop, path).version == 1


def test_a_stranger_is_refused_and_nothing_is_written(
    home: Pipeline, tickets: Path, tmp_path: Path
) -> None:
    settings = home.shop.settings.model_copy(update={"home": tmp_path / "stranger"})
    theirs = load_or_create_keys(home.shop.settings.keys_dir).key_id
    with Database(settings.database_path) as database:
        stranger = open_pipeline(settings, database, clock=lambda: NOW)
        with pytest.raises(SignatureError, match=f"{theirs}.*apprentice keys trust"):
            import_specialist(stranger.shop, tickets)
        assert stranger.specialists() == []
        assert stranger.shop.registry.slugs() == ()


def resigned(home: Pipeline, source: Path, path: Path, **changes: object) -> Path:
    """Export another version, whose manifest says something else, signed by the same key."""
    slug = slug_of(home, "ticket")
    keys = load_or_create_keys(home.shop.settings.keys_dir)
    current = home.shop.registry.open_version(slug, 1)
    with open_bundle(source, keys) as bundle:
        draft: Manifest = replace(current.manifest, **changes)  # type: ignore[arg-type]
        number = home.shop.registry.publish(bundle.folder, draft).version
        write_bundle(
            path,
            home.shop.registry.open_version(slug, number),
            dict(bundle.about),
            dict(bundle.extras),
            keys,
        )
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"embedder": "0" * 64}, "set models.embedder to the same one"),
        ({"redaction": "f" * 64}, "redacted by other rules"),
        ({"pattern_id": "pt-000000000000"}, "do not belong together"),
    ],
)
def test_what_cannot_run_here_is_refused_with_the_reason(
    home: Pipeline,
    away: Pipeline,
    tickets: Path,
    tmp_path: Path,
    changes: dict[str, object],
    reason: str,
) -> None:
    path = resigned(home, tickets, tmp_path / "changed", **changes)
    with pytest.raises(RegistryError, match=reason):
        import_specialist(away.shop, path)
    assert away.specialists() == []
    assert away.shop.registry.slugs() == ()


def test_an_imported_one_takes_no_place_of_a_specialist_here(
    home: Pipeline, away: Pipeline, tickets: Path, orders: Path, tmp_path: Path
) -> None:
    import_specialist(away.shop, orders, "victim")
    origin = home.shop.registry.open_version(slug_of(home, "ticket"), 1).manifest
    recipe = tuple(sorted({**dict(origin.recipe), "merged_from": "victim other"}.items()))
    evil = resigned(home, tickets, tmp_path / "evil", recipe=recipe)
    done = import_specialist(away.shop, evil)
    away.tick()
    source = RegistrySource(away.shop.settings)
    try:
        loading = source.load({done.slug: done.version, "victim": 1})
    finally:
        source.close()
    assert loading.specialists[done.slug].parents == ()


def test_an_imported_one_is_exported_again_and_not_merged(
    away: Pipeline, tickets: Path, orders: Path, tmp_path: Path
) -> None:
    done = import_specialist(away.shop, tickets)
    import_specialist(away.shop, orders, "other")
    further = export_specialist(away.shop, done.slug, tmp_path / "further")
    assert further.members > 50
    with pytest.raises(ReplyError, match="came from another machine"):
        away.propose_merge(done.slug, "other")


def test_its_requests_are_no_second_proposal_and_train_it_again(
    away: Pipeline, tickets: Path, orders: Path
) -> None:
    done = import_specialist(away.shop, tickets)
    import_specialist(away.shop, orders)
    away.observe()
    report = away.detect()
    assert report.candidates == ()
    sizes = {one.slug: one.size for one in report.updated}
    assert len(sizes) == 2
    assert all(size > 100 for size in sizes.values())
    # Training again needs nothing of the other machine: its test is one of this machine's own.
    specialist = away.specialist(done.slug).view.specialist
    with away.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist, step=Step.WAITING))
    (move,) = away.tick(done.slug).moves
    assert move.step is Step.DATASET_BUILT
    again = away.specialist(done.slug).view.specialist
    assert (again.version, again.step) == (1, Step.DATASET_BUILT)
    dataset = read_dataset(away.shop.run_dir(again.run_id) / "dataset")
    assert {one.split for one in dataset.examples} == set(Split)
