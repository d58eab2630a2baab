"""Carry out what the operator decides about a proposal: train, train again, merge, or not.

The decision and what follows from it are one transaction, so it is made once
whoever answers at the same time.
"""

from __future__ import annotations

import sqlite3

from hermes_apprentice.approvals import changes, desk, messages
from hermes_apprentice.domain.approval import ACCEPTING, Action, Proposal, Reply
from hermes_apprentice.domain.merge import Merge
from hermes_apprentice.domain.pattern import CandidateState
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import kinds, merging, retraining
from hermes_apprentice.pipeline.steps import new_run_id, new_specialist
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.approvals import add_message, find_proposal
from hermes_apprentice.storage.merges import find_merge
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.specialists import save_specialist


def decide(shop: Workshop, reply: Reply, who: str) -> str:
    """Carry out an answer to a proposal, and return what to tell.

    Raises:
        ReplyError: It is not clear which, it was decided, or they may not decide it.
    """
    now = shop.clock()
    with shop.database.transaction() as connection:
        if reply.action is Action.DETAILS:
            return _details(connection, reply)
        proposal = desk.resolve(connection, reply, who, now, shop.settings.approvals.deciders)
        accepted = reply.action in ACCEPTING
        desk.decide(connection, proposal, accepted, who, now)
        begins = proposal.proposal_id.partition("-")[0]
        carry_out = {"gc": _candidate, "rt": _retraining, "mp": _merge}[begins]
        text = carry_out(connection, proposal, reply, who, now)
        if accepted:
            key = f"accepted:{proposal.nonce}"
            add_message(connection, proposal.proposal_id, key, text, now)
        return text


def words_of(connection: sqlite3.Connection, handle: str) -> str | None:
    """Return a question that is not about a candidate as it would be asked today, if it would."""
    if handle.startswith("mp-"):
        return merging.present_question(connection, handle)
    proposal = find_proposal(connection, handle)
    if proposal is None or not handle.startswith("rt-"):
        return None
    return retraining.present_question(connection, handle, proposal.shown)


def _details(connection: sqlite3.Connection, reply: Reply) -> str:
    handle = reply.subject or desk.meant(connection, reply).proposal_id
    if handle.startswith("mp-"):
        return changes.merge_details(_known_merge(connection, handle))
    if handle.startswith("rt-"):
        proposal = find_proposal(connection, handle)
        if proposal is None:
            raise ReplyError(f"There is no proposal {handle}.")
        return proposal.shown
    return messages.details(PatternStore(connection).candidate(handle))


def _candidate(
    connection: sqlite3.Connection, proposal: Proposal, reply: Reply, who: str, now: float
) -> str:
    store = PatternStore(connection)
    candidate = store.candidate(proposal.proposal_id)
    accepted = reply.action in ACCEPTING
    state = CandidateState.APPROVED if accepted else CandidateState.SKIPPED
    store.set_candidate_state(candidate.candidate_id, state)
    if not accepted:
        return messages.skipped(candidate.candidate_id, who)
    pattern = candidate.pattern
    kinds.choose(connection, pattern.pattern_id, reply.kind)
    kind = kinds.kind_of(connection, pattern.pattern_id, pattern.kind)
    save_specialist(connection, new_specialist(candidate, kind, now))
    return messages.training_queued(candidate.candidate_id, pattern.slug, who, reply.kind)


def _retraining(
    connection: sqlite3.Connection, proposal: Proposal, reply: Reply, who: str, now: float
) -> str:
    if reply.action not in ACCEPTING:
        return messages.skipped(proposal.proposal_id, who)
    return retraining.accept(
        connection, proposal.proposal_id, proposal.subject, reply.kind, new_run_id(), who, now
    )


def _merge(
    connection: sqlite3.Connection, proposal: Proposal, reply: Reply, who: str, now: float
) -> str:
    merge = _known_merge(connection, proposal.proposal_id)
    if reply.action not in ACCEPTING:
        return merging.decline(connection, merge, who, now)
    return merging.accept(connection, merge, new_run_id(), who, now)


def _known_merge(connection: sqlite3.Connection, handle: str) -> Merge:
    merge = find_merge(connection, handle)
    if merge is None:
        raise ReplyError(f"There is no merge proposal {handle}.")
    return merge
