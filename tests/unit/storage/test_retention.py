from __future__ import annotations

import random
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.ledger.costs import cost_summary
from hermes_apprentice.ledger.roi import roi
from hermes_apprentice.ledger.traffic import route_totals
from hermes_apprentice.router.guards import conduct
from hermes_apprentice.router.rollout import progress
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.storage import conduct as conduct_tables
from hermes_apprentice.storage import retention, rollouts
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.conduct import (
    read_attempts,
    read_reception,
    run_counts,
    self_agreement,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.retention import DAY, shorten
from hermes_apprentice.storage.rollouts import last_asked, latest, read_history, tally

NOW = 2_000 * DAY + 12_345.0
BEFORE = NOW - 400 * DAY
CUT = BEFORE - BEFORE % DAY
SLUGS = ("label-ticket", "order-mails")
ROUTES = ("upstream", "fallback", "specialist", "audit")


def fill(connection: sqlite3.Connection, chance: random.Random) -> None:
    """Two years of calls, comparisons and runs, of every kind that there is."""
    for number in range(1_500):
        at = NOW - chance.uniform(0, 800) * DAY
        route = chance.choice(ROUTES)
        slug = chance.choice((*SLUGS, None)) if route == "upstream" else chance.choice(SLUGS)
        session = chance.choice((f"s-{number}", f"fp-{number}", ""))
        connection.execute(
            "INSERT INTO ledger (at, request_id, tenant, session, call_kind, route, slug, version,"
            " model, status, prompt_tokens, cached_tokens, completion_tokens, estimated, cost,"
            " saved) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                at,
                f"r-{number}",
                chance.choice(("", "ann", "bob")),
                session,
                "first" if slug else chance.choice(("first", "continuation", "auxiliary")),
                route,
                slug,
                chance.choice((1, 2)) if slug else None,
                chance.choice(("big-one", "small-one")),
                chance.choice((200, 200, 200, 499, 503)),
                chance.randint(0, 900),
                chance.randint(0, 90),
                chance.randint(0, 90),
                chance.choice((0, 1)),
                chance.choice((None, chance.randint(0, 9_000))),
                chance.choice((None, 70)) if route == "specialist" else None,
            ),
        )
        if slug and session and number % 3 == 0:
            own = session if session.startswith("s-") else f"elsewhere-{number}"
            connection.execute(
                "INSERT INTO exchanges (exchange_id, profile, session_id, source, turn_index,"
                " request, answer, model, asked_at, answered_at, context_chars, input_tokens,"
                " output_tokens, corrected, user_row, observed_at)"
                " VALUES (?, 'p', ?, 'cli', 0, 'q', 'a', 'm', ?, ?, 0, 1, 1, ?, 1, 1.0)",
                (f"e-{number}", own, at - 1, at + 1, chance.choice((0, 0, 1))),
            )
            connection.execute(
                "INSERT INTO pattern_members (exchange_id, pattern_id, cosine) VALUES (?, ?, 1.0)",
                (f"e-{number}", f"p-{slug}"),
            )
        connection.execute(
            "INSERT INTO comparisons (slug, version, at, origin, agreed, answered, reason)"
            " VALUES (?, ?, ?, 'shadow', ?, ?, ?)",
            (
                chance.choice(SLUGS),
                chance.choice((1, 2)),
                at,
                *chance.choice(
                    (
                        (1, 1, ""),
                        (1, 1, ""),
                        (0, 1, ""),
                        (None, 0, "confidence"),
                        (None, 0, "error"),
                    )
                ),
            ),
        )
        connection.execute(
            "INSERT INTO attempts (slug, version, at, outcome, took_ms) VALUES (?, ?, ?, ?, ?)",
            (
                chance.choice(SLUGS),
                chance.choice((1, 2)),
                at,
                chance.choice(("answered", "answered", "confidence", "error", "invalid")),
                chance.uniform(1, 900),
            ),
        )
    connection.execute(
        "INSERT INTO repeats (slug, at, model, agreed) VALUES (?, ?, 'm', 1)", (SLUGS[0], 5.0)
    )
    connection.execute("INSERT INTO tenant_usage VALUES ('ann', '2020-01-01', 4, 5, 6)")
    connection.execute(
        "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, ?, 'burst', 99)",
        (NOW - 700 * DAY, SLUGS[0]),
    )


async def everything(path: Path) -> dict[str, Any]:
    """All that anybody makes of the tables."""
    found: dict[str, Any] = {}
    with Database(path) as database:
        for since in (0.0, CUT, NOW - 30 * DAY):
            for tenant in (None, "ann"):
                found[f"roi {since} {tenant}"] = asdict(roi(database, since, NOW, tenant))
            found[f"costs {since}"] = cost_summary(database, since)
            found[f"routes {since}"] = route_totals(database, since, NOW)
        found["usage"] = [tuple(row) for row in database.read("SELECT * FROM tenant_usage")]
        with database.transaction() as connection:
            for slug in SLUGS:
                found[f"asked {slug}"] = last_asked(connection, slug)
                found[f"self {slug}"] = self_agreement(connection, slug)
                found[f"answered {slug}"] = PatternStore(connection).answered_here(f"p-{slug}")
                for version in (1, 2, 3):
                    name = f"{slug} {version}"
                    found[f"tally {name}"] = tally(connection, slug, version)
                    found[f"latest {name}"] = latest(connection, slug, version, 25)
                    found[f"runs {name}"] = run_counts(connection, slug, version)
    database = await AsyncDatabase.open(path)
    settings = RolloutSettings()
    for slug in SLUGS:
        for version in (1, 2):
            rollout = Rollout(
                slug=slug,
                version=version,
                stage=Stage.LIVE,
                share=1.0,
                held=False,
                step_started_at=5.0,
                reason="",
            )
            history = await read_history(database, slug, version)
            attempts = await read_attempts(database, slug, version)
            reception = await read_reception(database, slug, version, 0.0, NOW)
            found[f"progress {slug} {version}"] = progress(rollout, history, settings)
            found[f"conduct {slug} {version}"] = conduct(attempts, reception, settings)
            found[f"reception {slug} {version}"] = reception
    await database.close()
    return found


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "apprentice.db"
    with Database(path) as database, database.transaction() as connection:
        for slug in SLUGS:
            connection.execute(
                "INSERT INTO patterns VALUES (?, ?, '{}', 'e', x'00', 0.5, 1.0)",
                (f"p-{slug}", slug),
            )
        fill(connection, random.Random(4))
    return path


def size(path: Path, table: str) -> int:
    with Database(path) as database:
        return int(database.read(f"SELECT COUNT(*) FROM {table}")[0][0])


@pytest.mark.parametrize("limit", [25, 60, 100_000])
async def test_after_old_rows_were_added_up_every_figure_is_the_same(
    filled: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    # The statements are made of these limits when their modules are loaded.
    for name in ("_OLD", "_SUM_UP", "_OLD_COMPARISONS", "_COUNT_COMPARISONS"):
        text = getattr(retention, name)
        text = text.replace(f"OFFSET {retention.ANSWERS - 1}", f"OFFSET {limit - 1}")
        text = text.replace(f"OFFSET {retention.HISTORY - 1}", f"OFFSET {limit - 1}")
        monkeypatch.setattr(retention, name, text)
    for name in ("_OLD_ATTEMPTS", "_COUNT_ATTEMPTS"):
        text = getattr(retention, name)
        found = text.replace(f"OFFSET {retention.ATTEMPTS - 1}", f"OFFSET {limit - 1}")
        monkeypatch.setattr(retention, name, found)
    monkeypatch.setattr(conduct_tables, "ANSWERS", limit)
    monkeypatch.setattr(conduct_tables, "ATTEMPTS", limit)
    monkeypatch.setattr(rollouts, "HISTORY", limit)
    before = await everything(filled)
    rows = [size(filled, name) for name in ("ledger", "comparisons", "attempts")]
    with Database(filled) as database:
        counted = shorten(database, BEFORE, apply=False)
        assert [size(filled, name) for name in ("ledger", "comparisons", "attempts")] == rows
        assert shorten(database, BEFORE) == counted
        assert sum(shorten(database, BEFORE)) == 0
    after = await everything(filled)
    assert after == before
    left = [size(filled, name) for name in ("ledger", "comparisons", "attempts")]
    assert [was - now for was, now in zip(rows, left, strict=True)] == list(counted)
    assert counted.calls > 100 and counted.comparisons > 100
    assert (counted.attempts > 100) == (limit < 1_000)
    assert 0 < size(filled, "ledger_days") < counted.calls


async def test_calls_that_arrive_late_for_a_day_are_added_to_it(filled: Path) -> None:
    with Database(filled) as database:
        shorten(database, BEFORE)
        with database.transaction() as connection:
            connection.executemany(
                "INSERT INTO ledger (at, request_id, call_kind, route, model, status, cost) "
                "VALUES (?, 'late', 'first', 'upstream', 'big-one', 200, 10)",
                [(NOW - 500 * DAY,), (NOW - 500 * DAY + 1,)],
            )
    before = await everything(filled)
    with Database(filled) as database:
        assert shorten(database, BEFORE).calls == 2
    assert await everything(filled) == before


def test_what_is_younger_stays_and_the_day_of_the_limit_is_whole(filled: Path) -> None:
    with Database(filled) as database:
        young = database.read("SELECT * FROM ledger WHERE at >= ? ORDER BY entry_id", (CUT,))
        shorten(database, CUT + 0.9 * DAY)
        kept = database.read("SELECT * FROM ledger WHERE at >= ? ORDER BY entry_id", (CUT,))
        assert [tuple(row) for row in kept] == [tuple(row) for row in young]
        gone = database.read("SELECT MAX(until) AS last, MIN(at) AS first FROM ledger_days")[0]
        assert gone["last"] < CUT


def test_the_sums_are_read_through_the_index_on_time(filled: Path) -> None:
    with Database(filled) as database:
        plan = database.read("EXPLAIN QUERY PLAN SELECT SUM(calls) FROM ledger_sums WHERE at >= 5")
    assert "ledger_by_time" in " ".join(str(row["detail"]) for row in plan)
