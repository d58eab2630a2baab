"""Training runs as rows: what runs, how far it is, and whether somebody wants it to stop.

Knows nothing about what a job does.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a training run stands."""

    RUNNING = "running"
    """A process works on it, unless that process was killed; the next tick then takes it up."""

    CANCELLING = "cancelling"
    """It runs, and was asked to stop."""

    CANCELLED = "cancelled"
    """It was stopped because somebody asked for it."""

    FAILED = "failed"
    """It ended without a result."""

    FINISHED = "finished"
    """Its artefact lies on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training run."""

    run_id: str
    """Its name, and that of its folder."""

    slug: str
    """The specialist."""

    state: JobState
    """Where it stands."""

    progress: float
    """Share that is done, 0 to 1."""

    note: str
    """What it is doing, or why it ended."""

    started_at: float
    """Unix time."""

    finished_at: float | None
    """Unix time; ``None`` while it runs."""


def save_job(
    connection: sqlite3.Connection,
    *,
    run_id: str,
    slug: str,
    state: JobState,
    progress: float,
    note: str,
    now: float,
) -> None:
    """Record how far a run has come; that it was asked to stop is not forgotten by it."""
    finished = None if state is JobState.RUNNING else now
    connection.execute(
        """
        INSERT INTO jobs (run_id, slug, state, progress, note, started_at, finished_at)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (run_id) DO UPDATE SET
            state = CASE WHEN jobs.state = 'cancelling' AND excluded.state = 'running'
                    THEN jobs.state ELSE excluded.state END,
            progress = excluded.progress, note = excluded.note, finished_at = excluded.finished_at
        """,
        (run_id, slug, state, progress, note, now, finished),
    )


def ask_to_stop(connection: sqlite3.Connection, run_id: str) -> bool:
    """Ask a running job to stop; returns whether there was one."""
    return bool(
        connection.execute(
            "UPDATE jobs SET state = 'cancelling' WHERE run_id = ? AND state = 'running'",
            (run_id,),
        ).rowcount
    )


def find_job(connection: sqlite3.Connection, run_id: str) -> Job | None:
    """Return a run."""
    row = connection.execute("SELECT * FROM jobs WHERE run_id = ?", (run_id,)).fetchone()
    return _job(row) if row else None


def list_jobs(connection: sqlite3.Connection) -> list[Job]:
    """Return every run, the latest first."""
    rows = connection.execute("SELECT * FROM jobs ORDER BY started_at DESC, run_id")
    return [_job(row) for row in rows]


def _job(row: sqlite3.Row) -> Job:
    return Job(
        run_id=row["run_id"],
        slug=row["slug"],
        state=JobState(row["state"]),
        progress=row["progress"],
        note=row["note"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
