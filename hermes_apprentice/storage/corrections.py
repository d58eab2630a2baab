"""What users turned down, as Hermes' plugin heard it, as a table.

Written while the user still talks, by another process than the one that reads
sessions, so a row names a turn by session, time and a digest of the request.
Knows nothing about how a correction is recognised, and keeps no text.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hermes_apprentice.storage.database import Database

CLOCKS = 5.0
"""Seconds by which a platform's clock, in whole seconds, may be ahead of ours."""

QUEUED = 3_600.0
"""Seconds for which a message may have waited for the agent before its turn began."""


class CorrectionKind(StrEnum):
    """How the user showed that an answer was not what they wanted."""

    REJECTED = "rejected"
    ASKED_AGAIN = "asked_again"
    TAKEN_BACK = "taken_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One answer that the user turned down."""

    session_id: str
    """Hermes' session."""

    asked_at: float
    """When the request was asked whose answer was turned down, Unix time."""

    kind: CorrectionKind
    """How."""

    at: float
    """When it was noticed, Unix time."""

    request_digest: str
    """Of that request; see ``digest_of``."""

    slug: str | None = None
    """The specialist that had answered; ``None`` for the upstream, or where that is unknown."""

    version: int | None = None
    """Its version."""


class Answerer(NamedTuple):
    """The specialist that answered a turn."""

    slug: str
    """Its name."""

    version: int | None
    """Its version."""


def digest_of(request: str) -> str:
    """Return the digest by which a correction names a request."""
    return hashlib.sha256(request.strip().encode("utf-8", "surrogatepass")).hexdigest()[:32]


def add_correction(connection: sqlite3.Connection, correction: Correction) -> bool:
    """Keep a correction; the same one twice is kept once, one of a forgotten session never.

    Args:
        connection: Inside a transaction.
        correction: What was turned down.

    Returns:
        Whether it is new.
    """
    added = connection.execute(
        """
        INSERT OR IGNORE INTO corrections
            (session_id, asked_at, kind, at, request_digest, slug, version)
        SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
        WHERE ?1 NOT IN (SELECT session_id FROM forgotten_sessions)
        """,
        (
            correction.session_id,
            correction.asked_at,
            correction.kind,
            correction.at,
            correction.request_digest,
            correction.slug,
            correction.version,
        ),
    )
    return added.rowcount == 1


def read_corrections(database: Database, since: float = 0.0) -> list[Correction]:
    """Return what was turned down since a moment, Unix time, in the order it was noticed.

    Raises:
        StorageError: The database cannot be read.
    """
    rows = database.read(
        "SELECT * FROM corrections WHERE at >= ? ORDER BY at, correction_id", (since,)
    )
    return [
        Correction(
            session_id=row["session_id"],
            asked_at=row["asked_at"],
            kind=CorrectionKind(row["kind"]),
            at=row["at"],
            request_digest=row["request_digest"],
            slug=row["slug"],
            version=row["version"],
        )
        for row in rows
    ]


def answerer_of(
    connection: sqlite3.Connection, session_id: str, since: float, until: float
) -> Answerer | None:
    """Return the specialist that answered the turn of a session between two moments.

    Returns:
        ``None`` when the upstream answered, or the ledger knows nothing of the turn.
    """
    row = connection.execute(
        """
        SELECT route, slug, version FROM ledger
        WHERE session = ? AND call_kind = 'first' AND at >= ? AND at < ?
        ORDER BY at LIMIT 1
        """,
        (session_id, since - CLOCKS, until),
    ).fetchone()
    if row is None or row["route"] != "specialist" or row["slug"] is None:
        return None
    return Answerer(row["slug"], row["version"])


def mark_corrected(connection: sqlite3.Connection) -> int:
    """Mark the exchanges that were turned down, and return how many were not marked before.

    A question that was asked more than once in a session means the latest of them
    that had been asked by then.
    """
    marked = 0
    for correction in connection.execute("SELECT * FROM corrections").fetchall():
        found = connection.execute(
            """
            SELECT exchange_id, request, corrected FROM exchanges
            WHERE session_id = ? AND asked_at BETWEEN ? AND ? ORDER BY asked_at DESC
            """,
            (
                correction["session_id"],
                correction["asked_at"] - QUEUED,
                correction["asked_at"] + CLOCKS,
            ),
        )
        for row in found:
            if digest_of(row["request"]) != correction["request_digest"]:
                continue
            if not row["corrected"]:
                connection.execute(
                    "UPDATE exchanges SET corrected = 1 WHERE exchange_id = ?",
                    (row["exchange_id"],),
                )
                marked += 1
            break
    return marked
