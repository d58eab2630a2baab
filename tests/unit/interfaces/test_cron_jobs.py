"""What the scheduled jobs print, write and return."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.interfaces import cron_jobs
from hermes_apprentice.interfaces.cron_digest import digest_of
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import add_message, waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

NOW = 1_790_000_000.0
DAY = 86_400.0


@pytest.fixture
def placed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    return settings


def add_candidate(database: Database, candidate: Candidate) -> None:
    import numpy as np

    with database.transaction() as connection:
        store = PatternStore(connection)
        store.save(
            StoredPattern(
                pattern=candidate.pattern,
                embedder="e",
                centre=np.ones(4, np.float32),
                radius=0.5,
            ),
            NOW,
        )
        store.add_candidate(candidate)


def texts(settings: Settings) -> list[str]:
    with Database(settings.database_path) as database, database.transaction() as connection:
        return [message.text for message in waiting_messages(connection)]


def test_two_messages_are_printed_apart(
    placed: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with Database(placed.database_path) as database, database.transaction() as connection:
        add_message(connection, "a", "1", "First.", 1.0)
        add_message(connection, "b", "2", "Second.", 2.0)
    assert cron_jobs.outbox() == 0
    assert capfd.readouterr().out == "First.\n\nSecond.\n"
    assert cron_jobs.outbox() == 0
    assert capfd.readouterr().out == ""


def test_a_tick_returns_while_its_child_still_works_and_none_is_added(
    placed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    Database(placed.database_path).close()
    blocker = sqlite3.connect(placed.database_path, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        assert cron_jobs.tick(patience=0.01) == 0
        log = placed.home / "logs" / "tick.json"
        first = json.loads(log.read_text())
        assert first["state"] == "running"
        assert cron_jobs.tick(patience=0.01) == 0
        assert json.loads(log.read_text()) == first
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    with (placed.home / "locks" / "background-tick.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the child has ended
    assert json.loads(log.read_text())["state"] == "done"
    assert capsys.readouterr() == ("", "")


def test_a_run_that_died_alerts_hermes_each_time_and_the_operator_once_a_day(
    placed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    record = placed.home / "logs" / "tick.json"
    for _ in range(2):
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"state": "running", "started_at": NOW}))
        assert cron_jobs.tick(patience=60) == 1
        assert "stopped before it had finished" in capsys.readouterr().err
    (text,) = texts(placed)
    assert "'tick' failed" in text
    assert cron_jobs.tick(patience=60) == 0


def test_a_run_that_takes_half_a_day_is_told_once_and_left_alone(
    placed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("locks", "logs"):
        (placed.home / folder).mkdir(parents=True)
    record = placed.home / "logs" / "tick.json"
    with (placed.home / "locks" / "background-tick.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record.write_text(json.dumps({"state": "running", "started_at": time.time() - 12 * 3_600}))
        assert [cron_jobs.tick(), cron_jobs.tick()] == [0, 0]
        record.write_text(json.dumps({"state": "running", "started_at": time.time() - 3_600}))
        told = capsys.readouterr().err
        assert cron_jobs.tick() == 0
        assert capsys.readouterr().err == "", "an hour is no reason to say anything"
    (text,) = texts(placed)
    assert "'tick' has been running for 12 hours" in text
    assert told.count("12 hours") == 2


def test_a_tick_on_demand_does_not_hide_how_the_last_one_ended(placed: Settings) -> None:
    record = placed.home / "logs" / "tick.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"state": "failed", "message": "The disk was full."}))
    child = cron_jobs.start_tick(placed)
    assert child is not None
    child.wait(60)
    (text,) = texts(placed)
    assert "The disk was full." in text


def test_wrong_settings_fail_with_advice_and_no_traceback(
    placed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    placed.home.mkdir(parents=True)
    (placed.home / "settings.toml").write_text("[budget]\nmonthly_dollars = -1\n")
    for job in (cron_jobs.tick, cron_jobs.detect, cron_jobs.outbox, cron_jobs.digest):
        assert job() == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "budget.monthly_dollars" in err and "Traceback" not in err


def test_a_week_without_anything_has_no_digest(placed: Settings) -> None:
    assert cron_jobs.digest() == 0
    assert texts(placed) == []


def test_a_week_has_one_digest_however_often_the_job_runs(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    with Database(placed.database_path) as database:
        add_candidate(database, make_candidate())
    assert [cron_jobs.digest() for _ in range(3)] == [0, 0, 0]
    (text,) = texts(placed)
    assert "Waiting for your decision: gc-7f3a." in text


def test_a_digest_names_a_few_and_counts_the_rest(
    placed: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    with Database(placed.database_path) as database:
        for number in range(9):
            add_candidate(database, make_candidate(f"gc-000{number}"))
        skipped = make_candidate("gc-0fff")
        add_candidate(database, skipped)
        with database.transaction() as connection:
            PatternStore(connection).set_candidate_state("gc-0fff", CandidateState.SKIPPED)
        text = digest_of(database, placed, NOW - 7 * DAY, NOW)
    assert text is not None
    assert "and 4 more" in text and "gc-0fff" not in text
    assert len(text) < 1_000


def test_a_digest_tells_what_was_saved(placed: Settings) -> None:
    row: dict[str, Any] = {
        "at": NOW - DAY,
        "request_id": "r",
        "call_kind": "first",
        "route": "specialist",
        "slug": "s",
        "model": "m",
        "status": 200,
        "saved": 1_250_000,
    }
    with Database(placed.database_path) as database:
        with database.transaction() as connection:
            connection.execute(
                f"INSERT INTO ledger ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )
            connection.execute(
                "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'teacher', ?)",
                (NOW - 90 * DAY, 9_000_000),
            )
        text = digest_of(database, placed, NOW - 7 * DAY, NOW)
    # What training once cost is not the week's.
    assert text is not None and "100%" in text and "saved $1.25 (an estimate), less $0.00" in text


def test_a_child_of_an_unknown_hermes_home_is_told_which_one_is_meant(
    placed: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cron_jobs.detect(patience=60) == 1
    assert str(placed.hermes_home) in capsys.readouterr().err
    assert os.listdir(placed.home / "locks")
