"""Make one specialist of two: the question, the consent, and the end.

In between a merged specialist takes the same steps as any other (``steps``), and
the sidecar moves it along its rollout. Its parents serve until it is live; then
they retire, and their patterns become part of its own, in one transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from hermes_apprentice.approvals import changes, desk
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.merge import Merge, MergeState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline.pairing import SERVING, close_pairs, is_under_way, look, whole_of
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.approvals import add_message, decide_proposal, find_proposal
from hermes_apprentice.storage.merges import find_merge, list_merges, merge_into, save_merge
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import (
    find_specialist,
    save_specialist,
)
from hermes_apprentice.storage.tenants import owner_of, pass_on

AGENT = "agent"
"""Hermes' agent, which does not ask again what was rejected."""

GROWTH = 2.0
"""A declined pair is proposed again by itself when it has this many times the requests."""


def propose(shop: Workshop, left: str, right: str, asked_by: str) -> Merge:
    """Ask the operator to merge two specialists.

    Raises:
        ReplyError: They cannot be merged, or were asked about already.
    """
    merge = look(shop, left, right, asked_by)
    with shop.database.transaction() as connection:
        known = find_merge(connection, merge.merge_id)
        declined = known is not None and known.state is MergeState.DECLINED
        if known is not None and declined and asked_by == AGENT and not _changed(known, merge):
            raise ReplyError(f"The operator rejected {merge.merge_id}; only they can change that.")
        _refuse_again(connection, merge)
        _ask(connection, shop, merge)
    return merge


def propose_alike(shop: Workshop) -> list[Merge]:
    """Ask about specialists of one task and shape; at most once per pair until it changes.

    Two are alike where the detector would have made one pattern of them: the same kind,
    close centres, and answers that fit one shape.
    """
    proposed = []
    for left, right in close_pairs(shop):
        try:
            merge = look(shop, left, right, "detector")
            if not merge.alike:
                continue
            with shop.database.transaction() as connection:
                known = find_merge(connection, merge.merge_id)
                if known is None or _changed(known, merge):
                    _refuse_again(connection, merge)
                    _ask(connection, shop, merge)
                    proposed.append(merge)
        except ReplyError:
            continue  # the pair cannot be merged now; nobody asked about it
    return proposed


def accept(connection: sqlite3.Connection, merge: Merge, run_id: str, who: str, now: float) -> str:
    """Begin a merge and return what to tell.

    Args:
        connection: Inside the transaction of the decision.
        merge: What was proposed.
        run_id: Of the first training.
        who: Who decided.
        now: Unix time.

    Raises:
        ReplyError: One of the two changed since.
    """
    why = _stale(connection, merge)
    if why is not None:
        raise ReplyError(f"{merge.merge_id} is out of date: {why}. Propose the merge again.")
    store = PatternStore(connection)
    stored = {one.pattern.pattern_id: one for one in store.stored()}
    known = stored.get(merge.pattern.pattern_id)
    _, taken = store.names()
    if known is None and merge.pattern.slug in taken:
        mark = merge.pattern.pattern_id[3:9]
        merge = replace(merge, pattern=replace(merge.pattern, slug=f"merged-{mark}"))
    left = stored[merge.left.pattern.pattern_id]
    # Members come when the parents retire; until then the place of the whole is not used.
    store.save(replace(left, pattern=replace(merge.pattern, size=0)), now)
    save_specialist(
        connection,
        Specialist(
            slug=merge.pattern.slug,
            pattern_id=merge.pattern.pattern_id,
            candidate_id=merge.merge_id,
            kind=merge.pattern.kind,
            step=Step.APPROVED,
            reason=f"The operator said merge: {' and '.join(merge.slugs)}.",
            run_id=run_id,
            version=None,
            updated_at=now,
        ),
    )
    pass_on(connection, merge.left.slug, merge.pattern.slug)
    save_merge(connection, replace(merge, state=MergeState.ACCEPTED, updated_at=now))
    return changes.merge_accepted(merge, who)


def decline(connection: sqlite3.Connection, merge: Merge, who: str, now: float) -> str:
    """Record a no, and return what to tell."""
    save_merge(connection, replace(merge, state=MergeState.DECLINED, updated_at=now))
    return changes.merge_declined(merge, who)


def settle(shop: Workshop) -> None:
    """End the merges that have come to their end: done, or called off.

    Each in one transaction, so a tick that is killed here ends them the next time.
    """
    with shop.database.transaction() as connection:
        accepted = list_merges(connection, MergeState.ACCEPTED)
    for merge in accepted:
        whole = None
        with shop.database.transaction() as connection:
            rollout = find_rollout(connection, merge.pattern.slug)
        if rollout is not None and rollout.stage is Stage.LIVE:
            whole = whole_of(shop, merge)
        with shop.database.transaction() as connection:
            _end(connection, merge, whole, shop.clock())


def merge_of(shop: Workshop, specialist: Specialist) -> Merge | None:
    """Return the merge that a specialist comes from while its parents still serve."""
    with shop.database.transaction() as connection:
        return merge_into(connection, specialist.slug)


def may_be_trained(connection: sqlite3.Connection, specialist: Specialist) -> bool:
    """Whether a specialist has requests of its own, or parents that still serve."""
    if PatternStore(connection).is_merged(specialist.pattern_id):
        return False
    own = [one for one in list_merges(connection) if one.pattern.slug == specialist.slug]
    return all(one.state in (MergeState.ACCEPTED, MergeState.DONE) for one in own)


def present_question(connection: sqlite3.Connection, handle: str) -> str | None:
    """Return the words of a merge's question as they are today."""
    merge = find_merge(connection, handle)
    if merge is None or merge.state is not MergeState.PROPOSED:
        return None
    return changes.merge_question(merge) if _stale(connection, merge) is None else None


# --- asking ---------------------------------------------------------------------------


def _changed(known: Merge, now: Merge) -> bool:
    """Whether a pair that was asked about is another one by now."""
    if known.state is MergeState.DONE:
        return False
    versions = [(one.left.version, one.right.version) for one in (known, now)]
    grown = now.pattern.size >= GROWTH * known.pattern.size
    return versions[0] != versions[1] or (grown and known.state is not MergeState.PROPOSED)


def _refuse_again(connection: sqlite3.Connection, merge: Merge) -> None:
    known = find_merge(connection, merge.merge_id)
    accepted = known is not None and known.state is MergeState.ACCEPTED
    if known is not None and accepted and is_under_way(connection, known):
        raise ReplyError(f"{merge.merge_id} is under way already.")
    proposal = find_proposal(connection, merge.merge_id)
    if proposal is None or proposal.state is not ProposalState.OPEN:
        return
    if known is None or _stale(connection, known) is None:
        raise ReplyError(
            f"{merge.merge_id} asks that already; reply: merge {merge.merge_id}, or "
            f"reject {merge.merge_id}"
        )
    decide_proposal(connection, merge.merge_id, ProposalState.EXPIRED, "clock", merge.updated_at)


def _ask(connection: sqlite3.Connection, shop: Workshop, merge: Merge) -> None:
    save_merge(connection, merge)
    desk.ask(
        connection,
        merge.merge_id,
        merge.pattern.pattern_id,
        changes.merge_question(merge),
        shop.settings.approvals,
        shop.clock(),
    )


# --- ending ---------------------------------------------------------------------------


def _stale(connection: sqlite3.Connection, merge: Merge) -> str | None:
    """Return why a merge makes no sense any more, or ``None``."""
    for parent in (merge.left, merge.right):
        specialist = find_specialist(connection, parent.slug)
        rollout = find_rollout(connection, parent.slug)
        if specialist is None or rollout is None or rollout.stage is Stage.RETIRED:
            return f"'{parent.slug}' is out of service"
        if specialist.version != parent.version:
            return f"'{parent.slug}' has another version now"
    slugs = set(merge.slugs)
    if merge.state is MergeState.ACCEPTED:
        slugs.add(merge.pattern.slug)
    if len({owner_of(connection, slug) for slug in slugs}) > 1:
        return "they belong to different tenants now"
    return None


def _end(
    connection: sqlite3.Connection, merge: Merge, whole: StoredPattern | None, now: float
) -> None:
    """End one merge if it is over, reading everything again inside the transaction."""
    slug = merge.pattern.slug
    specialist, rollout = find_specialist(connection, slug), find_rollout(connection, slug)
    why = _stale(connection, merge)
    if specialist is None or (rollout is not None and rollout.version != specialist.version):
        rollout = None  # of an earlier attempt
    if why is None and rollout is not None:
        if rollout.stage is Stage.LIVE:
            _take_over(connection, merge, whole, now)
            return
        if rollout.stage is Stage.QUARANTINED:
            why = f"'{slug}' did not agree with the upstream often enough"
        elif rollout.stage is Stage.RETIRED:
            why = f"'{slug}' was taken out of service"
    if why is None:
        return
    if specialist is None or specialist.step is Step.REJECTED:
        # The gate refused it and said so; this only closes the book.
        save_merge(connection, replace(merge, state=MergeState.FAILED, updated_at=now))
        return
    if rollout is not None and rollout.stage in SERVING:
        _retire(connection, rollout, f"called off: {why}", now)
    reason = f"The merge was called off: {why}."
    save_specialist(
        connection, replace(specialist, step=Step.REJECTED, reason=reason, updated_at=now)
    )
    save_merge(connection, replace(merge, state=MergeState.FAILED, updated_at=now))
    key = f"merge_called_off:{merge.merge_id}:{specialist.run_id}"
    add_message(connection, merge.merge_id, key, changes.merge_called_off(merge, why), now)


def _take_over(
    connection: sqlite3.Connection, merge: Merge, whole: StoredPattern | None, now: float
) -> None:
    store = PatternStore(connection)
    pattern_id, slug = merge.pattern.pattern_id, merge.pattern.slug
    for parent in merge.slugs:
        rollout = find_rollout(connection, parent)
        if rollout is not None:
            _retire(connection, rollout, f"merged into '{slug}'", now)
    if whole is not None:
        store.save(whole, now)
    store.absorb(pattern_id, [merge.left.pattern.pattern_id, merge.right.pattern.pattern_id])
    save_merge(connection, replace(merge, state=MergeState.DONE, updated_at=now))
    key = f"merge_done:{merge.merge_id}:{now:.3f}"
    add_message(connection, merge.merge_id, key, changes.merge_done(merge), now)


def _retire(connection: sqlite3.Connection, rollout: Rollout, reason: str, now: float) -> None:
    retired = replace(rollout, stage=Stage.RETIRED, share=0.0, step_started_at=now, reason=reason)
    save_rollout(connection, retired, now)
