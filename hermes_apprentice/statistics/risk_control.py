"""Thresholds on held-out scores so that a stated rate of false routes is proven.

The method, its assumptions and its source are in ``open_set``, which is its only user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.statistics.intervals import binomial_upper

BACKGROUND = -1
"""The label of other traffic."""

MARGIN = 1e-4
"""Above the rounding of single precision, so that stored and served scores decide alike."""

_OWN_TAIL = 0.05
"""A class gives up at least this share of its own rows for being unlike the rest of them."""

_BLIND_TAIL = 0.5
"""The same when there is no other traffic at all to judge by."""

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What is known about the rate of false routes."""

    rate: float
    """The rate that was asked for."""

    achieved: bool
    """Whether the rate is proven with the stated confidence."""

    upper: float
    """Upper bound of the rate at the chosen thresholds."""

    confidence: float
    """The stated confidence."""

    background: int
    """Distinct rows of other traffic it was judged on."""

    false_routes: int
    """How many of them a class took, held out."""

    novel: float
    """Share of them that a class would take had their whole topic been unknown; an estimate."""

    coverage: tuple[float, ...]
    """For each class: share of its own rows that it takes, held out."""

    suspects: tuple[int, ...]
    """Rows of other traffic that score like the middle of a class: perhaps they belong to it."""


class Thresholds(NamedTuple):
    """One threshold per class, and what is known about them."""

    values: Scores
    """Least score at which a class takes a row."""

    bound: Bound
    """What they guarantee."""


def set_thresholds(
    scores: Scores, labels: Labels, novel: Scores, *, rate: float, confidence: float
) -> Thresholds:
    """Set one threshold per class.

    Args:
        scores: Held-out score of every row for every class, shape ``(rows, classes)``.
        labels: Class of each row, or `BACKGROUND`.
        novel: Scores of rows of other traffic had their whole topic been unknown, shape
            ``(some rows, classes)``.
        rate: The rate of false routes to stay below.
        confidence: Confidence of the bound.
    """
    classes = scores.shape[1]
    top, score = scores.argmax(axis=1), scores.max(axis=1)
    others = np.flatnonzero(labels == BACKGROUND)
    blind = max(0.0, 1 - len(others) / _rows_needed(rate, confidence))
    tail = max(_OWN_TAIL, _BLIND_TAIL * blind**2)
    thresholds = np.array([_own_threshold(scores, labels, k, rate, tail) for k in range(classes)])
    allowed = _allowed(len(others), rate, confidence)
    level = _level(scores[others], thresholds, max(allowed, 0))
    level = max(level, _level(novel, thresholds, int(rate * len(novel))))
    thresholds = np.maximum(thresholds, level)
    false_routes = int((score[others] >= thresholds[top[others]]).sum())
    members = [score[(labels == k) & (top == k)] for k in range(classes)]
    middles = np.array([np.median(own) if len(own) else np.inf for own in members])
    bound = Bound(
        rate=rate,
        achieved=allowed >= 0,
        upper=binomial_upper(false_routes, len(others), confidence),
        confidence=confidence,
        background=len(others),
        false_routes=false_routes,
        novel=_taken(novel, thresholds) / max(1, len(novel)),
        coverage=tuple(
            float((members[k] >= thresholds[k]).sum() / (labels == k).sum()) for k in range(classes)
        ),
        suspects=tuple(int(row) for row in others if score[row] >= middles[top[row]]),
    )
    return Thresholds(thresholds, bound)


def _own_threshold(scores: Scores, labels: Labels, index: int, rate: float, tail: float) -> float:
    """Return the least threshold of a class, whatever the other traffic would allow.

    It keeps out what is less like the class than nearly all of its own rows, and what belongs to
    another class.
    """
    own = scores[labels == index, index]
    elsewhere = (labels != index) & (labels != BACKGROUND)
    strays = np.sort(scores[elsewhere & (scores.argmax(axis=1) == index), index])[::-1]
    allowed = int(rate * elsewhere.sum())
    floor = max(MARGIN, float(np.quantile(own, tail, method="lower")))
    return max(floor, float(strays[allowed]) + MARGIN) if len(strays) > allowed else floor


def _level(scores: Scores, floors: Scores, allowed: int) -> float:
    """Return the common level above which at most ``allowed`` rows are taken."""
    top, score = scores.argmax(axis=1), scores.max(axis=1)
    taken = np.sort(score[score >= floors[top]])[::-1]
    return float(taken[allowed]) + MARGIN if len(taken) > allowed else -np.inf


def _taken(scores: Scores, thresholds: Scores) -> int:
    return int((scores.max(axis=1) >= thresholds[scores.argmax(axis=1)]).sum())


def _allowed(trials: int, rate: float, confidence: float) -> int:
    """Return how many false routes may be seen so that the rate is still proven; -1 if none may."""
    allowed = -1
    while allowed + 1 < trials and binomial_upper(allowed + 1, trials, confidence) <= rate:
        allowed += 1
    return allowed


def _rows_needed(rate: float, confidence: float) -> float:
    """Return how many rows without a false route prove the rate."""
    return float(np.log(1 - confidence) / np.log1p(-rate))
