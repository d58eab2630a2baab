"""What was paid for, and by how much a person raised a month's ceiling, as tables.

Amounts are whole micro-dollars and times are Unix seconds; a period is half open,
so that every row lies in one month only. What is added goes through a connection
inside a transaction. Knows nothing about ceilings or about who may raise them.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """One raise of the ceiling of the month in which it was made."""

    at: float
    """When, Unix time."""

    amount: int
    """By how much, micro-dollars."""

    who: str
    """Who asked for it: ``cli``, or a platform and its user id."""


def add_spending(
    connection: sqlite3.Connection,
    *,
    at: float,
    purpose: str,
    amount: int,
    slug: str | None = None,
    note: str = "",
) -> None:
    """Record that something was paid for.

    Args:
        connection: Inside a transaction.
        at: Unix time.
        purpose: What kind of work it paid for, in a word.
        amount: Micro-dollars.
        slug: The specialist that it was for, if any.
        note: Anything a person may want to read later.

    Raises:
        StorageError: The amount is below 0; it would make room for more spending.
    """
    if amount < 0:
        raise StorageError(f"Spending of {amount} micro-dollars was not recorded: it is below 0.")
    connection.execute(
        "INSERT INTO spending (at, slug, purpose, amount, note) VALUES (?, ?, ?, ?, ?)",
        (at, slug, purpose, amount, note),
    )


def add_raise(connection: sqlite3.Connection, raised: Raise) -> None:
    """Record a raise.

    Args:
        connection: Inside a transaction.
        raised: When, by whom and by how much.

    Raises:
        StorageError: The amount is not above 0.
    """
    if raised.amount <= 0:
        raise StorageError(f"A raise by {raised.amount} micro-dollars was not recorded.")
    connection.execute(
        "INSERT INTO budget_raises (at, amount, who) VALUES (?, ?, ?)",
        (raised.at, raised.amount, raised.who),
    )


def spent_between(database: Database, start: float, end: float) -> int:
    """Return the micro-dollars spent from ``start`` to before ``end``.

    Raises:
        StorageError: The database cannot be read.
    """
    rows = database.read(
        "SELECT COALESCE(SUM(amount), 0) AS amount FROM spending WHERE at >= ? AND at < ?",
        (start, end),
    )
    return int(rows[0]["amount"])


def raises_between(database: Database, start: float, end: float) -> list[Raise]:
    """Return the raises from ``start`` to before ``end``, oldest first.

    Raises:
        StorageError: The database cannot be read.
    """
    rows = database.read(
        "SELECT at, amount, who FROM budget_raises WHERE at >= ? AND at < ? ORDER BY at, raise_id",
        (start, end),
    )
    return [Raise(at=row["at"], amount=int(row["amount"]), who=row["who"]) for row in rows]
