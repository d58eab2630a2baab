"""What the operator reads. Pure: values go in, a plain text comes out.

Texts carry evidence and never words from a request: labels and slugs are
keywords that the detector has sanitised.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from hermes_apprentice.approvals.plain_text import LONGEST as LONGEST
from hermes_apprentice.approvals.plain_text import fitting
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.money import dollars
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Forecast, Pattern
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Specialist, Stage

_LABEL = 120


REPLY_WITH = "Reply: train"
"""Ends a question whether to train."""

REPLY_MARKERS = (REPLY_WITH, "Reply: merge")
"""Mark a message as a question."""


def graduation(candidate: Candidate) -> str:
    """Return the question whether to train a specialist for a candidate."""
    pattern = candidate.pattern
    handle = candidate.candidate_id
    return limited(
        f"A request keeps coming back: {_label(pattern)} ({handle}).\n"
        f"{pattern.size} requests, about {pattern.forecast.requests_per_day:.1f} a day. "
        f"{pattern.shape.agreement:.0%} of the answers are {shape_in_words(pattern.shape)}.\n"
        f"{forecast_in_words(pattern.forecast)}\n"
        f"A small {pattern.kind} could learn it{_where(pattern.kind)}. Nothing changes until it "
        "has proved itself beside the present model.\n"
        f"{REPLY_WITH} {handle} · skip {handle} · details {handle}"
    )


def details(candidate: Candidate) -> str:
    """Return what is known about a candidate."""
    pattern = candidate.pattern
    lines = [
        f"{candidate.candidate_id}: {_label(pattern)} ({candidate.state})",
        f"Exchanges: {pattern.size}; mean similarity to the centre {pattern.tightness:.2f}; "
        f"found again in {pattern.runs_stable} runs.",
        f"Answers: {shape_in_words(pattern.shape)}; agreement {pattern.shape.agreement:.0%}.",
        forecast_in_words(pattern.forecast),
        f"Specialist: {pattern.kind}.",
    ]
    if pattern.shape.kind is ShapeKind.JSON:
        fields = ", ".join(
            f"{leaf.path} ({_words(leaf.kind)})" for leaf in pattern.shape.fields[:12]
        )
        lines.append(f"Fields: {fields}")
    return limited("\n".join(lines))


def training_queued(candidate_id: str, slug: str, who: str, chosen: Kind | None = None) -> str:
    """Return the confirmation of a yes."""
    how = f" as {chosen.with_article}" if chosen else ""
    return limited(
        f"{candidate_id} is accepted by {who}: '{slug}' is trained{how} at the next tick."
    )


def skipped(candidate_id: str, who: str) -> str:
    """Return the confirmation of a no."""
    return limited(f"{candidate_id} is skipped by {who}.")


def candidate_list(candidates: Sequence[Candidate]) -> str:
    """Return the candidates, one line each, the open ones first."""
    if not candidates:
        return "Nothing was proposed yet."
    order = sorted(candidates, key=lambda one: one.state is not CandidateState.OPEN)
    return limited(
        "\n".join(
            [
                "Proposed:",
                *(f"{one.candidate_id} ({one.state}) {pattern_line(one.pattern)}" for one in order),
            ]
        )
    )


def question_list(questions: Sequence[tuple[str, str]]) -> str:
    """Return the open questions about specialists, one line each: handle, what is asked."""
    return limited(
        "\n".join(
            [
                "Asked about specialists (details HANDLE says more):",
                *(f"{handle} {about}" for handle, about in questions),
            ]
        )
    )


def specialist_list(
    specialists: Sequence[tuple[Specialist, Rollout | None, int, int]],
) -> str:
    """Return the specialists, one line each: stage, share, agreement (compared, agreed)."""
    if not specialists:
        return "There is no specialist yet."
    lines = ["Specialists:"]
    for one, rollout, compared, agreed in specialists:
        if rollout is None:
            lines.append(f"{one.slug}: {one.step}")
            continue
        share = f" at {rollout.share:.0%}" if rollout.stage is Stage.CANARY else ""
        seen = f", {agreed} of {compared} answers equal the upstream's" if compared else ""
        lines.append(f"{one.slug} version {rollout.version}: {rollout.stage}{share}{seen}")
    return limited("\n".join(lines))


def verdict_message(slug: str, verdict: Verdict) -> str:
    """Return what the gate said."""
    opening = {
        Outcome.PASSED: f"'{slug}' passed the gate and now runs in shadow.",
        Outcome.REJECTED: f"'{slug}' did not pass the gate; nothing changes.",
        Outcome.INCONCLUSIVE: f"'{slug}' could not be judged yet; nothing changes.",
    }[verdict.outcome]
    return limited("\n".join([opening, *(f"- {reason}" for reason in verdict.reasons)]))


def step_failed(slug: str, reason: str) -> str:
    """Return the message about a step that failed."""
    return limited(
        f"'{slug}': {reason}\nNothing was changed. Try again with: apprentice tick --retry {slug}"
    )


def budget_raised(month: str, amount: int, ceiling: int, spent: int, who: str) -> str:
    """Return the confirmation of a raise; amounts in micro-dollars."""
    return limited(
        f"{who} raised the ceiling for paid training in {month} by {dollars(amount)} to "
        f"{dollars(ceiling)}; {dollars(spent)} of it is spent. The next month starts at the "
        "setting again."
    )


def budget_alert(month: str, spent: int, ceiling: int, *, may_start: bool, may_go_on: bool) -> str:
    """Return the message that the ceiling is near or reached; amounts in micro-dollars."""
    if may_start:
        meaning = "Paid training goes on."
    elif may_go_on:
        meaning = "What runs may finish; no new paid run starts this month."
    else:
        meaning = "Nothing paid runs for the rest of the month."
    return limited(
        f"Paid training in {month} (UTC): {dollars(spent)} of {dollars(ceiling)} is spent, "
        f"{100 * spent // ceiling}%.\n{meaning} Answers and training on this machine go on.\n"
        "To raise this month's ceiling, reply: budget increase 10"
    )


def shape_in_words(shape: Shape) -> str:
    """Describe a shape in a few words."""
    if shape.kind is ShapeKind.LABEL:
        return f"one of {len(shape.labels)} labels"
    if shape.kind is ShapeKind.JSON:
        return f"JSON with {len(shape.fields)} fields"
    return f"text of about {shape.median_chars} characters"


def forecast_in_words(forecast: Forecast) -> str:
    """Describe a forecast, and say so when there is no price to base it on."""
    if not forecast.priced:
        return "Savings: unknown, because its model is not in the price table."
    return (
        f"Forecast: {dollars(forecast.saved_per_month)} saved per month, if "
        f"{forecast.coverage:.0%} of the requests are answered "
        f"(each costs {dollars(forecast.cost_per_request, 5)})."
    )


def pattern_line(pattern: Pattern) -> str:
    """Describe a pattern in one line."""
    shape = shape_in_words(pattern.shape)
    return f"{_label(pattern)}: {pattern.size} requests, {shape}, {pattern.kind}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _label(pattern: Pattern) -> str:
    return shorten(pattern.label, _LABEL, placeholder="…")


def _where(kind: Kind) -> str:
    return " on a GPU" if kind is Kind.GENERATOR else " on this machine's CPU in a few minutes"


def limited(text: str) -> str:
    """Return a text that fits every platform and means the same in each one's Markdown."""
    return fitting(text)
