"""Propose and decide: the operator's side of every change.

A proposal and its message are written in the caller's transaction. A decision
is bound to the question that was shown: a button or a quoted message of an
earlier question decides nothing. Knows nothing about platforms.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection

from hermes_apprentice.approvals import messages
from hermes_apprentice.approvals.grammar import handles_in
from hermes_apprentice.domain.approval import Proposal, ProposalState, Reply, answers_to
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import (
    add_message,
    add_proposal,
    decide_proposal,
    find_proposal,
    find_question,
    open_proposals,
)

_DAY = 86_400.0

_QUESTIONS = {"gc": "graduation", "rt": "retraining", "mp": "merge"}
"""What a question is called in the outbox, by the beginning of its handle."""


def propose(
    connection: sqlite3.Connection, candidate: Candidate, settings: ApprovalSettings, now: float
) -> Proposal:
    """Ask the operator whether to train a candidate: a proposal and its message."""
    return ask(
        connection,
        candidate.candidate_id,
        candidate.pattern.pattern_id,
        messages.graduation(candidate),
        settings,
        now,
    )


def ask(
    connection: sqlite3.Connection,
    handle: str,
    subject: str,
    shown: str,
    settings: ApprovalSettings,
    now: float,
) -> Proposal:
    """Ask the operator a question: a proposal and its message.

    Args:
        connection: Inside a transaction.
        handle: What they answer with; it tells what may be answered.
        subject: What it is about.
        shown: The question.
        settings: Who decides, and for how long it stands.
        now: Unix time.
    """
    proposal = Proposal(
        proposal_id=handle,
        subject=subject,
        nonce=secrets.token_hex(8),
        shown=shown,
        deciders=settings.deciders,
        state=ProposalState.OPEN,
        created_at=now,
        expires_at=now + settings.expiry_days * _DAY,
    )
    add_proposal(connection, proposal)
    add_message(connection, topic=handle, key=question_key(proposal), text=shown, now=now)
    return proposal


def question_key(proposal: Proposal) -> str:
    """Return the key of the message that asks a question."""
    kind = _QUESTIONS[proposal.proposal_id.partition("-")[0]]
    return f"{kind}:{proposal.proposal_id}:{proposal.nonce}"


def nonce_of(key: str) -> str:
    """Return the nonce of the question that a message asks; empty for other messages."""
    kind, _, rest = key.partition(":")
    return rest.rpartition(":")[2] if kind in _QUESTIONS.values() else ""


def may_decide(deciders: Collection[str], who: str) -> bool:
    """Tell whether somebody may decide.

    Whoever can run the CLI owns the machine. Somebody on a platform must be listed, as
    ``telegram:4711`` or as ``4711``; without a list only what runs on this machine decides.
    """
    platform, _, user = who.rpartition(":")
    if who == "cli" or who in deciders:
        return True
    return user in deciders if platform else not deciders


def require_decider(deciders: Collection[str], who: str, what: str) -> None:
    """Refuse somebody who may not decide.

    Raises:
        ReplyError: They may not; the message tells how to change that.
    """
    if not may_decide(deciders, who):
        raise ReplyError(
            f'{who} may not decide {what}. To allow it, add "{who}" to approvals.deciders in '
            "Apprentice's settings.toml."
        )


def renew_expired(
    connection: sqlite3.Connection,
    candidate_of: Callable[[str], Candidate | None],
    settings: ApprovalSettings,
    now: float,
    text_of: Callable[[str], str | None] = lambda handle: None,
) -> int:
    """Ask again about proposals that expired undecided; returns how many.

    Args:
        connection: Inside a transaction.
        candidate_of: Gives the candidate, with its present evidence, by its handle.
        settings: Who decides, and for how long a question stands.
        now: Unix time.
        text_of: Gives the present words of another question by its handle, or ``None`` where
            there is no reason any more to ask it.
    """
    renewed = 0
    for proposal in open_proposals(connection):
        if now < proposal.expires_at:
            continue
        handle = proposal.proposal_id
        candidate = candidate_of(handle)
        text = messages.graduation(candidate) if candidate is not None else text_of(handle)
        decide_proposal(connection, handle, ProposalState.EXPIRED, "clock", now)
        if text is not None:
            ask(connection, handle, proposal.subject, text, settings, now)
            renewed += 1
    return renewed


def resolve(
    connection: sqlite3.Connection,
    reply: Reply,
    who: str,
    now: float,
    deciders: Collection[str] | None = None,
) -> Proposal:
    """Return the open proposal that a reply means, once it is clear that ``who`` may decide.

    Args:
        connection: Inside a transaction.
        reply: What was said, and the button or message it answers.
        who: ``cli``, or a platform and its user id.
        now: Unix time.
        deciders: Who may decide now; by default those of when it was asked.

    Raises:
        ReplyError: There is no such proposal, several fit, it was decided, replaced or
            has expired, or this person may not decide it.
    """
    proposal = meant(connection, reply)
    undecided = proposal.state in (ProposalState.OPEN, ProposalState.EXPIRED)
    if not undecided:
        raise ReplyError(f"{proposal.proposal_id} was already {_decision(proposal)}.")
    if proposal.state is ProposalState.EXPIRED or now >= proposal.expires_at:
        raise ReplyError(f"{proposal.proposal_id} has expired; it is proposed again soon.")
    require_decider(proposal.deciders if deciders is None else deciders, who, proposal.proposal_id)
    return proposal


def meant(connection: sqlite3.Connection, reply: Reply) -> Proposal:
    """Return the proposal that a reply is about, decided or not.

    Raises:
        ReplyError: None, or more than one, or the question it answers was replaced.
    """
    if reply.nonce:
        proposal = find_question(connection, reply.nonce)
        if proposal is None:
            raise ReplyError("This question was replaced by a newer one; answer that, please.")
        return _answered_so(proposal, reply)
    quoted = [one for one in handles_in(reply.quoted) if find_proposal(connection, one)]
    if reply.subject and quoted and reply.subject not in quoted:
        raise ReplyError(
            f"Your reply names {reply.subject}, the message it answers is about {quoted[0]}. "
            "Which one do you mean?"
        )
    subject = reply.subject or (quoted[0] if len(set(quoted)) == 1 else "")
    if not subject:
        waiting = [
            one for one in open_proposals(connection) if reply.action in answers_to(one.proposal_id)
        ]
        if len(waiting) != 1:
            names = ", ".join(one.proposal_id for one in waiting)
            raise ReplyError(
                f"Which one do you mean? Open: {names}." if names else _open_list(connection)
            )
        return waiting[0]
    proposal = find_proposal(connection, subject)
    if proposal is None:
        raise ReplyError(f"There is no proposal {subject}. {_open_list(connection)}")
    if quoted and _is_question(reply.quoted) and not _shows(reply.quoted, proposal):
        raise ReplyError(
            f"That message about {subject} is out of date; answer the newest one, or type "
            f"the reply without quoting."
        )
    return _answered_so(proposal, reply)


def _answered_so(proposal: Proposal, reply: Reply) -> Proposal:
    answers = answers_to(proposal.proposal_id)
    if reply.action not in answers:
        raise ReplyError(f"{proposal.proposal_id} is answered with {' or '.join(answers[:2])}.")
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
        winner = find_proposal(connection, proposal.proposal_id) or proposal
        raise ReplyError(f"{proposal.proposal_id} was {_decision(winner)} a moment ago.")


def _decision(proposal: Proposal) -> str:
    return f"{proposal.state} by {proposal.decided_by}" if proposal.decided_by else proposal.state


def _is_question(text: str) -> bool:
    return any(marker in text for marker in messages.REPLY_MARKERS)


def _shows(text: str, proposal: Proposal) -> bool:
    """Whether a quoted message is the present question, whatever was put around it."""
    return _bare(proposal.shown) in _bare(text)


def _bare(text: str) -> str:
    return "".join(character for character in text if character.isalnum())


def _open_list(connection: sqlite3.Connection) -> str:
    names = ", ".join(proposal.proposal_id for proposal in open_proposals(connection))
    return f"Open: {names}." if names else "Nothing waits for a decision."
