"""Everything that the dashboard shows, as values: what is served, asked, counted and spent.

Read in one snapshot of the database. Holds no text of any request. What is not known
is ``None``, never zero. Knows nothing about pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hermes_apprentice.domain.approval import OutboxMessage, Proposal, ProposalState
from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.ledger.budget import Budget, budget
from hermes_apprentice.ledger.costs import CostSummary, cost_summary
from hermes_apprentice.ledger.roi import Roi, roi
from hermes_apprentice.ledger.traffic import (
    RouteSpeed,
    RouteTotal,
    Traffic,
    route_totals,
    speeds,
    traffic,
)
from hermes_apprentice.router.rollout import RUN_LENGTH, Progress
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.statistics.sequential import confidence_upper
from hermes_apprentice.storage.approvals import open_proposals, recent_decisions, recent_messages
from hermes_apprentice.storage.conduct import SelfAgreement, self_agreement
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.rollouts import Tally, list_rollouts, tally
from hermes_apprentice.storage.specialists import list_specialists

DAY = 86_400.0
ACCOUNT_DAYS = 30
"""Days that tokens and money are summed over."""

LATEST = 10
"""Messages and decisions that are shown."""

Judge = Callable[[str], Progress | None]
"""Gives what the comparisons of a specialist said last time, if they were judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One specialist: how it was made, what it does, and what is missing for its next step."""

    slug: str
    """Its name."""

    kind: Kind | None
    """What kind of model; ``None`` where the learning half does not know it."""

    step: Step | None
    """Where it stands in the learning half."""

    version: int | None
    """The version that is served or was last; ``None`` before the first one."""

    stage: Stage | None
    """Its stage; ``None`` before it is registered."""

    share: float
    """Share of matching sessions it answers, 0 to 1."""

    held: bool
    """Whether the operator stopped automatic steps."""

    since: float
    """Unix time at which it came to stand here."""

    reason: str
    """Why, one sentence."""

    loaded: bool
    """Whether the sidecar has verified this very version and can ask it."""

    progress: Progress | None
    """What its comparisons say; ``None`` while they have not been judged."""

    upper: float | None
    """Upper bound of its agreement, beside ``progress.lower``."""

    seen: Tally | None
    """Its comparisons, with what it left to the upstream; ``None`` before it is registered."""

    due_at: float | None
    """Unix time before which it takes no next step."""

    self_agreement: SelfAgreement | None = None
    """How often the upstream agrees with itself on such requests; ``None`` if not measured."""

    matching: ClassBound | None = None
    """What is proven about its false routes; ``None`` while no loaded matcher knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Something that waits for the operator's decision."""

    handle: str
    """What a reply names."""

    label: str
    """A few keywords, or the question itself where it is not about a candidate."""

    kind: Kind | None
    """Which specialist could learn it."""

    size: int | None
    """Requests it rests on."""

    per_day: float | None
    """Their number on a day."""

    fitting: float | None
    """Share of their answers that have one shape, 0 to 1."""

    saved_per_month: int | None
    """Forecast in micro-dollars; ``None`` without a price."""

    asked_at: float
    """Unix time."""

    expires_at: float | None
    """Unix time; ``None`` where the question is not open any more and is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of a question."""

    handle: str
    """What it was called."""

    state: ProposalState
    """The answer."""

    by: str | None
    """Who gave it; ``None`` where nobody did."""

    at: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the database says."""

    specialists: tuple[Standing, ...]
    """Every specialist, those that answer most first."""

    questions: tuple[Question, ...]
    """What waits for a decision, oldest first."""

    day: Traffic
    """The last 24 hours, by the hour."""

    week: Traffic
    """The last seven days, by six hours."""

    speeds: tuple[RouteSpeed, ...]
    """How fast the last seven days' calls were."""

    month: tuple[RouteTotal, ...]
    """All calls of the days that money is summed over, by route."""

    roi: Roi
    """What specialists saved in that time."""

    costs: CostSummary
    """What was charged in that time."""

    budget: Budget | None
    """This month's ceiling for paid training; ``None`` where it cannot be told."""

    messages: tuple[OutboxMessage, ...]
    """The latest messages to the operator, newest first."""

    decisions: tuple[Decision, ...]
    """The latest decisions, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Everything that the dashboard shows."""

    at: float
    """Unix time at which the database was read."""

    problems: Mapping[str, str]
    """What does not work, by part."""

    upstream: str
    """Where requests go that no specialist answers."""

    target: float
    """Agreement that a specialist must show."""

    alpha: float
    """Chance of error of each bound."""

    min_comparisons: int
    """New comparisons that a step takes."""

    auto_advance: bool
    """Whether steps are taken without the operator."""

    drift_alarm: float
    """Evidence of a fall at which a specialist is taken out."""

    figures: Figures | None
    """What the database says; ``None`` while it cannot be read."""


def overview(
    settings: Settings, problems: Mapping[str, str], figures: Figures | None, now: float
) -> Overview:
    """Put the sidecar's own state beside what the database says."""
    return Overview(
        at=now,
        problems=dict(problems),
        upstream=settings.upstream.base_url,
        target=settings.rollout.target_agreement,
        alpha=settings.rollout.alpha,
        min_comparisons=settings.rollout.min_step_comparisons,
        auto_advance=settings.rollout.auto_advance,
        drift_alarm=RUN_LENGTH,
        figures=figures,
    )


def read_figures(
    database: Database,
    settings: Settings,
    now: float,
    *,
    judged: Judge,
    loaded: Callable[[str], bool],
    bounds: Mapping[str, ClassBound] | None = None,
) -> Figures:
    """Read everything in one snapshot of the database. Blocks: for a thread.

    Args:
        database: Apprentice's own.
        settings: Target and budget.
        now: Unix time.
        judged: What the rollout's rules made of the comparisons.
        loaded: Whether a specialist's present version can be asked.
        bounds: What is proven about the false routes of each pattern, by slug.

    Raises:
        StorageError: The database cannot be read.
    """
    since = now - ACCOUNT_DAYS * DAY
    with database.snapshot() as connection:
        store = PatternStore(connection)
        known = {one.slug: one for one in list_specialists(connection)}
        rollouts = {one.slug: one for one in list_rollouts(connection)}
        standings = []
        for slug in {*known, *rollouts}:
            one, rollout = known.get(slug), rollouts.get(slug)
            progress = judged(slug) if rollout else None
            standings.append(
                Standing(
                    slug=slug,
                    kind=one.kind if one else None,
                    step=one.step if one else None,
                    version=rollout.version if rollout else one.version if one else None,
                    stage=rollout.stage if rollout else None,
                    share=rollout.share if rollout else 0.0,
                    held=rollout is not None and rollout.held,
                    since=rollout.step_started_at if rollout else one.updated_at if one else now,
                    reason=(rollout.reason if rollout else "") or (one.reason if one else ""),
                    loaded=rollout is not None and loaded(slug),
                    progress=progress,
                    upper=_upper(progress, settings.rollout.alpha),
                    seen=tally(connection, slug, rollout.version) if rollout else None,
                    due_at=(
                        rollout.step_started_at + settings.rollout.min_step_seconds
                        if rollout
                        else None
                    ),
                    self_agreement=self_agreement(connection, slug),
                    matching=(bounds or {}).get(slug),
                )
            )
        standings.sort(key=lambda one: (-one.share, one.stage is None, one.slug))
        try:
            ceiling = budget(database, settings.budget, now)
        except ConfigError:
            ceiling = None
        return Figures(
            specialists=tuple(standings),
            questions=_questions(
                {item.candidate_id: item for item in store.candidates(CandidateState.OPEN)},
                {item.proposal_id: item for item in open_proposals(connection)},
                now,
            ),
            day=traffic(database, now, 24, 3_600.0),
            week=traffic(database, now, 28, DAY / 4),
            speeds=speeds(database, now - 7 * DAY),
            month=route_totals(database, since, now),
            roi=roi(database, since, now),
            costs=cost_summary(database, since),
            budget=ceiling,
            messages=tuple(recent_messages(database, LATEST)),
            decisions=tuple(
                Decision(
                    handle=item.proposal_id,
                    state=item.state,
                    by=item.decided_by,
                    at=item.expires_at if item.decided_at is None else item.decided_at,
                )
                for item in recent_decisions(database, LATEST)
            ),
        )


def _upper(progress: Progress | None, alpha: float) -> float | None:
    if progress is None or not progress.compared:
        return None
    return confidence_upper(progress.agreed, progress.compared, alpha)


def _questions(
    candidates: Mapping[str, Candidate], asked: Mapping[str, Proposal], now: float
) -> tuple[Question, ...]:
    """Return what waits, from the candidates and from the questions about other things."""
    found = []
    for handle in [*candidates, *(name for name in asked if name not in candidates)]:
        candidate, proposal = candidates.get(handle), asked.get(handle)
        expires_at = proposal.expires_at if proposal is not None else None
        if candidate is not None:
            pattern = candidate.pattern
            forecast = pattern.forecast
            found.append(
                Question(
                    handle=handle,
                    label=pattern.label,
                    kind=pattern.kind,
                    size=pattern.size,
                    per_day=forecast.requests_per_day,
                    fitting=pattern.shape.agreement,
                    saved_per_month=forecast.saved_per_month if forecast.priced else None,
                    asked_at=proposal.created_at if proposal else candidate.created_at,
                    expires_at=expires_at if expires_at is None or expires_at > now else None,
                )
            )
        elif proposal is not None and proposal.expires_at > now:
            found.append(
                Question(
                    handle=handle,
                    label=proposal.shown,
                    kind=None,
                    size=None,
                    per_day=None,
                    fitting=None,
                    saved_per_month=None,
                    asked_at=proposal.created_at,
                    expires_at=expires_at,
                )
            )
    return tuple(sorted(found, key=lambda item: (item.asked_at, item.handle)))
