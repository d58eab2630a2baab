"""What somebody in a chat is shown: everything that waits for them, and the specialists."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.plugin.office import answer_command
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import save_specialist

Make = Callable[..., Candidate]


@pytest.fixture
def placed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    settings.home.mkdir(parents=True)
    return settings


def candidate(settings: Settings, made: Candidate, state: CandidateState) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        store = PatternStore(connection)
        store.save(
            StoredPattern(
                pattern=made.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
            ),
            1.0,
        )
        store.add_candidate(made)
        store.set_candidate_state(made.candidate_id, state)


def question(settings: Settings, handle: str, subject: str) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        desk.ask(connection, handle, subject, "?", settings.approvals, time.time())


def specialist(settings: Settings, slug: str, pattern: str) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_specialist(
            connection,
            Specialist(
                slug=slug,
                pattern_id=pattern,
                candidate_id="gc-0000",
                kind=Kind.CLASSIFIER,
                step=Step.REGISTERED,
                reason="",
                run_id="run-1",
                version=1,
                updated_at=1.0,
            ),
        )


def test_a_question_about_a_specialist_is_shown_as_well(placed: Settings) -> None:
    question(placed, "rt-5c1e0a", "ticket-label")
    for words in ("", "candidates", "specialists"):
        shown = answer_command(words, "telegram:4711").text
        assert "rt-5c1e0a train 'ticket-label' again" in shown


def test_what_was_decided_long_ago_does_not_push_the_specialists_out(
    placed: Settings, make_candidate: Make
) -> None:
    for number in range(30):
        candidate(placed, make_candidate(f"gc-{number:04x}"), CandidateState.SKIPPED)
    specialist(placed, "ticket-label", make_candidate("gc-0000").pattern.pattern_id)
    assert answer_command("", "cli").text == (
        "No candidate waits for your decision.\nSpecialists:\nticket-label: registered"
    )
    assert "gc-0003 (skipped)" in answer_command("candidates", "cli").text
    candidate(placed, make_candidate("gc-aaaa"), CandidateState.OPEN)
    shown = answer_command("", "cli").text
    assert "gc-aaaa (open)" in shown
    assert "skipped" not in shown
