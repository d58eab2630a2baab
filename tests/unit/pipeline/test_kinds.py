"""The operator's choice of a kind: kept with the pattern, above the shape's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.shape import FieldKind, FieldShape, Kind, Missing, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.interfaces.cli.main import run as command
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.retraining import handle_of
from hermes_apprentice.pipeline.steps import next_kind
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import save_specialist

NOW = 1_790_000_000.0
SLUG = "ticket-label-7f3a"
NOTE = FieldShape(
    path="note",
    kind=FieldKind.FREE_TEXT,
    missing=Missing.NEVER,
    presence=1.0,
    value_type="string",
)
JSON = Shape(kind=ShapeKind.JSON, agreement=0.9, fields=(NOTE,))
TEXT = Shape(kind=ShapeKind.TEXT, agreement=1.0)


@pytest.fixture
def pipeline(settings: Settings, database: Database) -> Pipeline:
    return open_pipeline(settings, database, clock=lambda: NOW)


@pytest.fixture
def candidate(pipeline: Pipeline, make_candidate: Callable[..., Candidate]) -> Candidate:
    """A candidate with labels as answers, proposed."""
    one = make_candidate()
    store(pipeline, one)
    with pipeline.shop.database.transaction() as connection:
        PatternStore(connection).add_candidate(one)
        desk.propose(connection, one, pipeline.shop.settings.approvals, NOW)
    return one


def store(pipeline: Pipeline, candidate: Candidate) -> None:
    """Write a pattern as a detection does."""
    with pipeline.shop.database.transaction() as connection:
        PatternStore(connection).save(
            StoredPattern(
                pattern=candidate.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
            ),
            NOW,
        )


def specialist(pipeline: Pipeline) -> Specialist:
    return pipeline.specialist(SLUG).view.specialist


def change(pipeline: Pipeline, **values: object) -> None:
    with pipeline.shop.database.transaction() as connection:
        save_specialist(connection, replace(specialist_in(connection), **values))


def specialist_in(connection: object) -> Specialist:
    from hermes_apprentice.storage.specialists import find_specialist

    found = find_specialist(connection, SLUG)  # type: ignore[arg-type]
    assert found is not None
    return found


def retried(pipeline: Pipeline, kind: Kind | None = None) -> Kind:
    """Try again, and return the kind that is tried; the step itself fails for want of data."""
    change(pipeline, step=Step.REJECTED)
    pipeline.tick(SLUG, kind)
    return specialist(pipeline).kind


def test_without_a_choice_the_shape_decides(pipeline: Pipeline, candidate: Candidate) -> None:
    pipeline.reply("train gc-7f3a")
    assert specialist(pipeline).kind is Kind.CLASSIFIER


@pytest.mark.parametrize(
    ("text", "kind"), [("train gc-7f3a as generator", None), ("train gc-7f3a", Kind.GENERATOR)]
)
def test_a_choice_outlives_detection_and_training_and_can_be_taken_back(
    text: str, kind: Kind | None, pipeline: Pipeline, candidate: Candidate
) -> None:
    assert "is trained as a generator" in pipeline.reply(text, kind=kind)
    assert specialist(pipeline).kind is Kind.GENERATOR
    store(pipeline, candidate)  # found again, and a classifier by its shape
    change(pipeline, kind=Kind.CLASSIFIER)
    assert retried(pipeline) is Kind.GENERATOR

    change(pipeline, step=Step.REGISTERED, version=3, kind=Kind.CLASSIFIER)
    handle = handle_of(SLUG, 3)
    with pipeline.shop.database.transaction() as connection:
        desk.ask(connection, handle, SLUG, "Again?", pipeline.shop.settings.approvals, NOW)
    pipeline.reply(f"train {handle}")
    assert specialist(pipeline).kind is Kind.GENERATOR

    # What the shape asks for anyway is no choice.
    assert retried(pipeline, Kind.CLASSIFIER) is Kind.CLASSIFIER
    change(pipeline, kind=Kind.GENERATOR)  # as the gate's fallback leaves it
    assert retried(pipeline) is Kind.GENERATOR


def test_a_retraining_may_be_answered_with_a_kind(pipeline: Pipeline, candidate: Candidate) -> None:
    pipeline.reply("train gc-7f3a")
    change(pipeline, step=Step.REGISTERED, version=3)
    handle = handle_of(SLUG, 3)
    with pipeline.shop.database.transaction() as connection:
        desk.ask(connection, handle, SLUG, "Again?", pipeline.shop.settings.approvals, NOW)
    assert "trained again as a generator" in pipeline.reply(f"train {handle} as generator")
    assert specialist(pipeline).kind is Kind.GENERATOR
    assert retried(pipeline) is Kind.GENERATOR


def test_a_kind_that_cannot_give_such_answers_is_refused_and_nothing_decided(
    pipeline: Pipeline, candidate: Candidate
) -> None:
    with pytest.raises(ReplyError, match="an extractor writes JSON"):
        pipeline.reply("train gc-7f3a as extractor")
    with pytest.raises(ReplyError, match="A kind belongs to train"):
        pipeline.reply("skip gc-7f3a", kind=Kind.GENERATOR)
    with pytest.raises(ReplyError, match="A kind belongs to train"):
        pipeline.reply("train gc-7f3a as generator", kind=Kind.CLASSIFIER)
    assert "accepted" in pipeline.reply("train gc-7f3a")


@pytest.mark.parametrize(("shape", "word"), [(JSON, "JSON"), (TEXT, "free text")])
def test_a_classifier_of_answers_that_are_no_labels_is_refused_and_what_serves_stays(
    shape: Shape,
    word: str,
    pipeline: Pipeline,
    candidate: Candidate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(pipeline.shop.settings.home))
    store(pipeline, replace(candidate, pattern=replace(candidate.pattern, shape=shape)))
    pipeline.reply("train gc-7f3a as generator")
    change(pipeline, step=Step.REGISTERED, version=1)
    before = specialist(pipeline)
    with pytest.raises(ReplyError, match=f"few labels, and these answers are {word}"):
        pipeline.tick(SLUG, Kind.CLASSIFIER)
    assert command(["tick", "--retry", SLUG, "--kind", "classifier"]) == 2
    assert word in capsys.readouterr().err
    assert specialist(pipeline) == before


def test_no_other_kind_is_tried_where_the_operator_chose(
    pipeline: Pipeline, candidate: Candidate
) -> None:
    store(pipeline, replace(candidate, pattern=replace(candidate.pattern, shape=JSON)))
    pipeline.reply("train gc-7f3a as extractor")
    one = replace(specialist(pipeline), step=Step.TRAINED)
    outcome = next_kind(pipeline.shop, one, "Too often wrong.", "It was rejected.")
    assert (outcome.step, outcome.kind) == (Step.REJECTED, Kind.EXTRACTOR)
    assert "No generator was tried: the operator chose an extractor." in outcome.reason
