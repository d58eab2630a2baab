"""Proposals and the outbox, as tables.

Every function takes a connection inside a transaction, so that a proposal, its
decision and its message are written together with the change that caused them.
Knows nothing about texts or the grammar of replies.
"""

from __future__ import annotations

import json
import sqlite3

from hermes_apprentice.domain.approval import OutboxMessage, Proposal, ProposalState


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


def mark_delivered(connection: sqlite3.Connection, message_id: int, now: float) -> None:
    """Record a delivery."""
    connection.execute(
        """
        UPDATE outbox SET delivered_at = ?, attempts = attempts + 1, last_error = NULL
        WHERE message_id = ? AND delivered_at IS NULL
        """,
        (now, message_id),
    )


def mark_failed(connection: sqlite3.Connection, message_id: int, error: str) -> None:
    """Record a failed delivery; the message stays in the outbox."""
    connection.execute(
        "UPDATE outbox SET attempts = attempts + 1, last_error = ? WHERE message_id = ?",
        (error, message_id),
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
