"""The ledger of routed calls, and what specialists did, written by the sidecar in batches.

Knows nothing about prices; reading it back is the ledger's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import aiosqlite

from hermes_apprentice.domain.accounting import Attempt, Comparison, LedgerEntry, Repeat
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.forgotten import NAMELESS

_ENTRY = """
INSERT INTO ledger (at, request_id, tenant, session, call_kind, route, slug, version, digest,
                    reason, model, status, prompt_tokens, cached_tokens, completion_tokens,
                    estimated, cost, saved, overhead_ms, latency_ms, tier)
VALUES
"""

_COMPARISON = """
INSERT INTO comparisons (slug, version, at, origin, agreed, answered, reason)
VALUES
"""

_ATTEMPT = "INSERT INTO attempts (slug, version, at, outcome, took_ms) VALUES "

_REPEAT = "INSERT INTO repeats (slug, at, model, agreed, reason) VALUES "


_MARK = """
INSERT INTO spools (name, written) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET written = excluded.written
"""

_FORGOTTEN = "SELECT session_id FROM forgotten_sessions"

_FORGET = "DELETE FROM spools WHERE name = ?"

_ROWS = 128
"""Most rows in one statement, a power of two; their values stay below SQLite's limit."""


async def append(
    database: AsyncDatabase,
    entries: Sequence[LedgerEntry],
    comparisons: Sequence[Comparison],
    attempts: Sequence[Attempt] = (),
    repeats: Sequence[Repeat] = (),
    *,
    marks: Mapping[str, int] | None = None,
    forget: Sequence[str] = (),
) -> None:
    """Write a batch in one transaction: all of it, or nothing.

    A call of a session that was forgotten meanwhile is written without the session's name.

    Args:
        database: Where the tables are.
        entries: Routed calls.
        comparisons: Answers beside each other.
        attempts: Runs of specialists.
        repeats: The upstream beside itself.
        marks: How far each file of the spool has reached the ledger with these entries, in bytes.
        forget: Files of the spool that are gone.

    Raises:
        StorageError: The database is locked or cannot be written.
    """
    async with database.transaction() as connection:
        if entries:
            gone = {row[0] for row in await connection.execute_fetchall(_FORGOTTEN)}
            named = [
                replace(one, session=NAMELESS) if one.session in gone else one for one in entries
            ]
            await _insert(connection, _ENTRY, [_entry_row(entry) for entry in named])
        if comparisons:
            await _insert(connection, _COMPARISON, [_comparison_row(one) for one in comparisons])
        if attempts:
            await _insert(connection, _ATTEMPT, [_attempt_row(one) for one in attempts])
        if repeats:
            await _insert(connection, _REPEAT, [_repeat_row(one) for one in repeats])
        if marks:
            await connection.executemany(_MARK, list(marks.items()))
        if forget:
            await connection.executemany(_FORGET, [(name,) for name in forget])


async def read_marks(database: AsyncDatabase) -> dict[str, int]:
    """Return how far each file of the spool has reached the ledger, in bytes.

    Raises:
        StorageError: The database cannot be read.
    """
    return {row["name"]: row["written"] for row in await database.read("SELECT * FROM spools")}


async def _insert(
    connection: aiosqlite.Connection, statement: str, rows: Sequence[tuple[object, ...]]
) -> None:
    # With a statement for each row, the thread would have to win the interpreter back from a busy
    # event loop after every one of them, which can take seconds. With a length of its own for each
    # batch, the connection would keep the programs of a hundred long statements: tens of megabytes.
    start = 0
    while start < len(rows):
        count = min(_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        some = rows[start : start + count]
        places = f"({', '.join('?' * len(some[0]))})"
        values = [value for row in some for value in row]
        await connection.execute(statement + ", ".join([places] * count), values)
        start += count


def _entry_row(entry: LedgerEntry) -> tuple[object, ...]:
    return (
        entry.at,
        entry.request_id,
        entry.tenant,
        entry.session,
        entry.call_kind,
        entry.route,
        entry.slug,
        entry.version,
        entry.digest,
        entry.reason,
        entry.model,
        entry.status,
        entry.prompt_tokens,
        entry.cached_tokens,
        entry.completion_tokens,
        entry.estimated,
        entry.cost,
        entry.saved,
        entry.overhead_ms,
        entry.latency_ms,
        entry.tier,
    )


def _comparison_row(one: Comparison) -> tuple[object, ...]:
    return (one.slug, one.version, one.at, one.origin, one.agreed, one.answered, one.reason)


def _attempt_row(one: Attempt) -> tuple[object, ...]:
    return (one.slug, one.version, one.at, one.outcome, one.took_ms)


def _repeat_row(one: Repeat) -> tuple[object, ...]:
    return (one.slug, one.at, one.model, one.agreed, one.reason)
