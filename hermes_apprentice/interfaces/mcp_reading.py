"""The tools that read: what there is, where a request would go, what it costs.

Answers are short on purpose: they end up in an agent's context. Amounts are
dollars, unknown ones are null.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from pydantic import Field

from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Specialist
from hermes_apprentice.interfaces.mcp_catalogue import (
    Arguments,
    Report,
    Result,
    Tool,
    in_dollars,
    moment,
    opened,
)

_DAY = 86_400.0
_LONGEST_REPORT = 6_000
_LONGEST_REASON = 300


class Nothing(Arguments):
    """No arguments."""


class Page(Arguments):
    """How many to list."""

    limit: int = Field(default=20, ge=1, le=100)


class CandidatePage(Page):
    """Which candidates to list."""

    state: Literal["open", "approved", "skipped", "any"] = "any"


class Period(Arguments):
    """How far to look back."""

    days: float = Field(default=30, gt=0, le=3_650)


class Name(Arguments):
    """Which specialist."""

    name: str = Field(min_length=1, max_length=100, description="From list_specialists.")


class Text(Arguments):
    """A request."""

    text: str = Field(min_length=1, max_length=20_000, description="As a user would type it.")
    turn: int = Field(default=0, ge=0, le=1_000, description="User turns before it.")


def list_candidates(page: CandidatePage, report: Report) -> Result:
    """List the candidates, undecided ones first."""
    from hermes_apprentice.pipeline.views import specialist_questions
    from hermes_apprentice.storage.patterns import PatternStore

    with opened() as place, place.database.transaction() as connection:
        found = PatternStore(connection).candidates(
            None if page.state == "any" else CandidateState(page.state)
        )
        asked = specialist_questions(connection, place.now)
    found.sort(key=lambda item: (item.state is not CandidateState.OPEN, -item.created_at))
    return {
        "total": len(found),
        "waiting_for_the_operator": sum(item.state is CandidateState.OPEN for item in found),
        "candidates": [_candidate(item) for item in found[: page.limit]],
        "questions_about_specialists": [
            {"handle": one.handle, "about": one.about, "asked": moment(one.asked_at)}
            for one in asked[: page.limit]
        ],
    }


def list_specialists(page: Page, report: Report) -> Result:
    """List the specialists, those that answer most first."""
    from hermes_apprentice.storage import rollouts, specialists

    with opened() as place, place.database.transaction() as connection:
        found = [
            (one, rollouts.find_rollout(connection, one.slug))
            for one in specialists.list_specialists(connection)
        ]
    found.sort(key=lambda pair: (-(pair[1].share if pair[1] else -1.0), pair[0].slug))
    return {
        "total": len(found),
        "specialists": [_specialist(one, rollout) for one, rollout in found[: page.limit]],
    }


def specialist_details(asked: Name, report: Report) -> Result:
    """Tell how one specialist was proven and how it does."""
    report("reading the verdict", 0.0)
    from hermes_apprentice.ledger.agreement import self_agreement_in_words
    from hermes_apprentice.pipeline import open_pipeline

    with opened() as place:
        details = open_pipeline(place.settings, place.database).specialist(asked.name)
    view = details.view
    return {
        **_specialist(view.specialist, view.rollout),
        "answers_compared": view.compared,
        "answers_equal": view.agreed,
        "target_agreement": details.target,
        "upstream_with_itself": self_agreement_in_words(details.self_agreement, details.target),
        "steps_held": bool(view.rollout and view.rollout.held),
        "runs": details.runs,
        "runs_failed": details.failed_runs,
        "merge": details.merge or None,
        "false_routes": None if details.matching is None else asdict(details.matching),
        "report": _cut(details.report, _LONGEST_REPORT),
    }


def explain_route(asked: Text, report: Report) -> Result:
    """Tell where a request would go, and why; nothing happens and nothing is kept."""
    report("loading the matcher and the specialists", 0.0)
    from hermes_apprentice.router.explain import explain_request

    with opened() as place:
        found = explain_request(place.settings, asked.text, asked.turn)
    report("explained", 1.0)
    return {
        "answered_by": found.slug if found.route == "specialist" else "upstream",
        "reason": found.reason,
        "in_words": found.in_words(),
        "specialist": found.slug,
        "stage": found.stage,
        "share_of_sessions": found.share,
        "nearest": [
            {
                "specialist": near.slug,
                "score": round(near.score, 4),
                "threshold": round(near.threshold, 4),
                "false_routes_at_most": None if near.bound is None else round(near.bound.upper, 5),
                "outside_envelope": near.outside,
            }
            for near in found.nearest[:3]
        ],
        "kind": found.kind,
        "word_filter": None if found.words is None else asdict(found.words),
    }


def roi(period: Period, report: Report) -> Result:
    """Tell what the specialists saved and cost."""
    from hermes_apprentice.ledger.roi import roi as account

    with opened() as place:
        found = account(place.database, place.now - period.days * _DAY, place.now)
    return {
        "days": period.days,
        "requests": found.requests,
        "share_answered_by_specialists": round(found.routed_share, 4),
        "net_dollars": in_dollars(found.net),
        "specialists": [
            {
                "name": row.slug,
                "answered": row.answered,
                "passed_on": row.fallbacks,
                "saved_dollars": in_dollars(row.saved),
                "audit_dollars": in_dollars(row.audits),
                "training_dollars": in_dollars(row.spent),
                "net_dollars": in_dollars(row.net),
                "answers_without_a_price": row.unpriced,
                "break_even_days": row.break_even_days,
            }
            for row in found.specialists
        ],
        "note": "Savings are estimates from list prices; answers without a price count as 0. "
        "Training counts all that it ever cost.",
    }


def cost_summary(period: Period, report: Report) -> Result:
    """Tell what the upstream and training were charged."""
    from hermes_apprentice.ledger.costs import cost_summary as summary

    with opened() as place:
        found = summary(place.database, place.now - period.days * _DAY)
    return {
        "days": period.days,
        "total_dollars": in_dollars(found.total),
        "of_which_audits_dollars": in_dollars(found.audits),
        "of_which_training_dollars": in_dollars(found.training),
        "models": [
            {
                "model": row.model,
                "requests": row.requests,
                "prompt_tokens": row.prompt_tokens,
                "cached_tokens": row.cached_tokens,
                "completion_tokens": row.completion_tokens,
                "dollars": in_dollars(row.cost),
                "requests_without_a_price": row.unpriced,
            }
            for row in found.models
        ],
    }


def budget_status(asked: Nothing, report: Report) -> Result:
    """Tell what is left of this month's ceiling for paid training."""
    from hermes_apprentice.ledger.budget import budget

    with opened() as place:
        found = budget(place.database, place.settings.budget, place.now)
    return {
        "month": found.month,
        "ceiling_dollars": in_dollars(found.ceiling),
        "spent_dollars": in_dollars(found.spent),
        "left_dollars": in_dollars(found.left),
        "paid_training_may_start": found.may_start,
        "alerts_reached": list(found.reached),
        "note": "A ceiling of 0 means that nothing is paid for; training on this machine is free.",
    }


def _candidate(item: Candidate) -> Result:
    pattern = item.pattern
    forecast = pattern.forecast
    return {
        "candidate": item.candidate_id,
        "about": pattern.label,
        "state": item.state,
        "requests": pattern.size,
        "per_day": round(forecast.requests_per_day, 2),
        "answers": pattern.shape.kind,
        "answers_that_fit": round(pattern.shape.agreement, 3),
        "specialist_kind": pattern.kind,
        "forecast_dollars_per_month": (
            in_dollars(forecast.saved_per_month) if forecast.priced else None
        ),
        "proposed": moment(item.created_at),
    }


def _specialist(one: Specialist, rollout: Rollout | None) -> Result:
    return {
        "name": one.slug,
        "kind": one.kind,
        "step": one.step,
        "stage": rollout.stage if rollout else None,
        "share_of_sessions": rollout.share if rollout else 0.0,
        "version": rollout.version if rollout else one.version,
        "why": _cut((rollout.reason if rollout else "") or one.reason, _LONGEST_REASON),
        "since": moment(rollout.step_started_at if rollout else one.updated_at),
    }


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


READING = (
    Tool(
        name="list_candidates",
        description=(
            "Recurring requests that a small specialist could learn, with evidence and forecast; "
            "open ones wait for the operator, as do questions to merge or train again."
        ),
        arguments=CandidatePage,
        work=list_candidates,
    ),
    Tool(
        name="list_specialists",
        description="The trained specialists: step, stage, share of sessions they answer, why.",
        arguments=Page,
        work=list_specialists,
    ),
    Tool(
        name="specialist_details",
        description="One specialist's test report, agreement with the usual model, target, merge.",
        arguments=Name,
        work=specialist_details,
    ),
    Tool(
        name="explain_route",
        description=(
            "Which specialist, or the usual model, would answer a text, and why. Sends nothing."
        ),
        arguments=Text,
        work=explain_route,
    ),
    Tool(
        name="roi",
        description="What specialists saved, less what checking and training cost. Estimates.",
        arguments=Period,
        work=roi,
    ),
    Tool(
        name="cost_summary",
        description="What the upstream models and training were charged, per model.",
        arguments=Period,
        work=cost_summary,
    ),
    Tool(
        name="budget_status",
        description="This month's ceiling for paid training: spent, left, alerts reached.",
        arguments=Nothing,
        work=budget_status,
    ),
)
"""Tools that change nothing."""
