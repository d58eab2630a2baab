"""Thresholds on held-out scores so that a stated rate of false routes is proven.

The method, its assumptions and its source are in ``open_set``, which is its only user.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class ClassBound:
    """What is known about the false routes of one class by itself."""

    threshold: float
    """Least score at which it takes a row."""

    rate: float
    """The rate that was asked for, of all classes together and so of each."""

    upper: float
    """Upper bound of the share of other traffic that this class takes."""

    confidence: float
    """Confidence of that bound, for this class by itself."""

    background: int
    """Distinct rows of other traffic it was judged on."""

    false_routes: int
    """How many of them it took, held out."""

    @property
    def achieved(self) -> bool:
        """Whether the rate is proven for this class."""
        return self.upper <= self.rate

    def in_words(self) -> str:
        """Return the bound in one clause for a person."""
        seen = f"{self.false_routes:,} of {self.background:,} other requests"
        if not self.background:
            return "false routes not bounded: there is no other traffic to judge by"
        said = f"at most {_percent(self.upper)} false routes ({self.confidence:.0%} sure; {seen})"
        if self.achieved:
            return said
        return f"{said}, more than the {_percent(self.rate)} asked for: too little other traffic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What is known about the rate of false routes."""

    rate: float
    """The rate that was asked for."""

    achieved: bool
    """Whether the rate is proven with the stated confidence."""

    upper: float
    """Upper bound of the share that all classes take together: the rate, where it is proven."""

    confidence: float
    """The stated confidence."""

    background: int
    """Distinct rows of other traffic it was judged on."""

    false_routes: int
    """How many of them a class took, held out."""

    novel: float
    """Share of them that a class would take had their whole topic been unknown; an estimate."""

    taken: tuple[int, ...]
    """For each class: how many rows of other traffic it took, held out."""

    coverage: tuple[float, ...]
    """For each class: share of its own rows that it takes, held out."""

    suspects: tuple[int, ...]
    """Rows of other traffic that score like the middle of a class: perhaps they belong to it."""

    def of(self, index: int, threshold: float) -> ClassBound:
        """Return what is known about one class by itself.

        Args:
            index: Which class.
            threshold: Its threshold.
        """
        own = upper_of_class(self.taken[index], self.background, self.confidence)
        return ClassBound(
            threshold=threshold,
            rate=self.rate,
            # Where the rate is proven for all classes together it is proven for each.
            upper=min(own, self.rate) if self.achieved else own,
            confidence=self.confidence,
            background=self.background,
            false_routes=self.taken[index],
        )


class Thresholds(NamedTuple):
    """One threshold per class, and what is known about them."""

    values: Scores
    """Least score at which a class takes a row."""

    bound: Bound
    """What they guarantee."""


def upper_of_class(false_routes: int, trials: int, confidence: float) -> float:
    """Return an upper bound of a class's false routes that holds at whatever level it was set.

    Of the rows that lie above the ``c + 1`` highest false scores the share is bounded exactly for
    any one ``c``; the chance of error is shared out over all ``c`` as ``1 / ((c + 1) (c + 2))``,
    which adds up to one, so that nothing is assumed about how the level was found.

    Args:
        false_routes: How many rows of other traffic the class took.
        trials: Out of how many.
        confidence: Of the bound, for all levels together.
    """
    share = 1 / ((false_routes + 1) * (false_routes + 2))
    return binomial_upper(false_routes, trials, 1 - (1 - confidence) * share)


def set_thresholds(
    scores: Scores,
    labels: Labels,
    novel: Scores,
    fresh: Sequence[Scores],
    *,
    rate: float,
    confidence: float,
) -> Thresholds:
    """Set one threshold per class.

    Args:
        scores: Held-out score of every row for every class, shape ``(rows, classes)``.
        labels: Class of each row, or `BACKGROUND`.
        novel: Scores of rows of other traffic had their whole topic been unknown, shape
            ``(some rows, classes)``.
        fresh: For each class, scores of own rows for it, held out together with their near-copies.
        rate: The rate of false routes to stay below.
        confidence: Confidence of the bound.
    """
    classes = scores.shape[1]
    top, score = scores.argmax(axis=1), scores.max(axis=1)
    others = np.flatnonzero(labels == BACKGROUND)
    blind = max(0.0, 1 - len(others) / _rows_needed(rate, confidence))
    floors = [_floor(scores[labels == k, k], fresh[k], blind) for k in range(classes)]
    thresholds = np.array(
        [_own_threshold(scores, labels, k, rate, floors[k]) for k in range(classes)]
    )
    allowed = _allowed(len(others), rate, confidence)
    level = _level(scores[others], thresholds, max(allowed, 0))
    level = max(level, _level(novel, thresholds, int(rate * len(novel))))
    most = _allowed_of_class(len(others), rate, confidence)
    caps = [_cap(score[others[top[others] == k]], most) for k in range(classes)]
    thresholds = np.maximum(np.maximum(thresholds, level), caps)
    strays = top[others][score[others] >= thresholds[top[others]]]
    taken = np.bincount(strays, minlength=classes)
    achieved = allowed >= 0
    members = [score[(labels == k) & (top == k)] for k in range(classes)]
    middles = np.array([np.median(own) if len(own) else np.inf for own in members])
    bound = Bound(
        rate=rate,
        achieved=achieved,
        upper=rate if achieved else binomial_upper(len(strays), len(others), confidence),
        confidence=confidence,
        background=len(others),
        false_routes=len(strays),
        taken=tuple(int(count) for count in taken),
        novel=_taken(novel, thresholds) / max(1, len(novel)),
        coverage=tuple(
            float((members[k] >= thresholds[k]).sum() / (labels == k).sum()) for k in range(classes)
        ),
        suspects=tuple(int(row) for row in others if score[row] >= middles[top[row]]),
    )
    return Thresholds(thresholds, bound)


def _floor(own: Scores, fresh: Scores, blind: float) -> float:
    """Return the score that nearly all of what is new of a class reaches.

    Near-copies vouch for each other, so that their own scores are far above those of the next
    request; that much is asked for only as far as the other traffic is too little for a proof.

    Args:
        own: Held-out scores of the class's rows.
        fresh: The same, held out together with their near-copies.
        blind: Share of the other traffic that is lacking for a proof, 0 to 1.
    """
    tail = max(_OWN_TAIL, _BLIND_TAIL * blind**2)
    new, known = (float(np.quantile(found, tail, method="lower")) for found in (fresh, own))
    return max(MARGIN, new + blind * (known - new))


def _own_threshold(scores: Scores, labels: Labels, index: int, rate: float, floor: float) -> float:
    """Return the least threshold of a class, whatever the other traffic would allow.

    It keeps out what is less like the class than its floor, and what belongs to another class.
    """
    elsewhere = (labels != index) & (labels != BACKGROUND)
    strays = np.sort(scores[elsewhere & (scores.argmax(axis=1) == index), index])[::-1]
    allowed = int(rate * elsewhere.sum())
    return max(floor, float(strays[allowed]) + MARGIN) if len(strays) > allowed else floor


def _level(scores: Scores, floors: Scores, allowed: int) -> float:
    """Return the common level above which at most ``allowed`` rows are taken."""
    top, score = scores.argmax(axis=1), scores.max(axis=1)
    taken = np.sort(score[score >= floors[top]])[::-1]
    return float(taken[allowed]) + MARGIN if len(taken) > allowed else -np.inf


def _cap(strays: Scores, most: int) -> float:
    """Return the level above which a class takes at most ``most`` of the rows nearest to it."""
    if len(strays) <= most:
        return -np.inf
    return float(np.sort(strays)[::-1][most]) + MARGIN


def _taken(scores: Scores, thresholds: Scores) -> int:
    return int((scores.max(axis=1) >= thresholds[scores.argmax(axis=1)]).sum())


def _allowed(trials: int, rate: float, confidence: float) -> int:
    """Return how many false routes may be seen so that the rate is still proven; -1 if none may."""
    allowed = -1
    while allowed + 1 < trials and binomial_upper(allowed + 1, trials, confidence) <= rate:
        allowed += 1
    return allowed


def _allowed_of_class(trials: int, rate: float, confidence: float) -> int:
    """Return how many false routes of one class still prove the rate for it by itself.

    Where not even none would, none may be seen; the bound over all classes has to do.
    """
    allowed = 0
    while allowed + 1 < trials and upper_of_class(allowed + 1, trials, confidence) <= rate:
        allowed += 1
    return allowed


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%"


def _rows_needed(rate: float, confidence: float) -> float:
    """Return how many rows without a false route prove the rate."""
    return float(np.log(1 - confidence) / np.log1p(-rate))
