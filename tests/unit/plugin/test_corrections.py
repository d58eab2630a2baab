"""A correction is noticed when it is said, whoever answered, and never in the way."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.plugin.corrections import SESSIONS, Memory, Turn
from hermes_apprentice.storage.corrections import CorrectionKind, digest_of, read_corrections
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
SESSION = "20260901_080000_aaaaaa"
ASKED = "label this ticket: the invoice shows the wrong street"
OTHER = "translate good morning into French please"
Message = dict[str, Any]


class Talk:
    """A session as Hermes' hooks tell it."""

    def __init__(self) -> None:
        self.now = NOW
        self.noted: list[tuple[str, CorrectionKind, float]] = []
        self.memory = Memory(lambda: self.now, self._keep)
        self.history: list[Message] = []

    def _keep(
        self, session: str, turn: Turn, kind: CorrectionKind, *, until: float, now: float
    ) -> None:
        assert turn.asked_at < until <= now
        self.noted.append((turn.request, kind, turn.asked_at - NOW))

    def begin(self, text: Any, platform: str = "cli") -> None:
        self.now += 10
        self.history = [*self.history, {"role": "user", "content": text}]
        self.memory.asked(
            session_id=SESSION,
            turn_id="t",
            user_message=text,
            conversation_history=self.history,
            is_first_turn=len(self.history) == 1,
            model="m",
            platform=platform,
            telemetry_schema_version=1,
        )

    def say(self, text: str, answer: str = "Done.", platform: str = "cli") -> None:
        self.begin(text, platform)
        self.now += 2
        self.history = [*self.history, {"role": "assistant", "content": answer}]
        self.memory.answered(
            session_id=SESSION,
            turn_id="t",
            user_message=text,
            assistant_response=answer,
            conversation_history=self.history,
            model="m",
            platform=platform,
        )

    def undo(self, turns: int = 1) -> None:
        self.history = self.history[: -2 * turns]


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_a_rejected_answer_is_noticed(talk: Talk) -> None:
    talk.say(OTHER)
    talk.say(ASKED, "bug")
    talk.say("That's wrong.", "billing")
    assert talk.noted == [(ASKED, CorrectionKind.REJECTED, 22)]


def test_the_same_question_within_three_turns_is_noticed(talk: Talk) -> None:
    talk.say(ASKED, "bug")
    talk.say("thanks")
    talk.say(f"please {ASKED}", "billing")
    assert talk.noted == [(ASKED, CorrectionKind.ASKED_AGAIN, 10)]


def test_a_turn_that_hermes_words_anew_was_not_taken_back(talk: Talk) -> None:
    talk.say(ASKED, "bug")
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    noted = f"[System note: it is morning]\n{ASKED}\n\nremembered: the user likes tea"
    for content in (noted, [{"type": "text", "text": ASKED}, picture]):
        talk.history = [{"role": "user", "content": content}, talk.history[1]]
        talk.begin(OTHER)
    assert talk.noted == []


def test_a_turn_that_was_undone_is_noticed_with_the_next_message(talk: Talk) -> None:
    talk.say(OTHER)
    talk.say(ASKED, "bug")
    talk.undo()
    talk.say("What is a lighthouse?")
    assert talk.noted == [(ASKED, CorrectionKind.TAKEN_BACK, 22)]
    talk.say("And a buoy?")
    assert len(talk.noted) == 1  # told once


def test_a_retry_takes_the_first_answer_back(talk: Talk) -> None:
    talk.say(ASKED, "bug")
    talk.undo()
    talk.say(ASKED, "billing")
    assert talk.noted == [(ASKED, CorrectionKind.TAKEN_BACK, 10)]


def test_a_session_that_another_process_began_is_known_by_its_history(talk: Talk) -> None:
    talk.history = [
        {"role": "system", "content": "You are Hermes."},
        {"role": "user", "content": ASKED, "timestamp": NOW - 500},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "x"},
        {"role": "assistant", "content": "bug"},
    ]
    talk.begin("No, that is wrong.")
    assert talk.noted == [(ASKED, CorrectionKind.REJECTED, -500)]


def test_a_history_without_times_says_nothing(talk: Talk) -> None:
    talk.history = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "bug"},
    ]
    talk.begin("No, that is wrong.")
    assert talk.noted == []


def test_a_compacted_conversation_was_not_taken_back(talk: Talk) -> None:
    talk.say(ASKED, "bug")
    talk.history = [{"role": "assistant", "content": "[CONTEXT COMPACTION — REFERENCE ONLY] …"}]
    talk.say(OTHER)
    assert talk.noted == []


@pytest.mark.parametrize(
    "text",
    ["Thanks!", "label this ticket: the app crashes when it starts", "No problem, go on.", OTHER],
)
def test_a_conversation_that_goes_on_is_no_correction(talk: Talk, text: str) -> None:
    talk.say(ASKED, "bug")
    talk.say(text)
    assert talk.noted == []


@pytest.mark.parametrize("platform", ["cron", "subagent", "curator"])
def test_what_no_person_typed_is_not_listened_to(talk: Talk, platform: str) -> None:
    talk.say(ASKED, "bug")
    talk.say("That's wrong.", platform=platform)
    talk.say("Review the conversation above and say whether that is wrong.")
    assert talk.noted == []


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"session_id": 7, "user_message": "x", "conversation_history": []},
        {"session_id": "s", "user_message": [{"type": "image"}], "conversation_history": []},
        {"session_id": "s", "user_message": "That's wrong.", "conversation_history": None},
        {"session_id": "s", "user_message": "That's wrong.", "conversation_history": [None, 3]},
    ],
)
def test_a_hermes_that_tells_something_else_is_listened_to_without_harm(
    talk: Talk, told: dict[str, Any]
) -> None:
    talk.memory.asked(**told)
    talk.memory.answered(**told)
    assert talk.noted == []


def test_what_fails_is_told_once_and_breaks_no_turn(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*rest: Any, **more: Any) -> None:
        raise RuntimeError("disk on fire")

    talk = Talk()
    talk.memory = Memory(lambda: talk.now, broken)
    with caplog.at_level(logging.WARNING):
        talk.say(ASKED, "bug")
        talk.say("That's wrong.", "bug")
        talk.say("That's wrong.", "bug")
    assert len(caplog.records) == 1


def test_a_process_of_many_sessions_remembers_the_latest() -> None:
    memory = Memory(lambda: NOW)
    for number in range(3 * SESSIONS):
        told = {
            "session_id": f"s{number}",
            "user_message": ASKED,
            "conversation_history": [{"role": "user", "content": ASKED}],
        }
        memory.asked(**told)
        if number % 2:
            memory.answered(**told)
    assert len(memory._turns) <= SESSIONS and len(memory._begun) <= SESSIONS


def test_a_correction_is_written_with_the_specialist_that_had_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(tmp_path))
    with Database(tmp_path / "apprentice.db") as database:
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO ledger (at, request_id, session, call_kind, route, slug, version, "
                "model, status) VALUES (?, 'r', ?, 'first', 'specialist', 'ticket', 2, 'm', 200)",
                (NOW + 10.4, SESSION),
            )
        talk = Talk()
        talk.memory = Memory(lambda: talk.now)
        talk.say(ASKED, "bug")
        talk.say("That's wrong.", "billing")
        for thread in threading.enumerate():
            if thread.name == "apprentice-correction":
                thread.join(30)
        (found,) = read_corrections(database)
    assert (found.session_id, found.slug, found.version) == (SESSION, "ticket", 2)
    assert (found.kind, found.asked_at) == (CorrectionKind.REJECTED, NOW + 10)
    assert found.request_digest == digest_of(ASKED)
