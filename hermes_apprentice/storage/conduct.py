"""How specialists behave beside their agreement: their runs, and what users turned down.

Also how often the upstream agrees with itself. Reads tables that others write:
``attempts`` and ``repeats`` (the sidecar), ``ledger`` with ``exchanges`` (the
sidecar and the observer). What is missing there is missing here, never a zero.
Knows nothing about the rules.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hermes_apprentice.storage.aio import AsyncDatabase

ATTEMPTS = 5_000
"""Latest runs of a version that are read back."""

ANSWERS = 5_000
"""Latest answers to a pattern's requests whose reception is looked up."""

FAILED = ("error", "deadline", "invalid")
"""Outcomes of a run that failed, timed out or gave an invalid answer."""

QUEUED = 3_600.0
"""Seconds for which a message may have waited before its turn began."""

CLOCKS = 5.0
"""Seconds by which a platform's clock may be ahead of ours."""

RECEIVED = """entry.status = 200 AND entry.call_kind = 'first' AND entry.session <> ''
 AND entry.route IN ('specialist', 'upstream', 'fallback')"""
"""What an ``entry`` of the ledger must be for its reception to count."""

_REPEATS = """
SELECT model, COUNT(*) AS asked, COALESCE(SUM(agreed IS NOT NULL), 0) AS compared,
       COALESCE(SUM(agreed), 0) AS agreed
FROM repeats WHERE slug = ? GROUP BY model ORDER BY MAX(repeat_id) DESC LIMIT 1
"""


class Attempted(NamedTuple):
    """One run of a specialist, as the rules read it."""

    attempt_id: int
    """Order of writing."""

    at: float
    """Unix time."""

    outcome: str
    """``answered``, or why it gave no answer."""

    took_ms: float
    """How long it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Whether users turned answers down, as far as Hermes' sessions were read."""

    served: tuple[bool, ...] = ()
    """The specialist's answers, oldest first: whether each was corrected."""

    upstream: int = 0
    """The upstream's answers to requests of the same pattern."""

    upstream_corrected: int = 0
    """Those that were corrected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfAgreement:
    """How often the upstream gave the same answer twice."""

    model: str
    """The model's name upstream; figures of other models are left out."""

    asked: int
    """Requests that it was asked twice."""

    compared: int
    """Those with two answers."""

    agreed: int
    """Those with equal answers."""


def self_agreement(connection: sqlite3.Connection, slug: str) -> SelfAgreement | None:
    """Return how the upstream agreed with itself on a pattern's requests.

    Returns:
        Figures of the model asked last; ``None`` if nothing was ever asked twice.
    """
    return _self_agreement(connection.execute(_REPEATS, (slug,)).fetchall())


def run_counts(connection: sqlite3.Connection, slug: str, version: int) -> tuple[int, int]:
    """Return how many runs of a version are known, and how many of them failed."""
    marks = ", ".join("?" * len(FAILED))
    row = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(outcome IN ({marks})), 0) FROM attempts "
        "WHERE slug = ? AND version = ?",
        (*FAILED, slug, version),
    ).fetchone()
    earlier = connection.execute(
        "SELECT runs, failed FROM attempt_sums WHERE slug = ? AND version = ?", (slug, version)
    ).fetchone()
    runs, failed = earlier if earlier is not None else (0, 0)
    return int(row[0]) + int(runs), int(row[1]) + int(failed)


async def read_self_agreement(database: AsyncDatabase, slug: str) -> SelfAgreement | None:
    """Return the same to the sidecar."""
    return _self_agreement(await database.read(_REPEATS, (slug,)))


async def read_attempts(
    database: AsyncDatabase, slug: str, version: int, after: int = 0, since: float = 0.0
) -> list[Attempted]:
    """Return the latest runs of a version behind an id and from a Unix time on, oldest first."""
    rows = await database.read(
        """
        SELECT attempt_id, at, outcome, took_ms FROM attempts
        WHERE slug = ? AND version = ? AND attempt_id > ? AND at >= ?
        ORDER BY attempt_id DESC LIMIT ?
        """,
        (slug, version, after, since, ATTEMPTS),
    )
    # Thousands are held, and there are a handful of outcomes.
    return [Attempted(row[0], row[1], sys.intern(row[2]), row[3]) for row in reversed(rows)]


async def read_reception(
    database: AsyncDatabase, slug: str, version: int, since: float, until: float
) -> Reception:
    """Return how answers to a pattern's requests were received.

    An answer counts once the observer has read its turn from Hermes' sessions, which it can tell
    only for requests that carried their session. The turn is the one of that session whose
    request came closest in time.

    Args:
        database: Where ledger and exchanges are.
        slug: The specialist.
        version: Its version; the upstream's answers count whatever the version was.
        since: Unix time from which the specialist's own answers count.
        until: Unix time up to which answers count, so that users had time to react.
    """
    rows = await database.read(
        f"""
        SELECT entry.entry_id, entry.route, entry.version, entry.at, exchange.corrected,
               ABS(exchange.asked_at - entry.at) AS apart
        FROM (
            SELECT entry_id, route, version, at, session FROM ledger AS entry
            WHERE slug = ? AND at < ? AND {RECEIVED} ORDER BY at DESC LIMIT ?
        ) AS entry
        JOIN exchanges AS exchange
          ON exchange.session_id = entry.session
         AND exchange.asked_at BETWEEN entry.at - ? AND entry.at + ?
        ORDER BY entry.entry_id, apart
        """,
        (slug, until, ANSWERS, QUEUED, CLOCKS),
    )
    nearest = {row["entry_id"]: row for row in reversed(rows)}
    found = [nearest[number] for number in sorted(nearest)]
    own = [row for row in found if row["route"] == "specialist"]
    other = [row for row in found if row["route"] != "specialist"]
    return Reception(
        served=tuple(
            bool(row["corrected"])
            for row in own
            if row["version"] == version and row["at"] >= since
        ),
        upstream=len(other),
        upstream_corrected=sum(bool(row["corrected"]) for row in other),
    )


def _self_agreement(rows: Iterable[Any]) -> SelfAgreement | None:
    for row in rows:
        return SelfAgreement(
            model=row["model"],
            asked=int(row["asked"]),
            compared=int(row["compared"]),
            agreed=int(row["agreed"]),
        )
    return None
