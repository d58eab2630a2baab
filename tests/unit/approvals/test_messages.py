"""What the operator reads."""

from __future__ import annotations

from collections.abc import Callable

from hermes_apprentice.approvals import messages
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.pattern import Candidate, Forecast


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
    assert len(text) < messages.LONGEST


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
    assert len(messages.verdict_message("x", verdict)) == messages.LONGEST
