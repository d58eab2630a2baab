"""The demo's sessions, written by the real Hermes store and read back as plain SQLite."""

from __future__ import annotations

import builtins
import itertools
import json
import random
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.demo.sessions import MODEL, SessionCounts, write_sessions
from hermes_apprentice.demo.texts import Corpus, make_corpus
from hermes_apprentice.errors import MissingExtraError, SessionDBError

NOW = 1_774_000_000.0


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(random.Random(1))


@pytest.fixture(scope="module")
def written(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SessionCounts]:
    home = tmp_path_factory.mktemp("hermes") / "home"
    counts = write_sessions(home, corpus, rng=random.Random(2), now=NOW)
    return home, counts


@pytest.fixture
def rows(written: tuple[Path, SessionCounts]) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{written[0] / 'state.db'}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    yield connection
    connection.close()


def _all(rows: sqlite3.Connection, query: str, *values: Any) -> list[sqlite3.Row]:
    return rows.execute(query, values).fetchall()


def test_what_was_counted_is_what_is_stored(
    written: tuple[Path, SessionCounts], rows: sqlite3.Connection
) -> None:
    _, counts = written
    assert _all(rows, "SELECT COUNT(*) FROM sessions")[0][0] == counts.sessions
    assert _all(rows, "SELECT COUNT(*) FROM messages")[0][0] == counts.messages
    complete = _all(
        rows,
        "SELECT COUNT(*) FROM messages m JOIN sessions s ON s.id = m.session_id"
        " WHERE m.finish_reason = 'stop' AND m.active = 1"
        " AND s.source IN ('cli', 'telegram')",
    )[0][0]
    assert complete == counts.exchanges.total() + counts.ignored["review"]


def test_every_request_of_the_corpus_is_stored_with_its_answer(
    corpus: Corpus, rows: sqlite3.Connection
) -> None:
    stored: dict[str, set[str]] = {}
    request = ""
    for row in _all(rows, "SELECT role, content, finish_reason FROM messages ORDER BY id"):
        if row["role"] == "user":
            request = row["content"]
        elif row["finish_reason"] == "stop":
            stored.setdefault(request, set()).add(row["content"])
    for item in corpus:
        assert item.answer in stored[item.request]


def test_sessions_carry_times_of_the_last_three_weeks(rows: sqlite3.Connection) -> None:
    for row in _all(rows, "SELECT started_at, ended_at, end_reason FROM sessions"):
        assert NOW - 21 * 86_400 - 1 <= row["started_at"] < NOW
        assert (row["ended_at"] is None) == (row["end_reason"] is None)
        assert row["ended_at"] is None or row["started_at"] <= row["ended_at"] < NOW


def test_row_numbers_grow_with_time_from_session_to_session(rows: sqlite3.Connection) -> None:
    starts = _all(
        rows,
        "SELECT MIN(m.id) AS first, s.started_at FROM messages m"
        " JOIN sessions s ON s.id = m.session_id GROUP BY s.id ORDER BY first",
    )
    times = [row["started_at"] for row in starts]
    assert all(later > earlier - 1 for earlier, later in itertools.pairwise(times))


def test_sessions_are_named_the_way_hermes_names_them(rows: sqlite3.Connection) -> None:
    pattern = {
        "cli": r"\d{8}_\d{6}_[0-9a-f]{6}",
        "subagent": r"\d{8}_\d{6}_[0-9a-f]{6}",
        "telegram": r"\d{8}_\d{6}_[0-9a-f]{8}",
        "cron": r"cron_[0-9a-f]{12}_\d{8}_\d{6}",
    }
    sessions = _all(rows, "SELECT id, source, model FROM sessions")
    assert {row["source"] for row in sessions} == set(pattern)
    for row in sessions:
        assert re.fullmatch(pattern[row["source"]], row["id"])
        assert row["model"] == MODEL


def test_a_tool_turn_is_stored_as_a_call_a_result_and_an_answer(
    rows: sqlite3.Connection,
) -> None:
    calls = _all(rows, "SELECT * FROM messages WHERE tool_calls IS NOT NULL")
    assert len(calls) == 20
    for row in calls:
        assert (row["role"], row["finish_reason"]) == ("assistant", "tool_calls")
        (call,) = json.loads(row["tool_calls"])
        assert call["type"] == "function"
        assert call["id"] == call["call_id"]
        assert call["response_item_id"].startswith("fc_")
        assert json.loads(call["function"]["arguments"])
        following = _all(rows, "SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT 2", row["id"])
        assert [each["role"] for each in following] == ["tool", "assistant"]
        assert following[0]["tool_call_id"] == call["id"]
        assert following[0]["tool_name"] == call["function"]["name"]
        assert following[1]["finish_reason"] == "stop"


def test_the_messengers_rows_look_like_the_gateways(rows: sqlite3.Connection) -> None:
    users = _all(
        rows,
        "SELECT m.* FROM messages m JOIN sessions s ON s.id = m.session_id"
        " WHERE s.source = 'telegram' AND m.role = 'user'",
    )
    assert all(row["timestamp"] == int(row["timestamp"]) for row in users)
    assert all(row["platform_message_id"] for row in users)
    metas = _all(rows, "SELECT * FROM messages WHERE role = 'session_meta'")
    assert metas
    assert all(row["content"] is None for row in metas)
    sessions = _all(rows, "SELECT * FROM sessions WHERE source = 'telegram'")
    assert all(row["session_key"] and row["chat_id"] and row["user_id"] for row in sessions)
    noted = _all(rows, "SELECT * FROM messages WHERE api_content IS NOT NULL")
    assert len(noted) == 1
    assert noted[0]["api_content"].startswith(noted[0]["content"])


def test_tokens_are_counted_per_session_and_per_model(rows: sqlite3.Connection) -> None:
    columns = "input_tokens, output_tokens, cache_read_tokens, api_call_count"
    sessions = {
        row["id"]: tuple(row)[1:]
        for row in _all(rows, f"SELECT id, {columns} FROM sessions WHERE api_call_count > 0")
    }
    usage = {
        row["session_id"]: tuple(row)[1:]
        for row in _all(rows, f"SELECT session_id, {columns} FROM session_model_usage")
    }
    assert sessions == usage
    assert all(input_tokens + cached > 12_000 for input_tokens, _, cached, _ in usage.values())
    assert any(cached > 0 for _, _, cached, _ in usage.values())


def test_undone_turns_are_inactive_and_counted(rows: sqlite3.Connection) -> None:
    undone = _all(rows, "SELECT * FROM sessions WHERE rewind_count > 0")
    assert len(undone) == 2
    for session in undone:
        inactive = _all(
            rows,
            "SELECT role, compacted FROM messages WHERE session_id = ? AND active = 0 ORDER BY id",
            session["id"],
        )
        assert [tuple(row) for row in inactive] == [("user", 0), ("assistant", 0)]


def test_unanswered_turns_have_no_assistant_row(
    written: tuple[Path, SessionCounts], rows: sqlite3.Connection
) -> None:
    silent = _all(
        rows,
        "SELECT id FROM sessions s WHERE NOT EXISTS"
        " (SELECT 1 FROM messages m WHERE m.session_id = s.id AND m.role = 'assistant')",
    )
    assert len(silent) == written[1].ignored["unanswered"] == 2


def test_subagents_name_their_parent(rows: sqlite3.Connection) -> None:
    children = _all(rows, "SELECT * FROM sessions WHERE source = 'subagent'")
    assert len(children) == 3
    for child in children:
        assert child["parent_session_id"]
        config = json.loads(child["model_config"])
        assert config["_delegate_from"] == child["parent_session_id"]


def test_pseudo_turns_carry_the_marks_of_hermes(rows: sqlite3.Connection) -> None:
    users = [row["content"] for row in _all(rows, "SELECT content FROM messages WHERE role='user'")]
    cron = "[IMPORTANT: You are running as a scheduled cron job."
    assert sum(text.startswith(cron) for text in users) == 6
    assert sum(text.startswith("Review the conversation above and ") for text in users) == 2


def test_hermes_itself_reads_the_history(written: tuple[Path, SessionCounts]) -> None:
    from hermes_state import SessionDB

    store = SessionDB(written[0] / "state.db", read_only=True)
    try:
        found = store.search_sessions(source="telegram", limit=3)
        assert len(found) == 3
        conversation = store.get_messages_as_conversation(found[0]["id"])
        assert conversation[0]["role"] == "user"
    finally:
        store.close()


def test_progress_is_told_session_by_session(tmp_path: Path, corpus: Corpus) -> None:
    told: list[tuple[int, int]] = []
    counts = write_sessions(
        tmp_path,
        list(corpus)[:3],
        rng=random.Random(1),
        now=NOW,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, counts.sessions) for done in range(1, counts.sessions + 1)]


def test_an_unwritable_home_is_reported(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(SessionDBError, match="could not be opened"):
        write_sessions(tmp_path, list(corpus)[:1], rng=random.Random(1), now=NOW)


def test_without_hermes_the_extra_is_named(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def without_hermes(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "hermes_state":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_hermes)
    with pytest.raises(MissingExtraError, match=r"hermes-apprentice\[demo\]"):
        write_sessions(tmp_path, list(corpus)[:1], rng=random.Random(1), now=NOW)


def test_the_operators_own_home_is_left_alone(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("HERMES_HOME", str(own))
    write_sessions(tmp_path / "demo", list(corpus)[:2], rng=random.Random(1), now=NOW)
    assert not own.exists()
    assert (tmp_path / "demo" / "state.db").exists()
