"""From Hermes' sessions to signed specialists, with everything real but the passing of time."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from hermes_apprentice.demo.texts import Corpus, Sizes, make_corpus
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.pattern import CandidateState
from hermes_apprentice.domain.shape import Kind, ShapeKind
from hermes_apprentice.domain.specialist import Answer, Stage, Step
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0


def test_the_report_finds_the_patterns_before_anything_was_read_and_writes_nothing(
    sessions_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(sessions_home)
    with Database(settings.database_path) as database:
        survey = open_pipeline(settings, database, clock=lambda: NOW).survey()
        for table in ("exchanges", "observer_cursors", "embeddings", "patterns", "outbox"):
            assert database.read(f"SELECT COUNT(*) FROM {table}")[0][0] == 0
    kinds = [row.pattern.kind for row in survey.rows[:2]]
    assert sorted(kinds) == [Kind.CLASSIFIER, Kind.EXTRACTOR]
    assert all(row.pattern.forecast.saved_per_month > 0 for row in survey.rows[:2])
    assert survey.exchanges > 400


def test_the_two_patterns_are_found_and_nothing_else(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    with Database(settings.database_path) as database:
        candidates = open_pipeline(settings, database).candidates()
    assert sorted(one.pattern.kind for one in candidates) == [Kind.CLASSIFIER, Kind.EXTRACTOR]
    assert {one.state for one in candidates} == {CandidateState.APPROVED}
    assert all(one.pattern.forecast.saved_per_month > 0 for one in candidates)


def test_both_specialists_pass_the_gate_and_are_right_on_requests_never_seen(
    trained_home: Path, copy_of: Callable[[Path], Settings], past: Corpus, embedder: Embedder
) -> None:
    settings = copy_of(trained_home)
    fresh = make_corpus(
        random.Random(99),
        Sizes(order=60, ticket=63, chat=1, multi_turn=1, tool=1),
        apart_from=(past,),
    )
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        views = pipeline.specialists()
        assert {one.specialist.step for one in views} == {Step.REGISTERED}
        for view in views:
            assert view.rollout is not None
            assert view.rollout.stage is Stage.SHADOW
            version = pipeline.shop.registry.open_version(view.specialist.slug, 1)
            runtime = load_runtime(version, embedder, Redactor)
            shape = version.manifest.shape
            items = fresh.of("ticket" if shape.kind is ShapeKind.LABEL else "order")
            answers = runtime.answer_many([item.request for item in items])
            runtime.close()
            given = [
                (answer.text, item.answer)
                for answer, item in zip(answers, items, strict=True)
                if isinstance(answer, Answer)
            ]
            right = sum(agrees(shape, text, truth) for text, truth in given)
            assert len(given) >= 0.6 * len(items)
            assert right >= 0.93 * len(given)


def test_a_second_tick_changes_nothing(
    trained_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        before = pipeline.specialists()
        report = pipeline.tick()
        assert (report.moves, report.failures, report.matcher_refitted) == ((), (), False)
        assert pipeline.specialists() == before


def test_every_decision_and_verdict_was_told_once(
    trained_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database, database.transaction() as connection:
        messages = waiting_messages(connection)
    by_event = [message.key.partition(":")[0] for message in messages]
    assert sorted(by_event) == sorted(["graduation", "accepted", "registered"] * 2)


def test_no_personal_data_of_the_mails_reaches_the_dataset(
    trained_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(trained_home)
    texts = [path.read_text() for path in settings.runs_dir.rglob("examples.jsonl")]
    assert len(texts) == 2
    for text in texts:
        assert "@" not in text.replace("<EMAIL", "")
