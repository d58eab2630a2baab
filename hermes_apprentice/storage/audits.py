"""What the upstream said where a specialist had answered already, as a table.

The sidecar writes a text when an audit is done; it is raw, as an exchange's is, and goes with
its session. Knows nothing about how answers are compared or learnt from.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.storage.aio import AsyncDatabase

STRANDED = 30 * 86_400.0
"""Seconds after which an answer goes whose session the observer never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedAnswer:
    """The upstream's answer to a request that a specialist had answered."""

    request_id: str
    """Name of the specialist's call in the ledger."""

    session_id: str
    """Hermes' session."""

    at: float
    """Unix time."""

    model: str
    """The model's name upstream."""

    answer: str
    """Its text."""


async def save_audited(database: AsyncDatabase, audited: AuditedAnswer) -> None:
    """Keep an answer, unless its session was forgotten.

    Raises:
        StorageError: The database cannot be written.
    """
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT OR REPLACE INTO audited_answers (request_id, session_id, at, model, answer) "
            "SELECT ?1, ?2, ?3, ?4, ?5 "
            "WHERE ?2 NOT IN (SELECT session_id FROM forgotten_sessions)",
            (audited.request_id, audited.session_id, audited.at, audited.model, audited.answer),
        )


def audited_members(connection: sqlite3.Connection, pattern_id: str) -> dict[str, AuditedAnswer]:
    """Return the upstream's answers to a pattern's requests that a specialist answered, by id.

    The ledger tells which call was which turn: the same session, at a time within the turn's.
    """
    rows = connection.execute(
        """
        SELECT exchange_id, audited_answers.* FROM pattern_members
        JOIN exchanges USING (exchange_id)
        JOIN ledger ON ledger.session = exchanges.session_id AND route = 'specialist'
            AND ledger.at BETWEEN asked_at - 2 AND answered_at + 2
        JOIN audited_answers ON audited_answers.request_id = ledger.request_id
            AND audited_answers.session_id = exchanges.session_id
        WHERE pattern_id = ? ORDER BY ledger.at
        """,
        (pattern_id,),
    )
    return {
        row["exchange_id"]: AuditedAnswer(
            request_id=row["request_id"],
            session_id=row["session_id"],
            at=row["at"],
            model=row["model"],
            answer=row["answer"],
        )
        for row in rows
    }


def drop_stranded(connection: sqlite3.Connection, now: float) -> int:
    """Remove old answers that belong to no session that was read; returns how many."""
    return connection.execute(
        "DELETE FROM audited_answers WHERE at < ? AND NOT EXISTS "
        "(SELECT 1 FROM exchanges WHERE exchanges.session_id = audited_answers.session_id)",
        (now - STRANDED,),
    ).rowcount
