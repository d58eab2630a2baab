"""What a pattern is worth, and what it still lacks to be proposed.

Pure rules over values; knows nothing about clusters or databases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Forecast, Pattern
from hermes_apprentice.domain.shape import FieldKind, ShapeKind
from hermes_apprentice.settings import DetectorSettings

Prices = Callable[[str, int, int], int | None]
"""Model, prompt tokens, completion tokens -> micro-dollars, ``None`` without a price."""

TIGHTNESS_MARGIN = {ShapeKind.TEXT: 0.1, ShapeKind.LABEL: 0.0, ShapeKind.JSON: -0.1}
"""Added to the least tightness: free texts prove nothing, a common schema proves much."""

TURN_SHARE = 0.05
"""Share of the members from which on a turn counts as usual."""

DAY = 86_400.0
DAYS_PER_MONTH = 30

BEGINNING = 1_577_836_800.0
"""Unix time of 2020: before it there was no Hermes, so an earlier time is none, and a single one
would spread a pattern's volume over half a century."""


def unformed(pattern: Pattern, settings: DetectorSettings) -> tuple[str, ...]:
    """Return why these requests are not a pattern yet: too few, too loose, too different."""
    missing = []
    if pattern.size < settings.min_exchanges:
        missing.append(f"{pattern.size} of {settings.min_exchanges} exchanges")
    tight = min(1.0, settings.min_tightness + TIGHTNESS_MARGIN[pattern.shape.kind])
    if pattern.tightness < tight:
        missing.append(f"tightness {pattern.tightness:.2f} of {tight:.2f}")
    if pattern.shape.agreement < settings.min_agreement:
        missing.append(
            f"{pattern.shape.agreement:.0%} of the answers agree in shape, "
            f"{settings.min_agreement:.0%} are needed"
        )
    return tuple(missing)


def is_close(pattern: Pattern, settings: DetectorSettings) -> bool:
    """Whether a group is tight enough to be told about."""
    return pattern.tightness >= settings.min_tightness + min(
        0.0, TIGHTNESS_MARGIN[pattern.shape.kind]
    )


def maturity(pattern: Pattern, settings: DetectorSettings) -> tuple[str, ...]:
    """Return what a pattern lacks to be proposed; empty when it is mature."""
    missing = [*unformed(pattern, settings)]
    if pattern.runs_stable < settings.min_runs_stable:
        missing.append(f"found in {pattern.runs_stable} of {settings.min_runs_stable} runs")
    if _always_the_same(pattern):
        missing.append("every answer is the same, a fixed reply would do")
    if pattern.forecast.priced and pattern.forecast.saved_per_month <= 0:
        missing.append("it would save nothing")
    return tuple(missing)


def _always_the_same(pattern: Pattern) -> bool:
    shape = pattern.shape
    if shape.kind is ShapeKind.LABEL:
        return len(shape.labels) < 2
    return shape.kind is ShapeKind.JSON and all(
        leaf.kind is FieldKind.CONSTANT for leaf in shape.fields
    )


def mean_cost(exchanges: Sequence[Exchange], prices: Prices) -> int | None:
    """Return what the upstream charges for one request, in micro-dollars.

    ``None`` if fewer than half of the exchanges were answered by a model with a price.
    """
    costs = [prices(one.model, one.input_tokens, one.output_tokens) for one in exchanges]
    known = [cost for cost in costs if cost is not None]
    return round(fmean(known)) if 2 * len(known) >= len(costs) > 0 else None


def first_asked(exchanges: Sequence[Exchange], otherwise: float) -> float:
    """Return when the first of them was asked, or ``otherwise`` if none has a time that counts."""
    return min((one.asked_at for one in exchanges if one.asked_at >= BEGINNING), default=otherwise)


def forecast(
    size: int, first_seen: float, cost: int | None, coverage: float, now: float
) -> Forecast:
    """Estimate what a specialist would save.

    Args:
        size: How many requests were seen.
        first_seen: Unix time of the first of them.
        cost: Micro-dollars per request, ``None`` without a price.
        coverage: Share of the requests assumed to be answered.
        now: Unix time; a pattern that is no longer asked for loses volume.
    """
    # Less than a day of history says nothing about a day's volume: it counts as one.
    per_day = size / max(1.0, (now - first_seen) / DAY)
    return Forecast(
        requests_per_day=per_day,
        cost_per_request=cost or 0,
        coverage=coverage,
        saved_per_month=round(per_day * DAYS_PER_MONTH * coverage * (cost or 0)),
        priced=cost is not None,
    )


def usual_turn(exchanges: Sequence[Exchange]) -> int:
    """Return the latest turn index that at least ``TURN_SHARE`` of the members have."""
    turns = [one.turn_index for one in exchanges]
    usual = [turn for turn in set(turns) if turns.count(turn) >= TURN_SHARE * len(turns)]
    return max(usual, default=0)
