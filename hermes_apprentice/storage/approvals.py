"""Proposals and the outbox, as tables.

Every function takes a connection inside a transaction, so that a proposal, its
decision and its message are written together with the change that caused them.
Knows nothing about texts or the grammar of replies.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from hermes_apprentice.domain.approval import OutboxMessage, Proposal, ProposalState
from hermes_apprentice.storage.database import Database


def add_proposal(connection: sqlite3.Connection, proposal: Proposal) -> None:
    """Store a new proposal; one that was decided or has expired makes room for it."""
    connection.execute(
        """
        INSERT INTO proposals (proposal_id, subject, nonce, shown, deciders, state,
                               created_at, expires_at, decided_at, decided_by)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (proposal_id) DO UPDATE SET
            nonce = excluded.nonce, shown = excluded.shown, deciders = excluded.deciders,
            state = excluded.state, created_at = excluded.created_at,
            expires_at = excluded.expires_at, decided_at = NULL, decided_by = NULL
        WHERE proposals.state <> 'open'
        """,
        (
            proposal.proposal_id,
            proposal.subject,
            proposal.nonce,
            proposal.shown,
            json.dumps(proposal.deciders),
            proposal.state,
            proposal.created_at,
            proposal.expires_at,
            proposal.decided_at,
            proposal.decided_by,
        ),
    )


def find_proposal(connection: sqlite3.Connection, proposal_id: str) -> Proposal | None:
    """Return a proposal by its handle."""
    row = connection.execute(
        "SELECT * FROM proposals WHERE proposal_id = ?", (proposal_id,)
    ).fetchone()
    return _proposal(row) if row else None


def find_question(connection: sqlite3.Connection, nonce: str) -> Proposal | None:
    """Return the proposal that still carries ``nonce``; asked again, it carries another."""
    row = connection.execute("SELECT * FROM proposals WHERE nonce = ?", (nonce,)).fetchone()
    return _proposal(row) if row else None


def open_proposals(connection: sqlite3.Connection) -> list[Proposal]:
    """Return the undecided proposals, oldest first."""
    rows = connection.execute(
        "SELECT * FROM proposals WHERE state = 'open' ORDER BY created_at, proposal_id"
    )
    return [_proposal(row) for row in rows]


def decide_proposal(
    connection: sqlite3.Connection,
    proposal_id: str,
    state: ProposalState,
    decided_by: str,
    now: float,
) -> bool:
    """Record a decision; returns whether this call made it (an earlier one stays)."""
    changed = connection.execute(
        """
        UPDATE proposals SET state = ?, decided_at = ?, decided_by = ?
        WHERE proposal_id = ? AND state = 'open'
        """,
        (state, now, decided_by, proposal_id),
    )
    return changed.rowcount == 1


def add_message(
    connection: sqlite3.Connection, topic: str, key: str, text: str, now: float
) -> bool:
    """Put a message into the outbox; the same ``key`` twice makes one message.

    Returns:
        Whether the message is new.
    """
    added = connection.execute(
        "INSERT OR IGNORE INTO outbox (topic, key, text, created_at) VALUES (?, ?, ?, ?)",
        (topic, key, text, now),
    )
    return added.rowcount == 1


def waiting_messages(connection: sqlite3.Connection) -> list[OutboxMessage]:
    """Return the undelivered messages in the order they were written."""
    rows = connection.execute("SELECT * FROM outbox WHERE delivered_at IS NULL ORDER BY message_id")
    return [_message(row) for row in rows]


class Claimed(NamedTuple):
    """A message that one deliverer holds for a while."""

    message: OutboxMessage
    """What to send."""

    again: bool
    """Whether an earlier holder vanished, so that it may have been sent already."""


def claim_next(
    connection: sqlite3.Connection,
    holder: str,
    now: float,
    *,
    lease: float,
    written_before: float,
    without: Collection[str] = (),
) -> Claimed | None:
    """Take the oldest message that may be sent now, so that no other deliverer sends it.

    Within a topic the first undelivered message holds back the ones after it.

    Args:
        connection: Inside a transaction.
        holder: Who takes it.
        now: Unix time.
        lease: Seconds until it is free again, if the holder says nothing more.
        written_before: Only messages at least this old, Unix time.
        without: Topics to leave alone.
    """
    row = connection.execute(
        """
        SELECT * FROM outbox AS waiting
        WHERE delivered_at IS NULL AND held_until <= :now AND created_at <= :written_before
          AND topic NOT IN (SELECT value FROM json_each(:without))
          AND NOT EXISTS (
              SELECT 1 FROM outbox AS earlier
              WHERE earlier.topic = waiting.topic AND earlier.delivered_at IS NULL
                AND earlier.message_id < waiting.message_id)
        ORDER BY message_id LIMIT 1
        """,
        {"now": now, "written_before": written_before, "without": json.dumps(sorted(without))},
    ).fetchone()
    if row is None:
        return None
    _hold(connection, row["message_id"], holder, now + lease)
    return Claimed(_message(row), row["holder"] is not None)


def claim_text(
    connection: sqlite3.Connection, text: str, holder: str, now: float, *, lease: float
) -> int | None:
    """Take the newest waiting message with these very words, unless another holds it.

    Returns:
        Its number, or ``None``.
    """
    row = connection.execute(
        """
        SELECT message_id FROM outbox
        WHERE text = ? AND delivered_at IS NULL AND held_until <= ?
        ORDER BY message_id DESC LIMIT 1
        """,
        (text, now),
    ).fetchone()
    if row is None:
        return None
    _hold(connection, row["message_id"], holder, now + lease)
    return int(row["message_id"])


def mark_delivered(connection: sqlite3.Connection, message_id: int, now: float) -> None:
    """Record a delivery."""
    connection.execute(
        """
        UPDATE outbox SET delivered_at = ?, attempts = attempts + 1, last_error = NULL,
                          holder = NULL, held_until = 0
        WHERE message_id = ? AND delivered_at IS NULL
        """,
        (now, message_id),
    )


def mark_failed(
    connection: sqlite3.Connection, message_id: int, error: str, not_before: float = 0.0
) -> None:
    """Record a delivery that certainly failed; the message waits until ``not_before``."""
    connection.execute(
        """
        UPDATE outbox SET attempts = attempts + 1, last_error = ?, holder = NULL, held_until = ?
        WHERE message_id = ? AND delivered_at IS NULL
        """,
        (error, not_before, message_id),
    )


def mark_uncertain(
    connection: sqlite3.Connection, message_id: int, error: str, not_before: float
) -> None:
    """Record a delivery of which nobody knows the end; the next one will say so."""
    connection.execute(
        """
        UPDATE outbox SET attempts = attempts + 1, last_error = ?, held_until = ?
        WHERE message_id = ? AND delivered_at IS NULL
        """,
        (error, not_before, message_id),
    )


def show_courier(connection: sqlite3.Connection, name: str, now: float) -> None:
    """Record that a courier (a live gateway) is at work; couriers of yesterday are forgotten."""
    connection.execute("DELETE FROM couriers WHERE seen_at < ?", (now - 86_400,))
    connection.execute(
        """
        INSERT INTO couriers (name, seen_at) VALUES (?, ?)
        ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
        """,
        (name, now),
    )


def courier_seen(connection: sqlite3.Connection, since: float) -> bool:
    """Tell whether a courier was at work since a moment, Unix time."""
    found = connection.execute("SELECT 1 FROM couriers WHERE seen_at >= ? LIMIT 1", (since,))
    return found.fetchone() is not None


class Names(NamedTuple):
    """What operators talk about."""

    questions: frozenset[str]
    """Handles of the open proposals."""

    specialists: frozenset[str]
    """Slugs."""


def read_names(database: Database) -> Names:
    """Return the names that a reply may hold, without keeping anybody from writing."""
    return Names(
        frozenset(
            row[0]
            for row in database.read("SELECT proposal_id FROM proposals WHERE state = 'open'")
        ),
        frozenset(row[0] for row in database.read("SELECT slug FROM specialists")),
    )


def anything_waits(database: Database) -> bool:
    """Tell whether a message waits, without keeping anybody from writing."""
    return bool(database.read("SELECT 1 FROM outbox WHERE delivered_at IS NULL LIMIT 1"))


def recent_messages(database: Database, limit: int) -> list[OutboxMessage]:
    """Return the latest messages, newest first, without keeping anybody from writing."""
    rows = database.read("SELECT * FROM outbox ORDER BY message_id DESC LIMIT ?", (limit,))
    return [_message(row) for row in rows]


def recent_decisions(database: Database, limit: int) -> list[Proposal]:
    """Return the proposals that were decided or expired last, newest first."""
    rows = database.read(
        """
        SELECT * FROM proposals WHERE state <> 'open'
        ORDER BY COALESCE(decided_at, expires_at) DESC, proposal_id LIMIT ?
        """,
        (limit,),
    )
    return [_proposal(row) for row in rows]


def _hold(connection: sqlite3.Connection, message_id: int, holder: str, until: float) -> None:
    connection.execute(
        "UPDATE outbox SET holder = ?, held_until = ? WHERE message_id = ?",
        (holder, until, message_id),
    )


def _proposal(row: sqlite3.Row) -> Proposal:
    return Proposal(
        proposal_id=row["proposal_id"],
        subject=row["subject"],
        nonce=row["nonce"],
        shown=row["shown"],
        deciders=tuple(json.loads(row["deciders"])),
        state=ProposalState(row["state"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        decided_at=row["decided_at"],
        decided_by=row["decided_by"],
    )


def _message(row: sqlite3.Row) -> OutboxMessage:
    return OutboxMessage(
        message_id=row["message_id"],
        topic=row["topic"],
        key=row["key"],
        text=row["text"],
        created_at=row["created_at"],
        delivered_at=row["delivered_at"],
        attempts=row["attempts"],
    )
