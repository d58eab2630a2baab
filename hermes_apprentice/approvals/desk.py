"""Propose, decide, deliver: the operator's side of every change.

A proposal and its message are written in the caller's transaction. Knows
nothing about Telegram: ``deliver`` is handed a function that sends.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from hermes_apprentice.approvals import messages
from hermes_apprentice.domain.approval import Proposal, ProposalState, Reply
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.errors import DeliveryError, ReplyError
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import (
    add_message,
    add_proposal,
    decide_proposal,
    find_proposal,
    mark_delivered,
    mark_failed,
    open_proposals,
    waiting_messages,
)
from hermes_apprentice.storage.database import Database

_DAY = 86_400.0


def propose(
    connection: sqlite3.Connection, candidate: Candidate, settings: ApprovalSettings, now: float
) -> Proposal:
    """Ask the operator whether to train a candidate: a proposal and its message."""
    proposal = Proposal(
        proposal_id=candidate.candidate_id,
        subject=candidate.pattern.pattern_id,
        nonce=secrets.token_hex(8),
        shown=messages.graduation(candidate),
        deciders=settings.deciders,
        state=ProposalState.OPEN,
        created_at=now,
        expires_at=now + settings.expiry_days * _DAY,
    )
    add_proposal(connection, proposal)
    add_message(
        connection,
        topic=candidate.candidate_id,
        key=f"graduation:{candidate.candidate_id}:{proposal.nonce}",
        text=proposal.shown,
        now=now,
    )
    return proposal


def renew_expired(
    connection: sqlite3.Connection,
    candidate_of: Callable[[str], Candidate | None],
    settings: ApprovalSettings,
    now: float,
) -> int:
    """Ask again about proposals that expired undecided; returns how many.

    Args:
        connection: Inside a transaction.
        candidate_of: Gives the candidate, with its present evidence, by its handle.
        settings: Who decides, and for how long a question stands.
        now: Unix time.
    """
    renewed = 0
    for proposal in open_proposals(connection):
        candidate = candidate_of(proposal.proposal_id) if now >= proposal.expires_at else None
        if candidate is None:
            continue
        decide_proposal(connection, proposal.proposal_id, ProposalState.EXPIRED, "clock", now)
        propose(connection, candidate, settings, now)
        renewed += 1
    return renewed


def resolve(connection: sqlite3.Connection, reply: Reply, who: str, now: float) -> Proposal:
    """Return the open proposal that a reply means, once it is clear that ``who`` may decide.

    Raises:
        ReplyError: There is no such proposal, several fit, it was decided or has
            expired, or this person may not decide it.
    """
    if reply.subject:
        proposal = find_proposal(connection, reply.subject)
        if proposal is None:
            raise ReplyError(f"There is no proposal {reply.subject}. {_open_list(connection)}")
    else:
        waiting = open_proposals(connection)
        if len(waiting) != 1:
            raise ReplyError(
                f"Which one do you mean? {_open_list(connection)}"
                if waiting
                else "Nothing waits for a decision."
            )
        proposal = waiting[0]
    if proposal.state is not ProposalState.OPEN:
        raise ReplyError(
            f"{proposal.proposal_id} was already {proposal.state}"
            + (f" by {proposal.decided_by}." if proposal.decided_by else ".")
        )
    if now >= proposal.expires_at:
        raise ReplyError(f"{proposal.proposal_id} has expired; it is proposed again soon.")
    if proposal.deciders and who not in proposal.deciders:
        raise ReplyError(f"{who} may not decide {proposal.proposal_id}.")
    return proposal


def decide(
    connection: sqlite3.Connection, proposal: Proposal, accepted: bool, who: str, now: float
) -> None:
    """Record a decision, once.

    Raises:
        ReplyError: Somebody else was faster.
    """
    state = ProposalState.ACCEPTED if accepted else ProposalState.DECLINED
    if not decide_proposal(connection, proposal.proposal_id, state, who, now):
        raise ReplyError(f"{proposal.proposal_id} was decided a moment ago.")


class Delivery(NamedTuple):
    """What became of the waiting messages."""

    delivered: int
    """Sent and recorded as sent."""

    failed: int
    """Still waiting."""


def deliver(
    database: Database, send: Callable[[str, str], None], now: float, limit: int = 50
) -> Delivery:
    """Send the waiting messages, oldest first; at least once, in order within a topic.

    Args:
        database: Where the outbox is.
        send: Takes the idempotency key and the text; raises ``DeliveryError``.
        now: Unix time.
        limit: Most messages of one call.
    """
    with database.transaction() as connection:
        waiting = waiting_messages(connection)
    delivered = failed = 0
    blocked: set[str] = set()
    for message in waiting[:limit]:
        if message.topic in blocked:
            continue
        try:
            send(message.key, message.text)
        except DeliveryError as error:
            blocked.add(message.topic)
            failed += 1
            with database.transaction() as connection:
                mark_failed(connection, message.message_id, str(error))
            continue
        with database.transaction() as connection:
            mark_delivered(connection, message.message_id, now)
        delivered += 1
    return Delivery(delivered, failed)


def _open_list(connection: sqlite3.Connection) -> str:
    names = ", ".join(proposal.proposal_id for proposal in open_proposals(connection))
    return f"Open: {names}." if names else "Nothing waits for a decision."
