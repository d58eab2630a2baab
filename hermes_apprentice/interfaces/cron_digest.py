"""The week in a few lines: what waits, what moved, what was saved.

Pure but for reading the database; ``None`` where there is nothing to say.
"""

from __future__ import annotations

from collections import Counter

from hermes_apprentice.domain.money import dollars
from hermes_apprentice.domain.pattern import CandidateState
from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.ledger.budget import budget
from hermes_apprentice.ledger.roi import roi
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import open_proposals
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.rollouts import find_rollout
from hermes_apprentice.storage.specialists import list_specialists

_NAMED = 5


def digest_of(database: Database, settings: Settings, since: float, now: float) -> str | None:
    """Return the digest of the time from ``since`` to ``now``, or ``None``.

    Raises:
        StorageError: The database cannot be read.
    """
    with database.transaction() as connection:
        waiting = PatternStore(connection).candidates(CandidateState.OPEN)
        questions = [
            one.proposal_id
            for one in open_proposals(connection)
            if not one.proposal_id.startswith("gc-")
        ]
        specialists = list_specialists(connection)
        stages = Counter(
            rollout.stage
            for one in specialists
            if (rollout := find_rollout(connection, one.slug)) is not None
        )
    account = roi(database, since, now)
    if not waiting and not specialists and not account.requests:
        return None
    lines = ["Apprentice, the last seven days:"]
    if account.requests:
        saved = sum(one.saved for one in account.specialists)
        audits = sum(one.audits for one in account.specialists)
        lines.append(
            f"- {account.requests} model calls; specialists answered {account.routed_share:.0%} of "
            f"your requests and saved {dollars(saved)} (an estimate), less {dollars(audits)} for "
            "audits."
        )
    if stages:
        named = ", ".join(f"{stages[stage]} {stage}" for stage in Stage if stages[stage])
        lines.append(f"- Specialists: {named}.")
    stuck = [one.slug for one in specialists if one.step is Step.FAILED]
    if stuck:
        lines.append(f"- Training failed: {_some(stuck)}. Try again: apprentice tick --retry NAME")
    if waiting:
        handles = _some([item.candidate_id for item in waiting])
        lines.append(
            f"- Waiting for your decision: {handles}. "
            "To decide, reply with train or skip and the handle."
        )
    if questions:
        lines.append(f"- Asked about specialists: {_some(questions)}. Reply: details HANDLE")
    month = budget(database, settings.budget, now)
    if month.ceiling or month.spent:
        lines.append(
            f"- Paid training in {month.month}: {dollars(month.spent)} of {dollars(month.ceiling)}."
        )
    return "\n".join(lines)


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
