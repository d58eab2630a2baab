"""Is a rate above or below a target? Evidence that may be looked at after every observation.

Each function reads two counts and nothing else. The evidence is the likelihood ratio between
"the rate is theta" and "the rate is the target", averaged over a uniform prior for theta on the
far side of the target (a mixture in the sense of Robbins, 1970). As long as the hypothesis it
speaks against holds, the average can only shrink in expectation from one observation to the
next, so by Ville's inequality (1939) the chance that it *ever* reaches ``1 / alpha`` is at most
``alpha``. Stopping at the first good moment, or peeking after every request, costs nothing.

Assumed: each observation agrees with a chance that, given everything before it, stays on the
hypothesis' side of the target. Independence is not needed, a constant rate neither.

Sources: Ville, "Etude critique de la notion de collectif" (1939); Robbins, "Statistical methods
related to the law of the iterated logarithm" (1970); Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021); Ramdas, Grunwald, Vovk
and Shafer, "Game-theoretic statistics and safe anytime-valid inference" (2023); Shin, Ramdas and
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection" (2022).

Knows nothing about specialists, stages or what is being counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_STEPS = 60
"""Halvings when a bound is inverted; the width that is left is below 1e-17."""


def evidence_above(successes: int, trials: int, target: float) -> float:
    """Return the e-value against "the rate is at most ``target``".

    It starts at 1. Crossing ``1 / alpha`` at any time happens with a chance of at most ``alpha``
    while the rate is at or below the target. At a target of 0.80 twenty agreements in a row
    reach 20, that is ``alpha`` 0.05.

    Args:
        successes: Observations that agreed.
        trials: All observations.
        target: The rate to be shown, strictly between 0 and 1.

    Returns:
        The e-value: 0 or more, possibly infinite for overwhelming evidence.

    Raises:
        ValueError: The counts contradict each other, or the target is not inside (0, 1).
    """
    from scipy import special

    _check(successes, trials, target)
    failures = trials - successes
    upper_tail = float(special.betaincc(successes + 1, failures + 1, target))
    if upper_tail <= 0.0:
        return 0.0
    logarithm = (
        math.log(upper_tail)
        + float(special.betaln(successes + 1, failures + 1))
        - successes * math.log(target)
        - (failures + 1) * math.log1p(-target)
    )
    return math.exp(logarithm) if logarithm < 700 else math.inf


def evidence_below(successes: int, trials: int, target: float) -> float:
    """Return the e-value against "the rate is at least ``target``".

    The mirror image of `evidence_above`: counts failures against ``1 - target``.

    Raises:
        ValueError: The counts contradict each other, or the target is not inside (0, 1).
    """
    _check(successes, trials, target)
    return evidence_above(trials - successes, trials, 1.0 - target)


def rise_evidence(events: Sequence[bool], rate: float, window: int) -> float:
    """Return the evidence that events became more frequent than a rate at some point.

    The sum, over every point at which a rise may have begun, of `evidence_above` since then (a
    Shiryaev-Roberts e-detector; Shin, Ramdas and Rinaldo, "E-detectors", 2022). While the chance
    of an event, given everything before it, stays at or below ``rate``, the sum grows by at most
    1 per observation in expectation; so it takes ``c`` observations or more, on average, until it
    first reaches ``c``. Points before the window are left out, which only makes it smaller.

    Args:
        events: Whether each observation is an event, oldest first.
        rate: The rate that is still right, strictly between 0 and 1.
        window: Latest observations that are looked at.

    Returns:
        The evidence: 0 or more; 0 without observations.

    Raises:
        ValueError: The rate is not inside (0, 1).
    """
    from scipy import special

    _check(0, 0, rate)
    latest = np.array(events[-window:], dtype=bool)[::-1]
    hits = np.cumsum(latest)
    misses = np.arange(1, len(latest) + 1) - hits
    # As in `evidence_above`, for all beginnings at once: this runs once a second and specialist.
    with np.errstate(divide="ignore", over="ignore"):
        logarithms = (
            np.log(special.betaincc(hits + 1, misses + 1, rate))
            + special.betaln(hits + 1, misses + 1)
            - hits * math.log(rate)
            - (misses + 1) * math.log1p(-rate)
        )
        return float(np.exp(logarithms).sum())


def confidence_lower(successes: int, trials: int, alpha: float) -> float:
    """Return a lower bound of the rate that holds at all times together.

    The smallest rate that `evidence_above` has not ruled out at level ``alpha``. The chance that
    the bound is ever above the true rate, however long one goes on counting, is at most
    ``alpha``.

    Args:
        successes: Observations that agreed.
        trials: All observations.
        alpha: Chance of being wrong at any time, strictly between 0 and 1.

    Returns:
        The bound, 0 to 1; 0 before anything was observed.

    Raises:
        ValueError: The counts contradict each other, or ``alpha`` is not inside (0, 1).
    """
    _check(successes, trials, 0.5)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    # With theta = q + u (1 - q) the mixture is an average over u of
    # (1 + u (1 - q) / q) ** successes * (1 - u) ** failures: it falls as q grows,
    # so the rates that are ruled out form an interval and halving finds its end.
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if not 0 < middle < 1:
            break
        if evidence_above(successes, trials, middle) >= 1 / alpha:
            low = middle
        else:
            high = middle
    return low


def confidence_upper(successes: int, trials: int, alpha: float) -> float:
    """Return an upper bound of the rate that holds at all times together.

    The mirror image of `confidence_lower`.

    Raises:
        ValueError: The counts contradict each other, or ``alpha`` is not inside (0, 1).
    """
    return 1.0 - confidence_lower(trials - successes, trials, alpha)


def _check(successes: int, trials: int, target: float) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes do not fit {trials} trials")
    if not 0 < target < 1:
        raise ValueError(f"the target must lie between 0 and 1, not {target}")
