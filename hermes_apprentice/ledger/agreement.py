"""How often the upstream agrees with itself, beside the agreement that specialists must show.

A specialist cannot be asked to agree with an upstream more often than the upstream
does itself. That is shown and never acted upon: the target is the operator's.
"""

from __future__ import annotations

from typing import NamedTuple

from hermes_apprentice.statistics.sequential import confidence_lower, confidence_upper
from hermes_apprentice.storage.conduct import SelfAgreement

ALPHA = 0.05
"""Chance that one of the two bounds is ever wrong, for each of them."""


class Bounds(NamedTuple):
    """Between what shares the upstream's agreement with itself lies."""

    lower: float
    """At least this, 0 to 1."""

    upper: float
    """At most this, 0 to 1."""


def self_bounds(found: SelfAgreement) -> Bounds:
    """Return bounds that hold however often one looks at them; see ``statistics.sequential``."""
    return Bounds(
        confidence_lower(found.agreed, found.compared, ALPHA),
        confidence_upper(found.agreed, found.compared, ALPHA),
    )


def self_agreement_in_words(found: SelfAgreement | None, target: float) -> str:
    """Return a sentence for the operator.

    Args:
        found: What was measured, if anything was.
        target: Agreement that specialists must show, 0 to 1.
    """
    if found is None or not found.compared:
        return (
            "How often the upstream agrees with itself was not measured yet; "
            "rollout.self_agreement_share asks it twice now and then, and costs as much."
        )
    lower, upper = self_bounds(found)
    text = (
        f"The upstream ({found.model}) agrees with itself on {found.agreed} of {found.compared} "
        f"requests that it was asked twice: between {lower:.0%} and {upper:.0%}."
    )
    if upper < target:
        text += f" No specialist can be expected to reach the target of {target:.0%}."
    return text
