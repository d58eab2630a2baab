"""What each tenant used per day and month, as a table that several sidecars add to.

Only differences are written, so sidecars on one database never overwrite each
other's counts. Knows nothing about limits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from hermes_apprentice.domain.tenant import Periods, Use
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database

Account = tuple[str, str]
"""A tenant and a period."""

_ADD = """
INSERT INTO tenant_usage (tenant, period, requests, tokens, cost) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, period) DO UPDATE SET
    requests = requests + excluded.requests, tokens = tokens + excluded.tokens,
    cost = cost + excluded.cost
"""

_READ = "SELECT * FROM tenant_usage WHERE period IN (?, ?)"

_MESSAGE = "INSERT OR IGNORE INTO outbox (topic, key, text, created_at) VALUES (?, ?, ?, ?)"


def usage(database: Database, periods: Periods) -> dict[Account, Use]:
    """Return what was written for a day and its month.

    Raises:
        StorageError: It cannot be read.
    """
    return _accounts(database.read(_READ, (periods.day, periods.month)))


async def add_and_read(
    database: AsyncDatabase, used: Mapping[Account, Use], periods: Periods
) -> dict[Account, Use]:
    """Add to the counts, and return those of a day and its month as they are then.

    Raises:
        StorageError: They cannot be written or read; then nothing was added.
    """
    if not used:
        return _accounts(await database.read(_READ, (periods.day, periods.month)))
    async with database.transaction() as connection:
        await connection.executemany(
            _ADD, [(tenant, period, *astuple(use)) for (tenant, period), use in used.items()]
        )
        rows = await connection.execute_fetchall(_READ, (periods.day, periods.month))
        return _accounts(rows)


async def tell(
    database: AsyncDatabase, messages: Sequence[tuple[str, str, str]], now: float
) -> None:
    """Put messages to the operator into the outbox, each key once.

    Args:
        database: Where the outbox is.
        messages: Topic, key and text of each.
        now: Unix time.
    """
    async with database.transaction() as connection:
        await connection.executemany(_MESSAGE, [(*message, now) for message in messages])


def _accounts(rows: Iterable[sqlite3.Row]) -> dict[Account, Use]:
    return {
        (str(row["tenant"]), str(row["period"])): Use(*(int(row[name]) for name in Use.__slots__))
        for row in rows
    }
