"""Specialists on their way through the learning half, as a table.

Knows nothing about what a step does.
"""

from __future__ import annotations

import sqlite3

from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Step


def save_specialist(connection: sqlite3.Connection, specialist: Specialist) -> None:
    """Insert or replace a specialist."""
    connection.execute(
        """
        INSERT INTO specialists (slug, pattern_id, candidate_id, kind, step, reason, run_id,
                                 version, updated_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (slug) DO UPDATE SET
            kind = excluded.kind, step = excluded.step, reason = excluded.reason,
            run_id = excluded.run_id, version = excluded.version, updated_at = excluded.updated_at
        """,
        (
            specialist.slug,
            specialist.pattern_id,
            specialist.candidate_id,
            specialist.kind,
            specialist.step,
            specialist.reason,
            specialist.run_id,
            specialist.version,
            specialist.updated_at,
        ),
    )


def find_specialist(connection: sqlite3.Connection, slug: str) -> Specialist | None:
    """Return a specialist by its slug."""
    row = connection.execute("SELECT * FROM specialists WHERE slug = ?", (slug,)).fetchone()
    return _specialist(row) if row else None


def list_specialists(connection: sqlite3.Connection) -> list[Specialist]:
    """Return every specialist, by slug."""
    return [
        _specialist(row) for row in connection.execute("SELECT * FROM specialists ORDER BY slug")
    ]


def _specialist(row: sqlite3.Row) -> Specialist:
    return Specialist(
        slug=row["slug"],
        pattern_id=row["pattern_id"],
        candidate_id=row["candidate_id"],
        kind=Kind(row["kind"]),
        step=Step(row["step"]),
        reason=row["reason"],
        run_id=row["run_id"],
        version=row["version"],
        updated_at=row["updated_at"],
    )
