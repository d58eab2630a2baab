"""The observer on the real Hermes' own session database."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hermes_state import SessionDB
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.errors import SessionDBError
from hermes_apprentice.observer.harvest import HarvestReport, harvest
from hermes_apprentice.observer.profiles import discover_profiles
from hermes_apprentice.observer.session_db import SessionReader
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.forgotten import forget_sessions

LATER = 4e9
"""A time at which every file is old enough to be trusted."""

SUMMARY = "[CONTEXT COMPACTION — REFERENCE ONLY] Earlier turns were compacted. ## Active Task none"


class Home:
    """A Hermes home, and Apprentice's database beside it."""

    def __init__(self, folder: Path) -> None:
        self.state_db = folder / "state.db"
        self.hermes = SessionDB(self.state_db)
        self.database = Database(folder / "apprentice.db")
        self.store = ExchangeStore(self.database)

    def close(self) -> None:
        self.hermes.close()
        self.database.close()

    def session(self, name: str, source: str = "cli", **more: Any) -> str:
        self.hermes.create_session(name, source, model="big-model", **more)
        return name

    def user(self, session: str, text: Any, **more: Any) -> int:
        return int(self.hermes.append_message(session, "user", text, **more))

    def answer(self, session: str, text: str, finish: str | None = "stop", **more: Any) -> int:
        return int(
            self.hermes.append_message(session, "assistant", text, finish_reason=finish, **more)
        )

    def turn(self, session: str, request: str, answer: str = "done") -> int:
        row = self.user(session, request)
        self.answer(session, answer)
        return row

    def live(self, session: str) -> list[dict[str, Any]]:
        """What the gateway loads, with times."""
        return list(self.hermes.get_messages_as_conversation(session, repair_alternation=True))

    def poll(self, now: float = LATER) -> HarvestReport:
        return harvest(self.state_db, "default", self.database, now)

    def forget(self, *sessions: str) -> None:
        with self.database.transaction() as connection:
            forget_sessions(connection, sessions, LATER)

    def exchanges(self) -> list[Exchange]:
        return list(self.store.iterate(eligible_only=False))

    def said(self) -> list[tuple[str, str, str | None]]:
        return [(e.request, e.answer, e.ineligible) for e in self.exchanges()]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


def rows(database: Database) -> list[tuple[Any, ...]]:
    columns = (
        "exchange_id, session_id, turn_index, request, answer, asked_at, answered_at, "
        "context_chars, input_tokens, output_tokens, corrected, ineligible, user_row, answer_row"
    )
    found = database.read(f"SELECT {columns} FROM exchanges ORDER BY exchange_id")
    return [tuple(row) for row in found]


def clean_harvest(home: Home, folder: Path) -> list[tuple[Any, ...]]:
    with Database(folder / "clean.db") as database:
        harvest(home.state_db, "default", database, LATER)
        return rows(database)


# --- plain turns --------------------------------------------------------------------------


def test_a_turn_becomes_an_exchange_with_everything_that_was_recorded(home: Home) -> None:
    home.session("s1", source="telegram")
    home.user("s1", "first question", timestamp=1_000.0)
    home.answer("s1", "first answer", timestamp=1_002.5)
    home.user("s1", "second question", timestamp=1_010.0)
    home.answer("s1", "second answer", timestamp=1_011.0)
    home.hermes.update_token_counts(
        "s1", input_tokens=300, cache_read_tokens=2_700, output_tokens=40, api_call_count=2
    )
    report = home.poll()
    assert (report.new, report.incomplete, report.last_row) == (2, 0, 4)
    first, second = home.exchanges()
    assert second == Exchange(
        exchange_id=second.exchange_id,
        profile="default",
        session_id="s1",
        source="telegram",
        turn_index=1,
        request="second question",
        answer="second answer",
        model="big-model",
        asked_at=1_010.0,
        answered_at=1_011.0,
        context_chars=len("first questionfirst answer"),
        input_tokens=1_500,
        output_tokens=4,
        corrected=False,
        ineligible=None,
    )
    assert first.turn_index == 0


def test_the_second_harvest_finds_nothing_new(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "ask")
    home.poll()
    before = rows(home.database)
    report = home.poll()
    assert (report.new, report.updated, report.withdrawn, report.deleted) == (0, 0, 0, 0)
    assert rows(home.database) == before


def test_a_tool_turn_is_kept_and_not_eligible(home: Home) -> None:
    home.session("s1")
    home.user("s1", "list the files")
    call = {"id": "call_1", "type": "function", "function": {"name": "terminal", "arguments": "{}"}}
    home.answer("s1", "Let me look.", "tool_calls", tool_calls=[call])
    home.hermes.append_message(
        "s1", "tool", '{"output": "a b"}', tool_call_id="call_1", tool_name="terminal"
    )
    home.answer("s1", "There are two.")
    home.turn("s1", "thanks, and what is two plus two", "four")
    home.poll()
    assert home.said() == [
        ("list the files", "There are two.", "tools"),
        ("thanks, and what is two plus two", "four", None),
    ]


def test_what_no_person_typed_is_never_eligible(home: Home) -> None:
    for source in ("cron", "subagent", "curator", "tool"):
        home.turn(home.session(f"s-{source}", source=source), f"a task of {source}")
    chat = home.session("s-chat", source="telegram")
    home.hermes.append_message(chat, "session_meta", None)
    home.user(chat, "[Cron delivery: news]\nThree things happened.")
    home.user(chat, "gossip among others", observed=True)
    home.turn(chat, "what happened in May")
    home.turn(chat, "Review the conversation above and update the skill library")
    home.turn(chat, "[IMPORTANT: You are running as a scheduled cron job] do it")
    home.poll()
    assert [said[0] for said in home.said() if said[2] is None] == ["what happened in May"]
    assert {said[2] for said in home.said()} == {None, "not_a_user_turn"}


def test_an_image_or_another_part_makes_a_request_an_attachment(home: Home) -> None:
    home.session("s1")
    parts = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    home.turn("s1", parts)  # type: ignore[arg-type]
    home.turn("s1", "and this\n[screenshot]")
    home.poll()
    assert home.said() == [
        ("what is this", "done", "attachment"),
        ("and this\n[screenshot]", "done", "attachment"),
    ]


def test_a_cut_off_answer_is_not_training_data(home: Home) -> None:
    home.session("s1")
    home.user("s1", "write a lot")
    home.answer("s1", "once upon", "length")
    assert home.poll().incomplete == 1
    home.user("s1", "[System: The previous response was cut off by a network error]")
    home.answer("s1", "a time")
    home.user("s1", "write something forbidden")
    home.answer("s1", "I cannot help", "content_filter")
    home.turn("s1", "bye")
    home.poll()
    assert home.said() == [
        ("write a lot", "a time", "several_calls"),
        ("write something forbidden", "I cannot help", "unanswered"),
        ("bye", "done", None),
    ]


def test_a_turn_that_is_still_running_is_picked_up_later(home: Home) -> None:
    home.session("s1")
    home.user("s1", "how many")
    report = home.poll()
    assert (report.new, report.incomplete) == (0, 1)
    home.answer("s1", "seven")
    report = home.poll()
    assert (report.new, report.incomplete) == (1, 0)
    assert home.said() == [("how many", "seven", None)]


def test_messages_sent_before_the_answer_are_one_request(home: Home) -> None:
    home.session("s1")
    home.user("s1", "order five boxes")
    home.poll()
    home.user("s1", "by Friday")
    home.poll()
    home.answer("s1", "ordered")
    home.poll()
    assert home.said() == [("order five boxes\n\nby Friday", "ordered", None)]


def test_a_delivery_noted_in_the_chat_is_not_the_answer(home: Home) -> None:
    home.session("s1", source="telegram")
    home.user("s1", "what is the capital")
    home.answer("s1", "a message sent from elsewhere", finish=None)
    home.answer("s1", "the capital is Oz")
    home.answer("s1", "another message sent from elsewhere", finish=None)
    home.poll()
    assert home.said() == [("what is the capital", "the capital is Oz", None)]


def test_a_correction_marks_the_answer_before(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "translate house to Lettish", "maja?!")
    home.turn("s1", "translate tree to Lettish", "koks")
    home.poll()
    home.turn("s1", "no, that's wrong")
    report = home.poll()
    assert report.updated == 1
    assert [e.corrected for e in home.exchanges()] == [False, True, False]


# --- rewrites -----------------------------------------------------------------------------


def test_undo_withdraws_and_restoring_brings_back(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "keep this")
    row = home.turn("s1", "forget this")
    home.poll()
    home.hermes.rewind_to_message("s1", row)
    report = home.poll()
    assert report.withdrawn == 1
    assert home.said() == [("keep this", "done", None), ("forget this", "done", "withdrawn")]
    home.turn("s1", "instead this")
    home.poll()
    assert [(e.request, e.turn_index) for e in home.exchanges()] == [
        ("keep this", 0),
        ("forget this", 1),
        ("instead this", 1),
    ]
    home.hermes.restore_rewound("s1", row)
    home.poll()
    assert {e.ineligible for e in home.exchanges()} == {None}


def test_undo_long_ago_is_found_within_the_promised_calls(home: Home) -> None:
    first = 0
    for index in range(40):
        name = home.session(f"s{index:03}")
        home.hermes.replace_messages(
            name,
            [
                {"role": role, "content": f"{name} {turn}", "finish_reason": finish, "timestamp": t}
                for turn in range(40)
                for role, finish, t in (
                    ("user", None, index * 1e4 + turn * 10),
                    ("assistant", "stop", index * 1e4 + turn * 10 + 5),
                )
            ],
        )
    (first,) = home.hermes._conn.execute("SELECT MIN(id) FROM messages").fetchone()
    assert home.poll().new == 1_600
    home.hermes.rewind_to_message("s000", first)
    withdrawn, calls, settled = 0, 0, False
    while not settled and calls < 10:
        report = home.poll()
        withdrawn, calls, settled = withdrawn + report.withdrawn, calls + 1, report.settled
    assert settled
    assert calls <= 1_600 // 500 + 2
    assert withdrawn == 40


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("polled_before", [True, False])
def test_compaction_in_place_neither_doubles_nor_loses(
    home: Home, with_times: bool, polled_before: bool, tmp_path: Path
) -> None:
    home.session("s1")
    for index in range(8):
        home.turn("s1", f"request {index}", "ok")
    if polled_before:
        home.poll()
    messages = home.live("s1")
    if not with_times:  # as the CLI holds them in memory
        messages = [{k: v for k, v in m.items() if k != "timestamp"} for m in messages]
    summary = {"role": "assistant", "content": SUMMARY}
    home.hermes.archive_and_compact("s1", [*messages[:2], summary, *messages[-4:]])
    home.poll()
    home.turn("s1", "request 8", "ok")
    home.turn("s1", "request 0", "ok")  # typed again, word for word
    home.poll()
    assert [e.request for e in home.exchanges()] == [f"request {i}" for i in [*range(9), 0]]
    assert {e.ineligible for e in home.exchanges()} == {None}
    assert [e.turn_index for e in home.exchanges()] == list(range(10))
    full = 7 * (len("request 0") + len("ok"))
    assert home.exchanges()[7].context_chars == full
    assert home.exchanges()[8].context_chars < full + len(SUMMARY)
    if not polled_before:
        assert rows(home.database) == clean_harvest(home, tmp_path)


def test_compaction_during_a_turn_keeps_the_request_and_its_answer(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "one", "1")
    home.turn("s1", "two", "2")
    home.user("s1", "three")
    home.poll()
    one, a1, _, _, three = home.live("s1")
    merged = {
        **three,
        "content": f"[PRIOR CONTEXT — for reference only; not a new message]\nthree\n\n{SUMMARY}",
    }
    home.hermes.archive_and_compact("s1", [one, a1, merged])
    home.poll()
    home.answer("s1", "3")
    home.poll()
    assert home.said() == [("one", "1", None), ("two", "2", None), ("three", "3", None)]


def test_undo_after_a_compaction_withdraws_the_copied_turn(home: Home) -> None:
    home.session("s1")
    for index in range(4):
        home.turn("s1", f"request {index}")
    home.poll()
    messages = home.live("s1")
    home.hermes.archive_and_compact("s1", [{"role": "user", "content": SUMMARY}, *messages[-2:]])
    home.poll()
    newest = home.hermes.list_recent_user_messages("s1", limit=1)[0]["id"]
    home.hermes.rewind_to_message("s1", newest)
    home.poll()
    assert [e.ineligible for e in home.exchanges()] == [None, None, None, Ineligible.WITHDRAWN]


def test_retry_withdraws_the_turn_and_keeps_the_rest(home: Home) -> None:
    home.session("s1", source="telegram")
    home.turn("s1", "one", "1")
    home.turn("s1", "two", "2")
    home.turn("s1", "three", "III")
    home.poll()
    ids = [e.exchange_id for e in home.exchanges()]
    home.hermes.replace_messages("s1", home.live("s1")[:-2])
    home.turn("s1", "three", "3")
    report = home.poll()
    assert (report.new, report.withdrawn, report.deleted) == (1, 1, 0)
    assert home.said() == [
        ("one", "1", None),
        ("two", "2", None),
        ("three", "III", "withdrawn"),
        ("three", "3", None),
    ]
    assert [e.exchange_id for e in home.exchanges()][:3] == ids


def test_retry_after_a_compaction_keeps_what_only_the_archive_had(home: Home) -> None:
    home.session("s1")
    for index in range(6):
        home.turn("s1", f"request {index}", f"answer {index}")
    home.poll()
    messages = home.live("s1")
    summary = {"role": "user", "content": SUMMARY}
    home.hermes.archive_and_compact("s1", [summary, *messages[-4:]])
    home.poll()
    home.hermes.replace_messages("s1", home.live("s1")[:-2])
    home.turn("s1", "request 5", "a better answer")
    home.poll()
    said = home.said()
    assert [s for s in said if s[2] is None][:5] == [
        (f"request {i}", f"answer {i}", None) for i in range(5)
    ]
    assert said[-1] == ("request 5", "a better answer", None)
    retried = next(e for e in home.exchanges() if e.answer == "answer 5")
    assert retried.corrected or retried.ineligible is Ineligible.WITHDRAWN
    assert home.poll().updated == 0


def test_rows_rewritten_without_their_times_keep_their_exchanges(home: Home) -> None:
    home.session("s1")
    for index in range(3):
        home.turn("s1", f"request {index}")
    home.poll()
    before = [(e.exchange_id, e.asked_at) for e in home.exchanges()]
    bare = [{"role": m["role"], "content": m["content"]} for m in home.live("s1")]
    home.hermes.replace_messages("s1", bare)
    home.turn("s1", "request 3")
    home.poll()
    after = [(e.exchange_id, e.asked_at) for e in home.exchanges()]
    assert after[:3] == before
    assert len(after) == 4


def test_requests_joined_by_a_rewrite_are_one_exchange(home: Home) -> None:
    home.session("s1")
    home.user("s1", "stopped")
    home.user("s1", "asked instead")
    home.answer("s1", "answer")
    home.poll()
    before = [e.exchange_id for e in home.exchanges()]
    home.hermes.replace_messages("s1", home.live("s1"))
    home.turn("s1", "next")
    home.poll()
    assert [e.exchange_id for e in home.exchanges()][:1] == before
    assert [s[0] for s in home.said()] == ["stopped\n\nasked instead", "next"]


# --- sessions that come from others, and deletion -----------------------------------------


@pytest.mark.parametrize("polled_before", [True, False])
def test_a_branch_does_not_double_its_parent(home: Home, polled_before: bool) -> None:
    home.session("s1")
    home.turn("s1", "one", "1")
    home.turn("s1", "two", "2")
    if polled_before:
        home.poll()
    history = home.live("s1")
    home.session("s2", parent_session_id="s1", model_config={"_branched_from": "s1"})
    for message in history:
        home.hermes.append_message("s2", message["role"], message["content"])
    home.poll()
    home.turn("s2", "three", "3")
    home.turn("s2", "one", "1")
    home.poll()
    assert [(e.session_id, e.request, e.turn_index) for e in home.exchanges()] == [
        ("s1", "one", 0),
        ("s1", "two", 1),
        ("s2", "three", 2),
        ("s2", "one", 3),
    ]


def test_a_branch_whose_parent_is_deleted_owns_what_it_copied(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "one", "1")
    home.session("s2", parent_session_id="s1", model_config={"_branched_from": "s1"})
    for message in home.live("s1"):
        home.hermes.append_message("s2", message["role"], message["content"])
    home.turn("s2", "two", "2")
    home.poll()
    home.hermes.delete_session("s1")
    report = home.poll()
    assert report.deleted == 1
    assert [(e.session_id, e.request) for e in home.exchanges()] == [("s2", "one"), ("s2", "two")]


@pytest.mark.parametrize("with_times", [True, False])
def test_a_session_continued_after_a_compaction_is_not_doubled(
    home: Home, with_times: bool
) -> None:
    home.session("s1")
    for index in range(5):
        home.turn("s1", f"request {index}", "ok")
    home.poll()
    messages = home.live("s1")
    if not with_times:
        messages = [{k: v for k, v in m.items() if k != "timestamp"} for m in messages]
    home.hermes.end_session("s1", "compression")
    home.session("s2", parent_session_id="s1")
    summary = {"role": "assistant", "content": SUMMARY}
    home.hermes.replace_messages("s2", [*messages[:2], summary, *messages[-2:]])
    home.turn("s2", "request 5", "ok")
    home.poll()
    assert [e.request for e in home.exchanges()] == [f"request {i}" for i in range(6)]


def test_a_deleted_session_is_forgotten_with_its_embeddings(home: Home) -> None:
    for name in ("s1", "s2"):
        home.session(name)
        home.turn(name, f"asked in {name}")
    home.poll()
    ids = [e.exchange_id for e in home.exchanges()]
    home.store.save_embeddings("digest", ids, np.ones((2, 3), dtype=np.float32))
    home.hermes.delete_session("s1")
    assert home.poll().deleted == 1
    assert [e.session_id for e in home.exchanges()] == ["s2"]
    assert home.store.embeddings("digest").exchange_ids == (ids[1],)


def test_a_session_forgotten_on_request_is_never_read_again(home: Home) -> None:
    for name in ("s1", "s2"):
        home.session(name)
        home.turn(name, f"asked in {name}")
    home.poll()
    home.forget("s1")
    home.turn("s1", "asked later")
    home.turn("s2", "asked in s2 later")
    assert home.poll().new == 1
    with home.database.transaction() as connection:
        connection.execute("DELETE FROM observer_cursors")  # every row is read anew
    assert home.poll().new == 0
    assert {e.session_id for e in home.exchanges()} == {"s2"}


def test_a_session_can_be_excluded_before_it_was_ever_read(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "asked")
    home.forget("s1")
    assert home.poll().new == 0
    assert home.exchanges() == []


@pytest.mark.parametrize("deleted", [True, False])
def test_a_branch_brings_nothing_back_of_a_forgotten_parent(home: Home, deleted: bool) -> None:
    home.session("s1")
    home.turn("s1", "one", "1")
    home.turn("s1", "two", "2")
    home.poll()
    home.forget("s1")
    home.session("s2", parent_session_id="s1", model_config={"_branched_from": "s1"})
    for message in home.live("s1"):
        home.hermes.append_message("s2", message["role"], message["content"])
    if deleted:
        home.hermes.delete_session("s1")
    home.turn("s2", "three", "3")
    home.turn("s2", "one", "1")  # asked again, so it is the branch's own
    home.poll()
    assert [e.request for e in home.exchanges()] == ["three", "one"]


def test_pruned_sessions_are_forgotten_however_old_they_are(home: Home) -> None:
    for index in range(700):
        name = home.session(f"s{index:03}")
        message = {"role": "user", "content": name, "timestamp": index}
        reply = {"role": "assistant", "content": "ok", "finish_reason": "stop", "timestamp": index}
        home.hermes.replace_messages(name, [message, reply])
        if index < 3:
            home.hermes.end_session(name, "done")
    home.hermes._conn.execute("UPDATE sessions SET started_at = 0 WHERE id < 's003'")
    assert home.poll().new == 700
    assert home.hermes.prune_sessions(older_than_days=90) == 3
    assert home.poll().deleted == 3


def test_messages_cleared_from_a_session_are_withdrawn(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "one")
    home.poll()
    home.hermes.clear_messages("s1")
    assert home.poll().withdrawn == 1
    assert home.poll().withdrawn == 0


def test_imported_sessions_are_read_whatever_their_times(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "today")
    home.poll()
    result = home.hermes.import_sessions(
        [
            {
                "id": "old",
                "source": "cli",
                "started_at": 5.0,
                "messages": [
                    {"role": "user", "content": "long ago", "timestamp": 5.0},
                    {"role": "assistant", "content": "yes", "timestamp": 6.0},
                ],
            }
        ]
    )
    assert result["ok"]
    assert home.poll().new == 1
    assert home.exchanges()[0].request == "long ago"


@pytest.mark.parametrize(
    "stored", ["'yesterday'", "x'ff00'", "9e18", "-5", "9e999", "'2026-09-01T08:00:00+00:00'"]
)
def test_a_time_that_is_none_keeps_no_other_row_from_being_read(home: Home, stored: str) -> None:
    home.session("s1")
    row = home.turn("s1", "broken")
    home.session("s2")
    home.turn("s2", "whole")
    with sqlite3.connect(home.state_db) as connection:
        connection.execute(f"UPDATE messages SET timestamp = {stored} WHERE id = ?", (row,))
        connection.execute(f"UPDATE sessions SET started_at = {stored} WHERE id = 's1'")
    connection.close()
    assert home.poll().new == 2
    assert home.poll().new == 0
    times = {exchange.request: exchange.asked_at for exchange in home.exchanges()}
    assert times["broken"] == (1_788_249_600.0 if "2026" in stored else 0.0)


@pytest.mark.parametrize("stored", ["x'ff00fe41'", "CAST(x'ff00fe41' AS TEXT)"])
def test_text_that_is_not_utf_8_is_read_with_marks_in_place_of_it(home: Home, stored: str) -> None:
    home.session("s1")
    row = home.turn("s1", "broken")
    home.turn("s1", "whole")
    with sqlite3.connect(home.state_db) as connection:
        connection.execute(f"UPDATE messages SET content = {stored} WHERE id = ?", (row,))
    connection.close()
    assert home.poll().new == 2
    assert {exchange.request for exchange in home.exchanges()} >= {"whole"}


def test_a_replaced_database_is_read_from_the_start(home: Home, tmp_path: Path) -> None:
    home.session("s1")
    home.turn("s1", "in the old file")
    home.turn("s1", "also there")
    home.poll()
    home.hermes.close()
    for path in tmp_path.glob("state.db*"):
        path.rename(tmp_path / f"old-{path.name}")
    home.hermes = SessionDB(home.state_db)
    home.session("s2")
    for index in range(4):
        home.turn("s2", f"in the new file {index}")
    report = home.poll()
    assert (report.new, report.deleted) == (4, 2)
    assert {e.session_id for e in home.exchanges()} == {"s2"}


# --- robustness ---------------------------------------------------------------------------


def test_nothing_is_lost_while_hermes_writes(home: Home, tmp_path: Path) -> None:
    done = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        own = SessionDB(home.state_db)
        try:
            for index in range(150):
                name = f"s{index % 7}"
                if index < 7:
                    own.create_session(name, "cli", model="m")
                own.append_message(name, "user", f"request {index}")
                own.append_message(name, "assistant", f"a{index}", finish_reason="stop")
                if index % 31 == 30:
                    live = own.get_messages_as_conversation(name)
                    summary = {"role": "user", "content": SUMMARY}
                    own.archive_and_compact(name, [summary, *live[-4:]])
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    polls = 0
    while not done.is_set() or polls == 0:
        home.poll(time.time())
        polls += 1
    writer.join(30)
    home.poll(time.time())
    assert not errors
    assert polls > 3
    assert sorted(e.request for e in home.exchanges()) == sorted(
        f"request {index}" for index in range(150)
    )
    strip = [row[:8] + row[10:] for row in rows(home.database)]
    assert strip == [row[:8] + row[10:] for row in clean_harvest(home, tmp_path)]


_CHILD = """
import sys
from pathlib import Path
from hermes_apprentice.observer import harvest as module
from hermes_apprentice.storage.database import Database

def progress(*rows):
    print("+", flush=True)
    sys.stdin.readline()

module.BATCH_ROWS = 15
with Database(Path(sys.argv[2])) as database:
    module.harvest(Path(sys.argv[1]), "default", database, 4e9, progress)
print("done", flush=True)
"""


def test_a_killed_harvest_loses_and_doubles_nothing(home: Home, tmp_path: Path) -> None:
    for index in range(60):
        name = home.session(f"s{index:02}")
        for turn in range(index % 9 + 1):
            home.user(name, f"{name} asks {turn}")
            if turn % 4 == 3:
                home.user(name, f"{name} asks more")
            if turn % 5 != 4:
                home.answer(name, f"answer {turn}")
        if index % 10 == 5:
            live = home.live(name)
            home.hermes.archive_and_compact(
                name, [{"role": "user", "content": SUMMARY}, *live[-2:]]
            )
            home.turn(name, "and on it goes")
    database = tmp_path / "killed.db"
    random_points = random.Random(5)
    kills = 0
    finished = False
    while not finished:
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(home.state_db), str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            survives = random_points.randrange(1, 5)
            while not finished and survives:
                finished = child.stdout.readline() == "done\n"
                survives -= 1
                if not finished:
                    child.stdin.write("go on\n")
                    child.stdin.flush()
            if not finished:  # somewhere in the next batch
                for _ in range(random_points.randrange(30_000)):
                    pass
                child.kill()
                kills += 1
    assert kills >= 8
    with Database(database) as killed:
        assert rows(killed) == clean_harvest(home, tmp_path)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_turn_is_found_once_whatever_hermes_does(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    try:
        _random_life(home, data)
    finally:
        home.close()


_COPIED = (
    ("tool_calls", "tool_call_id", "finish_reason"),  # by the gateway
    ("tool_calls", "tool_call_id"),  # by the CLI
    (),  # by the TUI
)
_ACTIONS = ["turn", "turn", "turn", "tools", "poll", "undo", "compact", "retry", "branch", "delete"]


def _random_life(home: Home, data: st.DataObject) -> None:
    """Do random things through Hermes' own methods, and follow what must be found."""
    withdrawn: dict[str, bool] = {}
    owner: dict[str, str] = {}
    sessions = [home.session("s0")]
    for number, action in enumerate(
        data.draw(st.lists(st.sampled_from(_ACTIONS), min_size=8, max_size=40)), start=1
    ):
        name = data.draw(st.sampled_from(sessions))
        live = home.live(name)
        if action == "poll":
            home.poll()
        elif action in ("turn", "tools"):
            request = f"request number {number}"
            home.user(name, request)
            if action == "tools":
                call = {"id": f"call_{number}", "function": {"name": "look", "arguments": "{}"}}
                home.answer(
                    name,
                    data.draw(st.sampled_from(["", "Let me see."])),
                    "tool_calls",
                    tool_calls=[call],
                )
                home.hermes.append_message(name, "tool", "seen", tool_call_id=f"call_{number}")
            home.answer(name, data.draw(st.sampled_from(["yes", "no"])))
            withdrawn[request], owner[request] = False, name
        elif action == "undo" and (
            users := home.hermes.list_recent_user_messages(name, limit=data.draw(st.integers(1, 4)))
        ):
            target = users[-1]["id"]
            undone = home.hermes._conn.execute(
                "SELECT content FROM messages WHERE session_id = ? AND id >= ? AND active = 1",
                (name, target),
            ).fetchall()
            home.hermes.rewind_to_message(name, target)
            for (text,) in undone:
                if owner.get(text) == name:
                    withdrawn[text] = True
        elif action == "compact" and live:
            if data.draw(st.booleans()):
                live = [{k: v for k, v in m.items() if k != "timestamp"} for m in live]
            cut = len(live) - min(len(live), data.draw(st.integers(0, 5)))
            summary = {"role": "assistant", "content": SUMMARY}
            home.hermes.archive_and_compact(name, [*live[:cut][:1], summary, *live[cut:]])
        elif (
            action == "retry"
            and (asked := [i for i, m in enumerate(live) if m["role"] == "user"])
            and not home.hermes.has_archived_messages(name)
        ):
            cut = asked[-1]
            request = live[cut]["content"]
            home.hermes.replace_messages(name, live[:cut])
            if owner[request] == name:
                withdrawn[request] = True
        elif action == "branch":
            child = home.session(
                f"s{number}", parent_session_id=name, model_config={"_branched_from": name}
            )
            kept = data.draw(st.sampled_from(_COPIED))
            for message in live:
                more = {key: message.get(key) for key in kept}
                home.hermes.append_message(child, message["role"], message["content"], **more)
            sessions.append(child)
        elif (
            action == "delete"
            and len(sessions) > 1
            and not any(home.hermes.get_session(s)["parent_session_id"] == name for s in sessions)
        ):
            home.hermes.delete_session(name)
            sessions.remove(name)
            for request in [r for r, o in owner.items() if o == name]:
                del withdrawn[request], owner[request]
    while not home.poll().settled:
        pass
    before = rows(home.database)
    home.poll()
    assert rows(home.database) == before
    places: dict[str, list[tuple[str, bool]]] = {}
    for e in home.exchanges():
        state = (e.session_id, e.ineligible is Ineligible.WITHDRAWN)
        places.setdefault(e.request, []).append(state)
    for request, taken_back in withdrawn.items():
        found = places.pop(request, [])
        if taken_back:  # a branch may hold what its parent took back, and may be seen first
            assert [place for place in found if place[0] == owner[request]] in (
                [],
                [(owner[request], True)],
            )
        else:
            assert found == [(owner[request], False)], request
    assert places == {}


# --- bad input ----------------------------------------------------------------------------


def test_an_empty_database_of_hermes_gives_nothing(home: Home) -> None:
    assert home.poll().new == 0


def test_a_missing_database_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SessionDBError, match=r"does not exist.*HERMES_HOME"):
        SessionReader(tmp_path / "state.db")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionDBError, match="is a folder"):
        SessionReader(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(SessionDBError, match="not an SQLite database"):
        SessionReader(path)


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sessions (id TEXT, cookie TEXT)")
    connection.close()
    with pytest.raises(SessionDBError, match=r"not a Hermes session database.*sessions\.model"):
        SessionReader(path)


def test_a_locked_database_is_reported_and_changes_nothing(home: Home) -> None:
    home.session("s1")
    home.turn("s1", "one")
    home.poll()
    home.turn("s1", "two")
    home.hermes.close()
    blocker = sqlite3.connect(home.state_db, isolation_level=None)
    blocker.execute("PRAGMA journal_mode=DELETE")
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SessionDBError, match="locked by another program"):
        home.poll()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert [e.request for e in home.exchanges()] == ["one"]
    assert home.poll().new == 1


def test_an_unreadable_folder_is_reported(home: Home, tmp_path: Path) -> None:
    home.session("s1")
    home.hermes.close()
    tmp_path.chmod(0o000)
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        with pytest.raises(SessionDBError, match=r"cannot be read.*user who runs Hermes"):
            SessionReader(home.state_db)
        with pytest.raises(SessionDBError, match="cannot be listed"):
            discover_profiles(tmp_path)
    finally:
        if privileged:
            os.seteuid(0)
        tmp_path.chmod(0o700)


def test_an_old_schema_with_the_core_columns_only_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE sessions (id TEXT PRIMARY KEY, source TEXT, model TEXT, started_at REAL);
            CREATE TABLE messages (id INTEGER PRIMARY KEY, session_id TEXT, role TEXT,
                content TEXT, tool_calls TEXT, tool_call_id TEXT, tool_name TEXT, timestamp REAL);
            INSERT INTO sessions VALUES ('s1', 'cli', 'm', 1.0);
            INSERT INTO messages VALUES (1, 's1', 'user', 'ask', NULL, NULL, NULL, 1.0);
            INSERT INTO messages VALUES (2, 's1', 'assistant', 'reply', NULL, NULL, NULL, 2.0);
            INSERT INTO messages VALUES
                (3, 's1', 'user', CAST(x'ff41' AS TEXT), NULL, NULL, NULL, 3.0);
            INSERT INTO messages VALUES (4, 's1', 'assistant', 'x', '[]', NULL, NULL, 4.0);
            """
        )
    connection.close()
    with Database(tmp_path / "apprentice.db") as database:
        assert harvest(path, "default", database, LATER).new == 2
        found = list(ExchangeStore(database).iterate())
    assert [e.request for e in found] == ["ask", "\N{REPLACEMENT CHARACTER}A"]
    assert all(e.input_tokens > 0 and e.output_tokens > 0 for e in found)


# --- profiles -----------------------------------------------------------------------------


def test_every_profile_with_a_database_is_found(tmp_path: Path) -> None:
    assert discover_profiles(tmp_path) == [("default", tmp_path / "state.db")]
    for name in ("work", "default", "empty"):
        (tmp_path / "profiles" / name).mkdir(parents=True)
    for name in ("work", "default"):
        SessionDB(tmp_path / "profiles" / name / "state.db").close()
    profiles = tmp_path / "profiles"
    named = [
        ("profiles/default", profiles / "default" / "state.db"),
        ("work", profiles / "work" / "state.db"),
    ]
    assert discover_profiles(tmp_path) == named
    SessionDB(tmp_path / "state.db").close()
    assert discover_profiles(tmp_path) == [("default", tmp_path / "state.db"), *named]


def test_profiles_with_the_same_sessions_do_not_mix(home: Home, tmp_path: Path) -> None:
    home.session("s1")
    home.turn("s1", "one")
    home.poll()
    other = SessionDB(tmp_path / "other.db")
    other.create_session("s1", "cli")
    other.close()
    harvest(tmp_path / "other.db", "work", home.database, LATER)
    assert len(home.exchanges()) == 1
    assert home.store.counts("work").total == 0
    assert home.poll().deleted == 0


CAN_MOUNT = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
READ_ONLY = """
import sys
from pathlib import Path
from hermes_apprentice.observer.session_db import SessionReader
path = Path(sys.argv[1])
try:
    (path.parent / "x").touch()
except OSError:
    with SessionReader(path) as reader:
        print(reader.session_tally()[0], reader.last_row())
"""


@pytest.mark.skipif(not CAN_MOUNT, reason="no mount namespaces here")
@pytest.mark.parametrize("running", [True, False])
def test_a_home_that_is_mounted_read_only_is_read_whether_hermes_runs_or_not(
    home: Home, running: bool
) -> None:
    home.turn(home.session("one"), "label this: it crashes", "bug")
    if not running:
        home.hermes.close()
    assert home.state_db.with_name("state.db-wal").exists() == running
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, str(home.state_db.parent)]
    done = subprocess.run(
        [*command, sys.executable, "-c", READ_ONLY, str(home.state_db)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["1", "2"], done.stderr
