"""How far each version has come, and what its comparisons say, as tables.

The learning half and the commands pass a plain connection, the sidecar its
``AsyncDatabase``. A move is compared and swapped, so two sidecars, or a sidecar
and an operator, never overwrite each other's step. Knows nothing about the rules.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.storage.aio import AsyncDatabase

HISTORY = 20_000
"""Most comparisons of a version that are read back."""

_SAVE = """
INSERT INTO rollouts
    (slug, version, stage, share, held, step_started_at, reason, judged_from, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (slug) DO UPDATE SET
    version = excluded.version, stage = excluded.stage, share = excluded.share,
    held = excluded.held, step_started_at = excluded.step_started_at,
    reason = excluded.reason, judged_from = excluded.judged_from, updated_at = excluded.updated_at
"""

_MOVE = """
UPDATE rollouts SET stage = ?, share = ?, held = ?, step_started_at = ?, reason = ?,
    judged_from = ?, updated_at = ?
WHERE slug = ? AND version = ? AND stage = ? AND share = ? AND held = ? AND step_started_at = ?
"""

_LIST = "SELECT * FROM rollouts ORDER BY slug"

_MESSAGE = "INSERT OR IGNORE INTO outbox (topic, key, text, created_at) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the comparisons of one version add up to."""

    compared: int
    """Answers that could be compared."""

    agreed: int
    """Those that equalled the upstream's."""

    abstained: int
    """Requests the specialist left to the upstream."""

    missing: int
    """Answers without a counterpart: a failure or a timeout on either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One comparable answer, as the rules read it."""

    comparison_id: int
    """Order of writing."""

    at: float
    """Unix time."""

    agreed: bool
    """Whether the answers were equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message to the operator, written together with the change that caused it."""

    topic: str
    """What it is about."""

    key: str
    """The same key twice makes one message."""

    text: str
    """What the operator reads."""


def save_rollout(connection: sqlite3.Connection, rollout: Rollout, now: float) -> None:
    """Insert or replace the rollout of a specialist, as after a new version was registered."""
    connection.execute(_SAVE, (*_row(rollout), now))


def find_rollout(connection: sqlite3.Connection, slug: str) -> Rollout | None:
    """Return the rollout of a specialist."""
    row = connection.execute("SELECT * FROM rollouts WHERE slug = ?", (slug,)).fetchone()
    return _rollout(row) if row else None


def list_rollouts(connection: sqlite3.Connection) -> list[Rollout]:
    """Return every rollout, by slug."""
    return [_rollout(row) for row in connection.execute(_LIST)]


def move_rollout(
    connection: sqlite3.Connection, before: Rollout, after: Rollout, now: float
) -> bool:
    """Replace ``before`` by ``after`` if it still stands; returns whether it did.

    Raises:
        ValueError: The two are not of the same specialist and version.
    """
    return connection.execute(_MOVE, _move_values(before, after, now)).rowcount == 1


def tally(connection: sqlite3.Connection, slug: str, version: int) -> Tally:
    """Count the comparisons of one version."""
    row = connection.execute(
        """
        SELECT COALESCE(SUM(answered AND agreed IS NOT NULL), 0) AS compared,
               COALESCE(SUM(answered AND agreed), 0) AS agreed,
               COALESCE(SUM(NOT answered AND reason IN ('confidence', 'invalid')), 0) AS abstained,
               COUNT(*) AS everything
        FROM comparisons WHERE slug = ? AND version = ?
        """,
        (slug, version),
    ).fetchone()
    names = ("compared", "agreed", "abstained", "everything")
    compared, agreed, abstained, everything = (int(row[name]) for name in names)
    earlier = connection.execute(
        "SELECT * FROM comparison_sums WHERE slug = ? AND version = ?", (slug, version)
    ).fetchone()
    if earlier is not None:
        compared, agreed = compared + earlier["compared"], agreed + earlier["agreed"]
        abstained += earlier["abstained"]
        everything += earlier["everything"]
    return Tally(
        compared=compared,
        agreed=agreed,
        abstained=abstained,
        missing=everything - compared - abstained,
    )


def latest(connection: sqlite3.Connection, slug: str, version: int, limit: int) -> list[bool]:
    """Return whether the latest comparable answers of a version were equal, newest first."""
    rows = connection.execute(
        """
        SELECT agreed FROM comparisons
        WHERE slug = ? AND version = ? AND answered AND agreed IS NOT NULL
        ORDER BY comparison_id DESC LIMIT ?
        """,
        (slug, version, limit),
    )
    return [bool(row[0]) for row in rows]


def last_asked(connection: sqlite3.Connection, slug: str) -> float | None:
    """Return when a request last matched a specialist, Unix time; ``None`` if none ever did.

    One that only runs beside another has comparisons, and no entry in the ledger.
    """
    row = connection.execute(
        """
        SELECT MAX(at) FROM (SELECT MAX(at) AS at FROM ledger WHERE slug = :slug
                             UNION ALL SELECT MAX(until) FROM ledger_days WHERE slug = :slug
                             UNION ALL SELECT MAX(at) FROM comparisons WHERE slug = :slug
                             UNION ALL SELECT MAX(last_at) FROM comparison_sums WHERE slug = :slug)
        """,
        {"slug": slug},
    ).fetchone()
    return None if row[0] is None else float(row[0])


async def read_rollouts(database: AsyncDatabase) -> list[Rollout]:
    """Return every rollout, by slug, to the sidecar."""
    return [_rollout(row) for row in await database.read(_LIST)]


async def read_history(
    database: AsyncDatabase, slug: str, version: int, after: int = 0, since: float = 0.0
) -> list[Seen]:
    """Return the comparable answers of a version, oldest first.

    Args:
        database: Where they are.
        slug: The specialist.
        version: Its version.
        after: Only those behind this id.
        since: Only those from this Unix time on.
    """
    rows = await database.read(
        """
        SELECT * FROM (
            SELECT comparison_id, at, agreed FROM comparisons
            WHERE slug = ? AND version = ? AND comparison_id > ? AND at >= ?
              AND answered AND agreed IS NOT NULL
            ORDER BY comparison_id DESC LIMIT ?
        ) ORDER BY comparison_id
        """,
        (slug, version, after, since, HISTORY),
    )
    return [
        Seen(comparison_id=row["comparison_id"], at=row["at"], agreed=bool(row["agreed"]))
        for row in rows
    ]


async def change_rollout(
    database: AsyncDatabase, before: Rollout, after: Rollout, notice: Notice | None, now: float
) -> bool:
    """Move a rollout and write its message in one transaction; returns whether it moved."""
    async with database.transaction() as connection:
        cursor = await connection.execute(_MOVE, _move_values(before, after, now))
        moved = cursor.rowcount == 1
        if moved and notice is not None:
            await connection.execute(_MESSAGE, (notice.topic, notice.key, notice.text, now))
        return moved


def _row(rollout: Rollout) -> tuple[object, ...]:
    return (
        rollout.slug,
        rollout.version,
        rollout.stage,
        rollout.share,
        rollout.held,
        rollout.step_started_at,
        rollout.reason,
        rollout.judged_from,
    )


def _move_values(before: Rollout, after: Rollout, now: float) -> tuple[object, ...]:
    if (before.slug, before.version) != (after.slug, after.version):
        raise ValueError(f"{before.slug} {before.version} cannot become {after.slug}")
    return (
        after.stage,
        after.share,
        after.held,
        after.step_started_at,
        after.reason,
        after.judged_from,
        now,
        before.slug,
        before.version,
        before.stage,
        before.share,
        before.held,
        before.step_started_at,
    )


def _rollout(row: sqlite3.Row) -> Rollout:
    return Rollout(
        slug=row["slug"],
        version=row["version"],
        stage=Stage(row["stage"]),
        share=row["share"],
        held=bool(row["held"]),
        step_started_at=row["step_started_at"],
        reason=row["reason"],
        judged_from=row["judged_from"],
    )
