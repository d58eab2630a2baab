"""A specialist of one machine answers on another as it did at home."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.bundle import open_bundle, write_bundle
from hermes_apprentice.registry.signing import load_or_create_keys, trust_key
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.open_set import OpenSetModel
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout
from hermes_apprentice.storage.specialists import save_specialist

NOW = 1_790_000_000.0


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


def exported(home: Pipeline, tmp_path: Path, beginning: str = "ticket") -> Path:
    path = tmp_path / f"{beginning}.specialist"
    export_specialist(home.shop, slug_of(home, beginning), path)
    return path


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
    home: Pipeline, away: Pipeline, tmp_path: Path, past: Corpus, embedder: Embedder, beginning: str
) -> None:
    slug = slug_of(home, beginning)
    done = import_specialist(away.shop, exported(home, tmp_path, beginning))
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
    assert here.count(slug) >= 0.7 * there.count(slug)
    assert set(here) <= {slug, None}
    others = [one.request for one in past.of("chat")]
    assert matched(away, embedder, others).count(slug) <= 0.02 * len(others)
    before = answers(home, embedder, slug, own)
    assert answers(away, embedder, slug, own) == before
    assert sum(isinstance(answer, Answer) for answer in before) > 0.7 * len(own)


def test_the_sidecar_of_the_other_machine_serves_it(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    done = import_specialist(away.shop, exported(home, tmp_path))
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
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    done = import_specialist(away.shop, exported(home, tmp_path), "tickets-of-home")
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
    home: Pipeline, tmp_path: Path, past: Corpus, away: Pipeline, embedder: Embedder
) -> None:
    path = exported(home, tmp_path, "reference")
    data = path.read_bytes()
    for text in past.texts():
        assert text.encode() not in data
    manifest = home.shop.registry.open_version(slug_of(home, "reference"), 1).manifest
    examples = dataset_of(home.shop, manifest).examples
    assert not any(one.request.encode() in data for one in examples)
    with open_bundle(path, load_or_create_keys(home.shop.settings.keys_dir)) as bundle:
        about = dict(bundle.about)
        vectors = np.frombuffer(bundle.extras["members.f16"], dtype="<f2")
    vectors = vectors.reshape(about["members"], about["dimension"]).astype(np.float32)
    assert about["pattern"]["size"] == 0
    assert about["pattern"]["forecast"]["cost_per_request"] == 0
    # They are those of the redacted texts, sorted: neither the raw text nor its place is in them.
    made = matching_vectors(embedder.encode([one.request for one in examples]))
    assert np.abs(vectors @ made.T).max(axis=1).min() > 0.999
    assert np.array_equal(vectors, np.unique(vectors, axis=0))


def test_importing_twice_is_recognised(home: Pipeline, away: Pipeline, tmp_path: Path) -> None:
    path = exported(home, tmp_path)
    first = import_specialist(away.shop, path)
    again = import_specialist(away.shop, path)
    assert again == first._replace(again=True)
    assert away.shop.registry.versions(first.slug) == (1,)
    own = import_specialist(home.shop, path)
    assert own.again
    assert home.shop.registry.versions(first.slug) == (1,)


def test_an_import_that_was_killed_is_finished_by_the_next_one(
    home: Pipeline, away: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(home, tmp_path)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hermes_apprentice.pipeline.importing._store", dies)
        with pytest.raises(KeyboardInterrupt):
            import_specialist(away.shop, path)
    assert away.specialists() == []
    done = import_specialist(away.shop, path)
    assert (done.version, done.again) == (1, False)
    assert away.shop.registry.versions(done.slug) == (1,)
    assert len(away.specialists()) == 1


def test_a_newer_version_follows_and_an_older_one_does_not_come_back(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    old = exported(home, tmp_path)
    slug = slug_of(home, "ticket")
    publish_again(home, slug)
    new = tmp_path / "new.specialist"
    export_specialist(home.shop, slug, new)
    assert import_specialist(away.shop, new).version == 1
    with pytest.raises(RegistryError, match="older version 1"):
        import_specialist(away.shop, old)
    assert away.shop.registry.versions(slug) == (1,)
    publish_again(home, slug)
    newest = tmp_path / "newest.specialist"
    export_specialist(home.shop, slug, newest)
    assert import_specialist(away.shop, newest).version == 2
    assert away.shop.registry.history(slug) == (1, 2)
    with away.shop.database.transaction() as connection:
        rollout = find_rollout(connection, slug)
    assert rollout is not None
    assert (rollout.version, rollout.stage) == (2, Stage.SHADOW)


def publish_again(home: Pipeline, slug: str) -> None:
    """Give a specialist another version, as after a retraining."""
    registry = home.shop.registry
    specialist = next(one.specialist for one in home.specialists() if one.specialist.slug == slug)
    current = registry.open_version(slug, specialist.version or 0)
    with current.checkout() as folder:
        manifest = registry.publish(
            folder, replace(current.manifest, created_at=current.manifest.created_at + 1)
        )
    registry.set_alias(slug, manifest.version)
    with home.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist, version=manifest.version))


def test_a_name_that_is_taken_is_refused_until_another_is_given(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    tickets = exported(home, tmp_path)
    orders = exported(home, tmp_path, "reference")
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


def test_a_stranger_is_refused_and_nothing_is_written(home: Pipeline, tmp_path: Path) -> None:
    path = exported(home, tmp_path)
    settings = home.shop.settings.model_copy(update={"home": tmp_path / "stranger"})
    theirs = load_or_create_keys(home.shop.settings.keys_dir).key_id
    with Database(settings.database_path) as database:
        stranger = open_pipeline(settings, database, clock=lambda: NOW)
        with pytest.raises(SignatureError, match=f"{theirs}.*apprentice keys trust"):
            import_specialist(stranger.shop, path)
        assert stranger.specialists() == []
        assert stranger.shop.registry.slugs() == ()


def resigned(home: Pipeline, tmp_path: Path, **changes: object) -> Path:
    """Export a version whose manifest says something else, signed by the trusted key."""
    slug = slug_of(home, "ticket")
    path = exported(home, tmp_path)
    keys = load_or_create_keys(home.shop.settings.keys_dir)
    current = home.shop.registry.open_version(slug, 1)
    with open_bundle(path, keys) as bundle:
        draft: Manifest = replace(current.manifest, **changes)  # type: ignore[arg-type]
        number = home.shop.registry.publish(bundle.folder, draft).version
        about, extras = dict(bundle.about), dict(bundle.extras)
    path.unlink()
    write_bundle(path, home.shop.registry.open_version(slug, number), about, extras, keys)
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
    home: Pipeline, away: Pipeline, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = resigned(home, tmp_path, **changes)
    with pytest.raises(RegistryError, match=reason):
        import_specialist(away.shop, path)
    assert away.specialists() == []
    assert away.shop.registry.slugs() == ()


def test_an_imported_one_takes_no_place_of_a_specialist_here(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    import_specialist(away.shop, exported(home, tmp_path, "reference"), "victim")
    origin = home.shop.registry.open_version(slug_of(home, "ticket"), 1).manifest
    recipe = tuple(sorted({**dict(origin.recipe), "merged_from": "victim other"}.items()))
    done = import_specialist(away.shop, resigned(home, tmp_path, recipe=recipe))
    away.tick()
    source = RegistrySource(away.shop.settings)
    try:
        loading = source.load({done.slug: done.version, "victim": 1})
    finally:
        source.close()
    assert loading.specialists[done.slug].parents == ()


def test_an_imported_one_is_exported_again_and_not_merged(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    done = import_specialist(away.shop, exported(home, tmp_path))
    import_specialist(away.shop, exported(home, tmp_path, "reference"), "other")
    further = export_specialist(away.shop, done.slug, tmp_path / "further")
    assert further.members > 50
    with pytest.raises(ReplyError, match="came from another machine"):
        away.propose_merge(done.slug, "other")


def test_its_requests_do_not_become_a_second_proposal(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    for beginning in ("ticket", "reference"):
        import_specialist(away.shop, exported(home, tmp_path, beginning))
    away.observe()
    report = away.detect()
    assert report.candidates == ()
    sizes = {one.slug: one.size for one in report.updated}
    assert all(size > 100 for size in sizes.values())
    assert len(sizes) == 2
    assert away.tick().matcher_refitted
    (ticket,) = [one for one in away.specialists() if one.specialist.slug.startswith("ticket")]
    assert ticket.specialist.version == 1


def test_retraining_an_imported_one_needs_nothing_of_the_other_machine(
    home: Pipeline, away: Pipeline, tmp_path: Path
) -> None:
    done = import_specialist(away.shop, exported(home, tmp_path))
    away.observe()
    away.detect()
    with away.shop.database.transaction() as connection:
        specialist = away.specialist(done.slug).view.specialist
        save_specialist(connection, replace(specialist, step=Step.WAITING))
    (move,) = away.tick(done.slug).moves
    assert move.step is Step.DATASET_BUILT
    assert Split.TEST in {
        one.split
        for one in read_dataset(
            away.shop.run_dir(away.specialist(done.slug).view.specialist.run_id) / "dataset"
        ).examples
    }
