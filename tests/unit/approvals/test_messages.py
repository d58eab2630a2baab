"""What the operator reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hermes_apprentice.approvals import messages
from hermes_apprentice.approvals.outbox import SENT_AGAIN
from hermes_apprentice.approvals.plain_text import LONGEST
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Forecast
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import (
    FieldKind,
    FieldShape,
    JsonStyle,
    Kind,
    Missing,
    Shape,
    ShapeKind,
)
from hermes_apprentice.domain.specialist import Specialist, Stage, Step

NOW = 1_790_000_000.0
Make = Callable[..., Candidate]


def test_a_graduation_message_carries_evidence_and_the_replies(
    make_candidate: Callable[..., Candidate],
) -> None:
    text = messages.graduation(make_candidate())
    assert text == (
        "A request keeps coming back: ticket, label (gc-7f3a).\n"
        "42 requests, about 2.1 a day. 97% of the answers are one of 2 labels.\n"
        "Forecast: $1.82 saved per month, if 80% of the requests are answered "
        "(each costs $0.03612).\n"
        "A small classifier could learn it on this machine's CPU in a few minutes. Nothing "
        "changes until it has proved itself beside the present model.\n"
        "Reply: train gc-7f3a · skip gc-7f3a · details gc-7f3a"
    )
    assert len(text) < LONGEST


def test_a_forecast_without_a_price_claims_nothing() -> None:
    unknown = Forecast(
        requests_per_day=9.0, cost_per_request=0, coverage=0.8, saved_per_month=0, priced=False
    )
    text = messages.forecast_in_words(unknown)
    assert "unknown" in text
    assert "$" not in text


def test_a_long_verdict_is_cut_to_fit_every_platform() -> None:
    verdict = Verdict(
        outcome=Outcome.REJECTED,
        reasons=("too many wrong answers " * 20,) * 9,
        scores=None,
        threshold=1.0,
    )
    assert len(messages.verdict_message("x", verdict)) == LONGEST


def verdict(outcome: Outcome, *reasons: str) -> Verdict:
    return Verdict(outcome=outcome, reasons=reasons, scores=None, threshold=0.5)


@pytest.mark.parametrize(
    ("outcome", "opening"),
    [
        (Outcome.PASSED, "'ticket-label' passed the gate and now runs in shadow."),
        (Outcome.REJECTED, "'ticket-label' did not pass the gate; nothing changes."),
        (Outcome.INCONCLUSIVE, "'ticket-label' could not be judged yet; nothing changes."),
    ],
)
def test_a_verdict_opens_with_what_it_means_and_gives_every_reason(
    outcome: Outcome, opening: str
) -> None:
    text = messages.verdict_message("ticket-label", verdict(outcome, "First.", "Second."))
    assert text == f"{opening}\n- First.\n- Second."


def test_details_of_a_json_pattern_name_its_fields(make_candidate: Make) -> None:
    def leaf(path: str, kind: FieldKind) -> FieldShape:
        return FieldShape(
            path=path, kind=kind, missing=Missing.NEVER, presence=1.0, value_type="string"
        )

    shape = Shape(
        kind=ShapeKind.JSON,
        agreement=0.93,
        fields=(
            leaf("order_number", FieldKind.COPIED),
            leaf("items[].size", FieldKind.CLOSED_SET),
        ),
        style=JsonStyle(),
    )
    candidate = make_candidate(shape=shape, kind=Kind.EXTRACTOR)
    assert messages.details(candidate) == (
        "gc-7f3a: ticket, label (open)\n"
        "Exchanges: 42; mean similarity to the centre 0.71; found again in 2 runs.\n"
        "Answers: JSON with 2 fields; agreement 93%.\n"
        "Forecast: $1.82 saved per month, if 80% of the requests are answered "
        "(each costs $0.03612).\n"
        "Specialist: extractor.\n"
        "Fields: order_number (copied), items[].size (closed set)"
    )


def test_confirmations_say_who_decided() -> None:
    assert messages.training_queued("gc-7f3a", "ticket-label", "telegram:4711") == (
        "gc-7f3a is accepted by telegram:4711: 'ticket-label' is trained at the next tick."
    )
    assert messages.skipped("gc-7f3a", "cli") == "gc-7f3a is skipped by cli."


def test_a_failed_step_says_what_to_do() -> None:
    assert messages.step_failed("ticket-label", "The training took too long.") == (
        "'ticket-label': The training took too long.\n"
        "Nothing was changed. Try again with: apprentice tick --retry ticket-label"
    )


def test_the_list_of_candidates_begins_with_the_open_ones(make_candidate: Make) -> None:
    decided = replace(make_candidate("gc-0001"), state=CandidateState.SKIPPED)
    assert messages.candidate_list([decided, make_candidate("gc-0002")]) == (
        "Proposed:\n"
        "gc-0002 (open) ticket, label: 42 requests, one of 2 labels, classifier\n"
        "gc-0001 (skipped) ticket, label: 42 requests, one of 2 labels, classifier"
    )
    assert messages.candidate_list([]) == "Nothing was proposed yet."


def test_the_list_of_specialists_says_where_each_stands() -> None:
    approved = Specialist(
        slug="order-read",
        pattern_id="pt-1",
        candidate_id="gc-0001",
        kind=Kind.EXTRACTOR,
        step=Step.APPROVED,
        reason="",
        run_id="run-1",
        version=None,
        updated_at=NOW,
    )
    canary = Rollout(
        slug="ticket-label",
        version=2,
        stage=Stage.CANARY,
        share=0.15,
        held=False,
        step_started_at=NOW,
        reason="",
    )
    served = replace(approved, slug="ticket-label", step=Step.REGISTERED, version=2)
    assert messages.specialist_list([(approved, None, 0, 0), (served, canary, 80, 78)]) == (
        "Specialists:\n"
        "order-read: approved\n"
        "ticket-label version 2: canary at 15%, 78 of 80 answers equal the upstream's"
    )
    assert messages.specialist_list([]) == "There is no specialist yet."


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(label=st.text(max_size=2_000), reason=st.text(max_size=3_000))
def test_whatever_is_in_it_a_message_fits_and_means_the_same_in_markdown(
    make_candidate: Make, label: str, reason: str
) -> None:
    candidate = make_candidate(label=label)
    question = messages.graduation(candidate)
    assert question.endswith("Reply: train gc-7f3a · skip gc-7f3a · details gc-7f3a")
    for text in (
        question,
        messages.details(candidate),
        messages.candidate_list([candidate] * 50),
        messages.verdict_message("ticket-label", verdict(Outcome.REJECTED, reason)),
        messages.step_failed("ticket-label", reason),
    ):
        assert len(SENT_AGAIN + text) < 1_000
        assert not set(text) & set("`*~|<>")
