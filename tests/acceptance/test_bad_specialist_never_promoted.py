"""A specialist that learned nothing is never registered or served, whatever was decided."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_apprentice.domain.specialist import Step
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0


def shuffle_answers(database: Database, seed: int) -> None:
    """Give every exchange of a pattern the answer of another: nothing can be learned."""
    rng = random.Random(seed)
    patterns = [row[0] for row in database.read("SELECT pattern_id FROM patterns")]
    for pattern in patterns:
        rows = database.read(
            "SELECT exchange_id, answer FROM exchanges WHERE exchange_id IN "
            "(SELECT exchange_id FROM pattern_members WHERE pattern_id = ?)",
            (pattern,),
        )
        answers = [row["answer"] for row in rows]
        rng.shuffle(answers)
        with database.transaction() as connection:
            connection.executemany(
                "UPDATE exchanges SET answer = ? WHERE exchange_id = ?",
                [(answer, row["exchange_id"]) for answer, row in zip(answers, rows, strict=True)],
            )


def tick_until_idle(pipeline: Pipeline) -> None:
    while pipeline.tick().pending:
        pass


@pytest.mark.slow
def test_a_specialist_trained_on_noise_never_reaches_the_registry(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    with Database(settings.database_path) as database:
        shuffle_answers(database, 3)
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        tick_until_idle(pipeline)
        views = pipeline.specialists()
        assert {one.specialist.step for one in views} <= {Step.REJECTED, Step.WAITING, Step.FAILED}
        assert all(one.specialist.version is None and one.rollout is None for one in views)
        assert pipeline.shop.registry.slugs() == ()
        assert not any(settings.skills_dir.glob("*"))
        with database.transaction() as connection:
            told = [message.text for message in waiting_messages(connection)]
    assert sum("nothing changes" in text or "Nothing was changed" in text for text in told) == 2


def test_a_lost_artefact_fails_the_step_and_can_be_tried_again(
    approved_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(approved_home)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        pipeline.tick()
        for folder in settings.runs_dir.glob("*/dataset"):
            shutil.rmtree(folder)
        report = pipeline.tick()
        assert report.moves == ()
        assert {move.step for move in report.failures} == {Step.FAILED}
        slug = report.failures[0].slug
        pipeline.tick(retry=slug)
        steps = {one.specialist.slug: one.specialist.step for one in pipeline.specialists()}
    assert steps[slug] is Step.DATASET_BUILT


def test_a_damaged_version_stops_neither_the_tick_nor_the_other_specialist(
    trained_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(trained_home)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        damaged, sound = (one.specialist.slug for one in pipeline.specialists())
        manifest = settings.registry_dir / damaged / "1" / "manifest.json"
        manifest.write_bytes(manifest.read_bytes()[:-20])
        assert pipeline.tick().matcher_refitted
        pipeline.tick()
        assert set(pipeline.shop.registry.open_matcher().details["specialists"]) == {sound}
        with database.transaction() as connection:
            told = [one.text for one in waiting_messages(connection) if damaged in one.text]
    assert sum("is not served" in text for text in told) == 1
