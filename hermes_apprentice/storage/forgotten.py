"""Sessions that were forgotten on request, and what is still to be done about them, as tables.

Works on a connection inside a transaction. Keeps names and digests, no words. Knows
nothing about files.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NAMELESS = "forgotten"
"""What the ledger calls the session of a call whose session was forgotten."""

REMOVED = ""
"""Stands for the digest of a dataset of which nothing is left."""


class Trace(NamedTuple):
    """An exchange whose traces in files are still to be removed."""

    pattern_id: str | None
    """The pattern that it belonged to."""

    asked_at: float
    """Unix time of its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tainted:
    """A version that was trained on forgotten sessions."""

    slug: str
    """The specialist."""

    version: int
    """The version."""

    examples: int
    """How many of its examples were forgotten; 0 where its dataset is gone."""

    at: float
    """When they were forgotten, Unix time."""


def turn_digest(request: str, answer: str) -> str:
    """Return the digest by which a copy of a forgotten turn is known in another session."""
    data = f"{request.strip()}\x00{answer.strip()}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()


def forgotten_sessions(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of all forgotten sessions."""
    return {row[0] for row in connection.execute("SELECT session_id FROM forgotten_sessions")}


def forgotten_turns(connection: sqlite3.Connection) -> set[str]:
    """Return the digests of all forgotten turns."""
    return {row[0] for row in connection.execute("SELECT digest FROM forgotten_turns")}


def sessions_holding(connection: sqlite3.Connection, text: str) -> list[str]:
    """Return the sessions in which a request or an answer holds a text, whatever its case."""
    pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = connection.execute(
        "SELECT DISTINCT session_id FROM exchanges WHERE request LIKE ?1 ESCAPE '\\' "
        "OR answer LIKE ?1 ESCAPE '\\' ORDER BY session_id",
        (pattern,),
    )
    return [row[0] for row in rows]


def traces_of(connection: sqlite3.Connection, sessions: Sequence[str]) -> dict[str, Trace]:
    """Return the stored exchanges of sessions, by id."""
    found = {}
    for name in sessions:
        for row in connection.execute(
            "SELECT exchange_id, pattern_id, asked_at FROM exchanges "
            "LEFT JOIN pattern_members USING (exchange_id) WHERE session_id = ?",
            (name,),
        ):
            found[row[0]] = Trace(row[1], row[2])
    return found


def forget_sessions(connection: sqlite3.Connection, sessions: Sequence[str], now: float) -> None:
    """Remove everything that the database holds of sessions, and refuse them from now on.

    What their exchanges were called is kept until ``finish``, so that files can be searched.
    """
    for name in sessions:
        connection.execute(
            "INSERT INTO forgotten_sessions (session_id, at) VALUES (?, ?) "
            "ON CONFLICT (session_id) DO UPDATE SET finished = 0",
            (name, now),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO forgotten_turns VALUES (?)",
            [
                (turn_digest(row[0], row[1]),)
                for row in connection.execute(
                    "SELECT request, answer FROM exchanges WHERE session_id = ?", (name,)
                ).fetchall()
            ],
        )
        connection.execute(
            "INSERT OR IGNORE INTO forgetting SELECT exchange_id, pattern_id, asked_at "
            "FROM exchanges LEFT JOIN pattern_members USING (exchange_id) WHERE session_id = ?",
            (name,),
        )
        connection.execute("DELETE FROM exchanges WHERE session_id = ?", (name,))
        connection.execute("DELETE FROM corrections WHERE session_id = ?", (name,))
        connection.execute("DELETE FROM audited_answers WHERE session_id = ?", (name,))
        connection.execute("UPDATE ledger SET session = ? WHERE session = ?", (NAMELESS, name))


def unfinished(connection: sqlite3.Connection) -> list[str]:
    """Return the forgotten sessions of which files may still hold something."""
    rows = connection.execute(
        "SELECT session_id FROM forgotten_sessions WHERE NOT finished ORDER BY session_id"
    )
    return [row[0] for row in rows]


def traces_left(connection: sqlite3.Connection) -> dict[str, Trace]:
    """Return the exchanges that files are still to be searched for, by id."""
    rows = connection.execute("SELECT exchange_id, pattern_id, asked_at FROM forgetting")
    return {row[0]: Trace(row[1], row[2]) for row in rows}


def finish(connection: sqlite3.Connection) -> None:
    """Note that no file holds anything of the forgotten sessions any more."""
    connection.execute("UPDATE forgotten_sessions SET finished = 1")
    connection.execute("DELETE FROM forgetting")


# --- datasets and versions ----------------------------------------------------------------


def remember_reduction(connection: sqlite3.Connection, before: str, after: str) -> None:
    """Note that a dataset became another by losing examples, before its files change.

    Args:
        connection: Inside a transaction.
        before: The digest it has now.
        after: The digest it will have, or ``REMOVED``.
    """
    if before == after:
        return
    intended = reduced_to(connection, before)  # by an attempt that was interrupted
    connection.execute(
        "UPDATE reduced_datasets SET reduced = ? WHERE reduced IN (?, ?)",
        (after, before, intended or before),
    )
    connection.execute("INSERT OR REPLACE INTO reduced_datasets VALUES (?, ?)", (before, after))


def reduced_to(connection: sqlite3.Connection, digest: str) -> str | None:
    """Return what a dataset became: a digest, ``REMOVED``, or ``None`` where it is as it was."""
    row = connection.execute(
        "SELECT reduced FROM reduced_datasets WHERE digest = ?", (digest,)
    ).fetchone()
    return row[0] if row else None


def taint(
    connection: sqlite3.Connection, slug: str, version: int, examples: int, now: float
) -> None:
    """Note that a version was trained on forgotten sessions."""
    connection.execute(
        "INSERT INTO tainted_versions VALUES (?, ?, ?, ?) ON CONFLICT (slug, version) DO UPDATE "
        "SET examples = MAX(examples, excluded.examples), at = excluded.at",
        (slug, version, examples, now),
    )


def untaint(connection: sqlite3.Connection, slug: str, version: int) -> None:
    """Note that a version is gone."""
    connection.execute(
        "DELETE FROM tainted_versions WHERE slug = ? AND version = ?", (slug, version)
    )


def tainted_versions(
    connection: sqlite3.Connection, slugs: Collection[str] | None = None
) -> list[Tainted]:
    """Return the versions that were trained on forgotten sessions; of some specialists or all."""
    return [
        Tainted(slug=row[0], version=row[1], examples=row[2], at=row[3])
        for row in connection.execute(
            "SELECT slug, version, examples, at FROM tainted_versions ORDER BY slug, version"
        )
        if slugs is None or row[0] in slugs
    ]
