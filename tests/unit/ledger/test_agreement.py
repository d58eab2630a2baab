from __future__ import annotations

from hermes_apprentice.ledger.agreement import self_agreement_in_words, self_bounds
from hermes_apprentice.storage.conduct import SelfAgreement


def measured(agreed: int, compared: int) -> SelfAgreement:
    return SelfAgreement(model="big-one", asked=compared + 1, compared=compared, agreed=agreed)


def test_what_was_not_measured_is_said_to_be_missing() -> None:
    for nothing in (None, measured(0, 0)):
        text = self_agreement_in_words(nothing, 0.8)
        assert "not measured yet" in text and "0%" not in text


def test_the_figures_come_with_bounds() -> None:
    found = measured(45, 50)
    lower, upper = self_bounds(found)
    assert lower < 0.9 < upper
    assert self_agreement_in_words(found, 0.8) == (
        "The upstream (big-one) agrees with itself on 45 of 50 requests that it was asked twice: "
        f"between {lower:.0%} and {upper:.0%}."
    )


def test_a_target_beyond_the_upstream_itself_is_pointed_out() -> None:
    text = self_agreement_in_words(measured(10, 40), 0.8)
    assert text.endswith("No specialist can be expected to reach the target of 80%.")
