"""Ask to train a specialist again that fell behind, and to retire one that nobody asks.

Both are questions: nothing is trained or retired without the operator. Each is
asked once per version.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace

from hermes_apprentice.approvals import changes, desk
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.errors import DatasetError, RegistryError, ReplyError
from hermes_apprentice.pipeline import kinds
from hermes_apprentice.pipeline.past import dataset_of, lessons
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.statistics.intervals import binomial_upper
from hermes_apprentice.storage.approvals import add_message, find_proposal
from hermes_apprentice.storage.forgotten import tainted_versions
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.rollouts import last_asked, latest, list_rollouts
from hermes_apprentice.storage.specialists import find_specialist, save_specialist

RECENT = 50
"""Latest comparisons that tell whether a specialist drifts."""

LEAST = 20
"""Comparisons below which nothing is concluded."""

CONFIDENCE = 0.99
"""That recent agreement is below the target before retraining is proposed; every tick looks."""

_SETTLED = (Step.REGISTERED, Step.REJECTED, Step.WAITING, Step.FAILED)

_DAY = 86_400.0


def propose_retraining(shop: Workshop) -> list[str]:
    """Ask about every specialist that is quarantined or drifts; returns the handles."""
    asked = []
    with shop.database.transaction() as connection:
        fallen = [
            (one, rollout, why)
            for rollout in list_rollouts(connection)
            if (one := find_specialist(connection, rollout.slug)) is not None
            and one.version == rollout.version
            and one.step in (Step.REGISTERED, Step.REJECTED, Step.WAITING)
            and not PatternStore(connection).is_merged(one.pattern_id)
            and (why := _fallen(shop, connection, rollout))
            and find_proposal(connection, handle_of(one.slug, rollout.version)) is None
        ]
    for specialist, rollout, why in fallen:
        newer = _newer(shop, specialist)
        if not newer:
            continue  # there is nothing to learn from yet
        handle = handle_of(specialist.slug, rollout.version)
        text = changes.retraining_question(handle, specialist.slug, rollout.version, why, newer)
        with shop.database.transaction() as connection:
            if find_proposal(connection, handle) is None:
                desk.ask(
                    connection,
                    handle,
                    specialist.slug,
                    text,
                    shop.settings.approvals,
                    shop.clock(),
                )
                asked.append(handle)
    return asked


def propose_without_forgotten(shop: Workshop) -> list[str]:
    """Ask about every version in service that was trained on forgotten sessions.

    Asked again when more of its sessions were forgotten since the operator said no.

    Returns:
        The handles of the questions that are open, new or not.
    """
    handles = []
    with shop.database.transaction() as connection:
        for one in tainted_versions(connection):
            specialist = find_specialist(connection, one.slug)
            if (
                specialist is None
                or specialist.version != one.version
                or specialist.step not in _SETTLED
                or PatternStore(connection).is_merged(specialist.pattern_id)
            ):
                continue
            handle = handle_of(one.slug, one.version)
            known = find_proposal(connection, handle)
            if known is None or (
                known.state is not ProposalState.OPEN and known.created_at < one.at
            ):
                left = len(PatternStore(connection).members(specialist.pattern_id))
                text = changes.forgotten_question(handle, one.slug, one.version, one.examples, left)
                approvals = shop.settings.approvals
                desk.ask(connection, handle, one.slug, text, approvals, shop.clock())
            elif known.state is not ProposalState.OPEN:
                continue
            handles.append(handle)
    return handles


def present_question(connection: sqlite3.Connection, handle: str, shown: str) -> str | None:
    """Return the words of a question that expired, or ``None`` if it is not worth asking again."""
    proposal = find_proposal(connection, handle)
    specialist = find_specialist(connection, proposal.subject) if proposal is not None else None
    return shown if specialist is not None and _is_about(specialist, handle) else None


def accept(
    connection: sqlite3.Connection,
    handle: str,
    slug: str,
    kind: Kind | None,
    run_id: str,
    who: str,
    now: float,
) -> str:
    """Begin the retraining of a specialist, and return what to tell.

    Args:
        connection: Inside a transaction.
        handle: Of the question.
        slug: The specialist.
        kind: What to train it as from now on; ``None`` for as before.
        run_id: Name of the new run.
        who: Who decided.
        now: Unix time.

    Raises:
        ReplyError: The question is about a version that is not in service any more, or the answers
            can never come from this kind.
    """
    specialist = find_specialist(connection, slug)
    if specialist is None or not _is_about(specialist, handle):
        raise ReplyError(f"{handle} is out of date: '{slug}' has another version now.")
    kinds.choose(connection, specialist.pattern_id, kind)
    begin(connection, specialist, kind, run_id, f"{who} said train again.", now)
    return changes.retraining_queued(handle, slug, who, kind)


def begin(
    connection: sqlite3.Connection,
    specialist: Specialist,
    kind: Kind | None,
    run_id: str,
    reason: str,
    now: float,
) -> None:
    """Put a specialist back to its first step; what is in service stays in service.

    It becomes ``kind``, or what the operator had chosen for it, or what it was.
    """
    save_specialist(
        connection,
        replace(
            specialist,
            kind=kind or kinds.kind_of(connection, specialist.pattern_id, specialist.kind),
            step=Step.APPROVED,
            reason=reason,
            run_id=run_id,
            updated_at=now,
        ),
    )


def propose_retirement(shop: Workshop) -> list[str]:
    """Ask about specialists that saw no request of theirs for a long time; returns their names.

    Asked once per silence: when requests come again and stop again, it is asked again.
    """
    now, days = shop.clock(), shop.settings.rollout.idle_days
    silent = []
    with shop.database.transaction() as connection:
        for rollout in list_rollouts(connection):
            if rollout.stage not in (Stage.SHADOW, Stage.CANARY, Stage.LIVE):
                continue
            asked = last_asked(connection, rollout.slug)
            since = max(asked or 0.0, rollout.step_started_at)
            if now - since < days * _DAY:
                continue
            text = changes.idle(rollout.slug, rollout.version, (now - since) / _DAY)
            key = f"idle:{rollout.slug}:{rollout.version}:{since:.0f}"
            if add_message(connection, f"specialist:{rollout.slug}", key, text, now):
                silent.append(rollout.slug)
    return silent


def handle_of(slug: str, version: int) -> str:
    """Return the handle of the question about one version."""
    return "rt-" + hashlib.sha256(f"{slug}\x00{version}".encode()).hexdigest()[:6]


def _is_about(specialist: Specialist, handle: str) -> bool:
    return specialist.version is not None and handle == handle_of(
        specialist.slug, specialist.version
    )


def _fallen(shop: Workshop, connection: sqlite3.Connection, rollout: Rollout) -> str:
    """Return why a version should be trained again; empty where it should not."""
    if rollout.stage is Stage.QUARANTINED:
        return f"it is quarantined, {rollout.reason}"
    if rollout.stage not in (Stage.CANARY, Stage.LIVE):
        return ""
    recent = latest(connection, rollout.slug, rollout.version, RECENT)
    target = shop.settings.rollout.target_agreement
    agreed = sum(recent)
    if len(recent) < LEAST or binomial_upper(agreed, len(recent), CONFIDENCE) >= target:
        return ""
    return f"{agreed} of the last {len(recent)} answers equal the upstream's, {target:.0%} should"


def _newer(shop: Workshop, specialist: Specialist) -> int:
    """Count the exchanges to learn from that came after the version's dataset."""
    found = lessons(shop, specialist.pattern_id)
    try:
        manifest = shop.registry.open_version(specialist.slug, specialist.version or 0).manifest
        known = max(one.asked_at for one in dataset_of(shop, manifest).examples)
    except (RegistryError, DatasetError):
        return len(found)  # nothing is left to compare with: all of it is new
    return sum(one.asked_at > known for one in found)
