"""Whether a specialist may take its next step, stays, or is taken out.

Pure: a rollout and its comparisons go in, the next rollout comes out. Evidence
may be looked at after every request without losing its meaning; see
``statistics.sequential`` for why. Only answers that could be compared count:
abstentions, failures and timeouts are no evidence for anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hermes_apprentice.domain.routing import Rollout, step_after
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.statistics.sequential import (
    confidence_lower,
    evidence_above,
    evidence_below,
    rise_evidence,
)
from hermes_apprentice.storage.rollouts import Notice, Seen

RUN_LENGTH = 2_000
"""Comparisons between two false alarms of the drift detector, at least and on average, for a
specialist whose agreement is exactly the target; a better one alarms more rarely."""

SHADOW_ALPHA = 0.01
"""Chance that a specialist at or above the target is ever given up in shadow. Nothing that it
says there is sent, so there is no fall to be quick about."""

ALERT = 10.0
"""Evidence of a fall from which a live specialist is audited more closely."""

RECENT = 25
"""Latest comparisons that a message about a fall quotes."""

DRIFT_WINDOW = 250
"""Latest comparisons that the drift detector looks back on."""

_ACTIVE = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the comparisons say about a version."""

    compared: int
    """Comparable answers since the version was registered."""

    agreed: int
    """Those that equalled the upstream's."""

    new: int
    """Comparable answers since the present share began."""

    evidence: float
    """E-value that agreement is above the target."""

    needed: float
    """E-value that a step takes: one over the accepted chance of a wrong promotion."""

    lower: float
    """Lower bound of the agreement that holds at all times together."""

    drift: float
    """Evidence that agreement has fallen below the target; `RUN_LENGTH` is an alarm."""

    against: float = 1.0
    """E-value that agreement was below the target all along; in shadow, one over `SHADOW_ALPHA`
    is an alarm."""

    recent: int = 0
    """The latest comparable answers, at most `RECENT`."""

    recent_agreed: int = 0
    """Those that equalled the upstream's."""


def progress(rollout: Rollout, history: Sequence[Seen], settings: RolloutSettings) -> Progress:
    """Sum up the comparisons of a version, oldest first."""
    agreed = sum(seen.agreed for seen in history)
    latest = history[-RECENT:]
    return Progress(
        compared=len(history),
        agreed=agreed,
        new=sum(seen.at >= rollout.step_started_at for seen in history),
        evidence=evidence_above(agreed, len(history), settings.target_agreement),
        needed=1 / settings.alpha,
        lower=confidence_lower(agreed, len(history), settings.alpha),
        drift=drift_evidence([seen.agreed for seen in history], settings.target_agreement),
        against=evidence_below(agreed, len(history), settings.target_agreement),
        recent=len(latest),
        recent_agreed=sum(seen.agreed for seen in latest),
    )


def drift_evidence(agreed: Sequence[bool], target: float) -> float:
    """Return the evidence that agreement fell below the target at some point.

    `rise_evidence` of disagreements. While agreement stays at or above the target, an alarm at
    ``RUN_LENGTH`` comes after at least that many comparisons on average. Which requests are
    compared may depend on what was seen before (more audits after a disagreement), because the
    bound asks nothing of the times between them.
    """
    disagreed = [not one for one in agreed[-DRIFT_WINDOW:]]
    return rise_evidence(disagreed, 1.0 - target, DRIFT_WINDOW)


def audit_share(rollout: Rollout, seen: Progress | None, settings: RolloutSettings) -> float:
    """Return the share of a specialist's answers that the upstream is asked about as well.

    Higher while there is evidence of a fall, and only live: a canary is compared for free.
    """
    share = settings.audit_share
    if share and rollout.stage is Stage.LIVE and seen is not None and seen.drift >= ALERT:
        return max(share, settings.alert_audit_share)
    return share


def next_rollout(
    rollout: Rollout, seen: Progress, settings: RolloutSettings, now: float, alarm: str = ""
) -> Rollout | None:
    """Return where a rollout goes from here, or ``None`` when it stays.

    An alarm takes a specialist out even when the operator has stopped automatic steps:
    that only returns requests to the upstream.

    Args:
        rollout: Where it stands.
        seen: What its comparisons say.
        settings: The rules.
        now: Unix time.
        alarm: What a guardrail has against it, one sentence; empty for nothing.
    """
    if rollout.stage not in _ACTIVE:
        return None
    reason = _fall(rollout, seen, settings) or alarm
    if reason:
        return replace(
            rollout, stage=Stage.QUARANTINED, share=0.0, step_started_at=now, reason=reason
        )
    if rollout.stage is Stage.LIVE or rollout.held or not settings.auto_advance:
        return None
    if (
        seen.evidence < seen.needed
        or seen.drift >= RUN_LENGTH
        or seen.new < settings.min_step_comparisons
        or now - rollout.step_started_at < settings.min_step_seconds
    ):
        return None
    stage, share = step_after(rollout, settings.steps)
    figures = f"{seen.agreed} of {seen.compared} answers equal the upstream's"
    return replace(
        rollout,
        stage=stage,
        share=share,
        step_started_at=now,
        reason=f"{figures}; agreement is at least {seen.lower:.0%}",
    )


def _fall(rollout: Rollout, seen: Progress, settings: RolloutSettings) -> str:
    """Return what is wrong with the agreement; empty for nothing."""
    target = f"{settings.target_agreement:.0%}"
    if rollout.stage is Stage.SHADOW:
        if seen.against < 1 / SHADOW_ALPHA:
            return ""
        return (
            f"agreement is below {target}: {seen.agreed} of {seen.compared} answers "
            "equal the upstream's"
        )
    if seen.drift < RUN_LENGTH:
        return ""
    return (
        f"agreement fell below {target}: {seen.recent_agreed} of "
        f"the last {seen.recent} answers equal the upstream's"
    )


def notice_of(before: Rollout, after: Rollout) -> Notice | None:
    """Return what the operator is told about a step; ``None`` where nothing changes for them."""
    name = f"'{after.slug}' version {after.version}"
    again = (
        "train it anew, retire it, or put it into shadow again with "
        f"'apprentice specialists resume {after.slug}'."
    )
    if after.stage is Stage.QUARANTINED and before.stage is Stage.SHADOW:
        text = (
            f"{name} will not be put into service: {after.reason}. It only ran beside the "
            f"upstream, and none of its answers was sent; {again}"
        )
    elif after.stage is Stage.QUARANTINED:
        text = (
            f"{name} was taken out of service: {after.reason}. "
            f"The upstream answers these requests again; {again}"
        )
    elif after.stage is Stage.LIVE:
        text = f"{name} is live: {after.reason}. A small share stays audited."
    elif after.stage is Stage.CANARY and after.share > before.share:
        grown = f", up from {before.share:.0%}" if before.stage is Stage.CANARY else ""
        text = f"{name} now answers {after.share:.0%} of its requests{grown}: {after.reason}."
    else:
        return None
    step = f"{after.stage}:{after.share:g}:{after.step_started_at:.3f}"
    key = f"rollout:{after.slug}:{after.version}:{step}"
    return Notice(topic=f"specialist:{after.slug}", key=key, text=text)
