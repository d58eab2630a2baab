"""Fit what turns a model's signals into a confidence.

Knows nothing about models: signals and outcomes go in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.inference.confidence import Calibration, Typicality, nearness
from hermes_apprentice.trainer.folds import Fold

_PRIOR = 0.05
_ODD_SHARE = 0.01
MAX_EXEMPLARS = 1_500
"""Training requests that are kept to compare with."""


def fit_calibration(
    signals: NDArray[np.float64], right: NDArray[np.bool_], flags: Sequence[int] = ()
) -> Calibration:
    """Return the logistic curve that fits the outcomes best.

    Targets are smoothed as in Platt (1999), so that a set without mistakes does
    not claim certainty. Weights of ordinary signals are not negative: a better
    signal never lowers the confidence.

    Args:
        signals: Shape ``(examples, signals)``.
        right: Whether each answer was right.
        flags: Columns that warn. They never raise the confidence, and one that was never
            set in training brings it to 0, since nothing is known about such requests.
    """
    from scipy.optimize import minimize

    rows, columns = signals.shape
    hits = int(right.sum())
    high, low = (hits + 1) / (hits + 2), 1 / (rows - hits + 2)
    targets = np.where(right, high, low)
    mean, scale = signals.mean(axis=0), signals.std(axis=0)
    useful = scale > 1e-9
    inputs = np.where(useful, (signals - mean) / np.where(useful, scale, 1.0), 0.0)

    def loss(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = vector[:-1], vector[-1]
        margin = inputs @ weights + bias
        value = float((np.logaddexp(0, margin) - targets * margin).sum())
        excess = 1 / (1 + np.exp(-margin)) - targets
        value += 0.5 * _PRIOR * float(weights @ weights)
        return value, np.append(inputs.T @ excess + _PRIOR * weights, excess.sum())

    bounds: list[tuple[float | None, float | None]] = [
        (None, 0.0) if column in flags else (0.0, None) for column in range(columns)
    ]
    found = minimize(
        loss, np.zeros(columns + 1), jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B"
    )
    weights = np.where(useful, found.x[:-1] / np.where(useful, scale, 1.0), 0.0)
    bias = float(found.x[-1] - weights @ mean)
    for column in flags:
        if not useful[column]:
            weights[column] = -60.0 if signals[0, column] == 0 else 0.0
    return Calibration(weights=weights, bias=bias)


def cross_calibrated(
    signals: NDArray[np.float64],
    right: NDArray[np.bool_],
    folds: Sequence[Fold],
    flags: Sequence[int] = (),
) -> NDArray[np.float64]:
    """Return confidences, each from a curve that has not seen its own example."""
    result = np.zeros(len(right))
    for fold in folds:
        curve = fit_calibration(signals[fold.learn], right[fold.learn], flags)
        for place in fold.predict:
            result[place] = curve.probability(signals[place])
    return result


def choose_exemplars(
    count: int, seed: int, owners: NDArray[np.int32] | None = None, most: int = MAX_EXEMPLARS
) -> NDArray[np.intp]:
    """Return the positions of the training requests to keep, evenly over their owners."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    if count <= most:
        return np.sort(order)
    if owners is None:
        return np.sort(order[:most])
    rank = np.zeros(count, np.intp)
    seen: dict[int, int] = {}
    for place in order:
        owner = int(owners[place])
        rank[place] = seen.get(owner, 0)
        seen[owner] = int(rank[place]) + 1
    return np.sort(order[np.argsort(rank[order], kind="stable")[:most]])


def fit_typicality(exemplars: FloatArray, groups: Sequence[str]) -> Typicality:
    """Return what is usual among training requests.

    Every exemplar is compared with the others, near-duplicates left out.
    """
    cosines = exemplars @ exemplars.T
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    near = []
    for place in range(len(exemplars)):
        others = names != names[place]
        if others.any():
            near.append(nearness(cosines[place][others]))
    return typicality_of(exemplars, np.array(near), _ODD_SHARE)


def typicality_of(
    exemplars: FloatArray, familiar: NDArray[np.float64], odd_share: float
) -> Typicality:
    """Return a typicality whose limits follow from how familiar held-out requests are.

    All but the oddest ``odd_share`` are fully typical; as far again below as these lie below the
    middle, nothing is.
    """
    if not len(familiar):
        return Typicality(exemplars=exemplars, usual=0.5, foreign=0.2)
    usual = float(np.quantile(familiar, odd_share))
    middle = float(np.median(familiar))
    return Typicality(exemplars=exemplars, usual=usual, foreign=usual - max(0.05, middle - usual))


def held_out_typicality(
    typicality: Typicality,
    embeddings: FloatArray,
    groups: Sequence[str],
    kept: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return how typical each training request would be, had it and its group not been seen.

    Args:
        typicality: As fitted.
        embeddings: Of all training requests.
        groups: Their groups.
        kept: Positions of the exemplars.
    """
    names = np.asarray(groups)
    kept_names = names[kept]
    result = np.zeros(len(embeddings))
    for place, embedding in enumerate(embeddings):
        others = kept_names != names[place]
        near = nearness(typicality.exemplars[others] @ embedding)
        result[place] = typicality.from_similarity(near)
    return result
