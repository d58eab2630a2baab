"""Who answers a request that matched: the specialist or the upstream?

Pure and sticky: the same session gets the same answer while a share stays or
grows, and whether an answer is audited depends on the request's id alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hermes_apprentice.domain.routing import Rollout, in_canary
from hermes_apprentice.domain.specialist import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do with one matching request."""

    answer: bool
    """Whether the specialist is asked to answer."""

    shadow: bool
    """Whether the specialist runs beside the upstream, to be compared."""

    audit: bool
    """Whether the upstream is asked about the specialist's answer afterwards."""

    reason: str
    """A fixed word for the ledger."""

    repeat: bool = False
    """Whether the upstream, where it is asked at all, is asked twice."""


def decide(
    rollout: Rollout,
    session: str,
    request_id: str,
    audit_share: float,
    repeat_share: float = 0.0,
) -> Plan:
    """Return the plan for one request.

    Args:
        rollout: How far the matching specialist has come.
        session: What the choice sticks to.
        request_id: What the audit is drawn by.
        audit_share: Share of a specialist's answers that are audited, 0 to 1.
        repeat_share: Share of the compared requests that the upstream is asked twice, 0 to 1.
    """
    repeat = _drawn("repeat", request_id, repeat_share)
    if rollout.stage is Stage.SHADOW:
        return Plan(answer=False, shadow=True, audit=False, reason="shadow", repeat=repeat)
    if rollout.stage is Stage.CANARY and not in_canary(rollout.slug, session, rollout.share):
        return Plan(answer=False, shadow=True, audit=False, reason="canary", repeat=repeat)
    if rollout.stage in (Stage.CANARY, Stage.LIVE):
        audit = _drawn("audit", request_id, audit_share)
        return Plan(
            answer=True,
            shadow=False,
            audit=audit,
            reason=rollout.stage.value,
            repeat=audit and repeat,
        )
    return Plan(answer=False, shadow=False, audit=False, reason=rollout.stage.value)


def answers(rollout: Rollout, session: str) -> bool:
    """Whether a session belongs to those that a specialist answers."""
    if rollout.stage is Stage.CANARY:
        return in_canary(rollout.slug, session, rollout.share)
    return rollout.stage is Stage.LIVE


def _drawn(what: str, request_id: str, share: float) -> bool:
    digest = hashlib.sha256(f"{what}\x00{request_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share
