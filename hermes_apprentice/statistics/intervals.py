"""Intervals around shares and around differences of scores, for a sample looked at once.

For data that keeps arriving use ``sequential``. Knows nothing about what is being measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IndexArray = NDArray[np.intp]


class Bounds(NamedTuple):
    """An estimate and the ends of its interval."""

    value: float
    """The estimate."""

    low: float
    """Lower end."""

    high: float
    """Upper end."""


def binomial_lower(successes: int, trials: int, confidence: float) -> float:
    """Return the one-sided exact lower bound of a rate (Clopper and Pearson, 1934).

    The true rate is below it with a chance of at most ``1 - confidence``, whatever the rate is.
    Without trials it is 0.

    Raises:
        ValueError: The counts contradict each other, or the confidence is not inside (0, 1).
    """
    from scipy import special

    _check(successes, trials, confidence)
    if successes == 0:
        return 0.0
    return float(special.betaincinv(successes, trials - successes + 1, 1 - confidence))


def binomial_upper(successes: int, trials: int, confidence: float) -> float:
    """Return the one-sided exact upper bound of a rate (Clopper and Pearson, 1934).

    Raises:
        ValueError: The counts contradict each other, or the confidence is not inside (0, 1).
    """
    from scipy import special

    _check(successes, trials, confidence)
    if successes == trials:
        return 1.0
    return float(special.betaincinv(successes + 1, trials - successes, confidence))


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Bounds:
    """Return the two-sided exact interval of a rate; without trials it is 0 to 1."""
    one_sided = (1 + confidence) / 2
    return Bounds(
        successes / trials if trials else 0.0,
        binomial_lower(successes, trials, one_sided),
        binomial_upper(successes, trials, one_sided),
    )


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Bounds:
    """Return the score interval of a rate (Wilson, 1927): shorter than exact, nearly as true.

    For reports; where a decision hangs on it use the exact bounds.
    """
    from scipy import special

    _check(successes, trials, confidence)
    if trials == 0:
        return Bounds(0.0, 0.0, 1.0)
    z = float(special.ndtri((1 + confidence) / 2))
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Bounds(share, low, high)


def paired_bootstrap(
    difference: Callable[[IndexArray], float],
    size: int,
    *,
    seed: int,
    confidence: float = 0.95,
    rounds: int = 2_000,
) -> Bounds:
    """Return the percentile bootstrap interval of a statistic of paired data (Efron, 1979).

    Both systems are scored on the same drawn rows, so what makes a row hard cancels out, and
    statistics that are no plain means (macro F1, micro F1) are handled as they are.

    Args:
        difference: Computes the statistic on the rows it is given; indices may repeat.
        size: How many rows there are.
        seed: Fixes the draws: the same data and seed give the same interval.
        confidence: Two-sided level.
        rounds: Draws.

    Raises:
        ValueError: There are no rows.
    """
    if size < 1:
        raise ValueError("a bootstrap needs at least one row")
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [difference(generator.integers(0, size, size)) for _ in range(rounds)], dtype=np.float64
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Bounds(difference(np.arange(size)), float(low), float(high))


def paired_bounds(gained: int, lost: int, trials: int, confidence: float) -> Bounds:
    """Return the difference of two rates on the same rows, with one-sided score bounds.

    Tango's interval ("Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", 1998): it keeps its level with few rows and with few
    disagreeing pairs, even none, where a bootstrap would see no spread at all.

    Args:
        gained: Rows where only the new system succeeded.
        lost: Rows where only the old one did.
        trials: All rows; without any the difference may be anything.
        confidence: Of each bound by itself.

    Raises:
        ValueError: The counts contradict each other, or the confidence is not inside (0, 1).
    """
    from scipy import special

    _check(gained + lost, trials, confidence)
    if min(gained, lost) < 0:
        raise ValueError(f"{gained} and {lost} are no counts")
    if trials == 0:
        return Bounds(0.0, -1.0, 1.0)
    value = (gained - lost) / trials
    z = float(special.ndtri(confidence))
    return Bounds(
        value,
        _where_score(gained, lost, trials, z, -1.0, value),
        _where_score(gained, lost, trials, -z, value, 1.0),
    )


def _where_score(gained: int, lost: int, trials: int, z: float, low: float, high: float) -> float:
    """Return the difference whose score is ``z``; the score falls as the difference grows."""
    for _ in range(60):
        middle = (low + high) / 2
        if _score(gained, lost, trials, middle) > z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score(gained: int, lost: int, trials: int, difference: float) -> float:
    """Return the standardised distance of the counts from a supposed difference."""
    linear = -gained - lost + (2 * trials - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * trials * constant))
    loss = (root - linear) / (4 * trials)
    spread = trials * (2 * loss + difference * (1 - difference))
    distance = gained - lost - trials * difference
    if spread <= 1e-12:
        return math.copysign(math.inf, distance) if abs(distance) > 1e-9 else 0.0
    return distance / math.sqrt(spread)


def trials_needed(floor: float, expected: float, confidence: float, most: int = 100_000) -> int:
    """Return how many trials it takes until the lower bound is expected to reach ``floor``.

    Assumes that the share of successes stays ``expected``.

    Returns:
        The number of trials, or ``most`` when no smaller number is enough.
    """
    if expected <= floor:
        return most
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if binomial_lower(math.floor(expected * middle), middle, confidence) >= floor:
            high = middle
        else:
            low = middle + 1
    return low


def _check(successes: int, trials: int, confidence: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes do not fit {trials} trials")
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence must lie between 0 and 1, not {confidence}")
