"""Find training answers that are probably wrong, by what models say that never saw them.

Confident learning (Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in
dataset labels", 2021): a label's threshold is the mean probability that held-out models give it
where it was given; an answer is doubtful where another label passes its own threshold and
is the likeliest of those that do. Pure. Knows nothing about what the labels mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.trainer.folds import Fold


def doubtful(
    probabilities: NDArray[np.float64], classes: NDArray[np.intp], least: int
) -> NDArray[np.bool_]:
    """Return which answers are doubtful, shape ``(examples,)``.

    A label keeps at least ``least`` answers and half of what it has, the likeliest first, so that
    none is argued away because it is hard to learn.

    Args:
        probabilities: Held-out, shape ``(examples, labels)``.
        classes: Number of every example's label.
        least: Examples that a label needs.
    """
    count = probabilities.shape[1]
    own = probabilities[np.arange(len(classes)), classes]
    given = [own[classes == label] for label in range(count)]
    thresholds = np.array([part.mean() if len(part) else np.inf for part in given])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    likeliest = confident.argmax(axis=1)
    found: NDArray[np.bool_] = (confident.max(axis=1) >= 0) & (likeliest != classes)
    for label in range(count):
        mine = np.flatnonzero(classes == label)
        keep = max(least, -(-len(mine) // 2))
        safe = mine[np.argsort(-own[mine], kind="stable")][:keep]
        if found[mine].sum() > len(mine) - keep:
            found[safe] = False
    return found


def without(folds: Sequence[Fold], unfit: NDArray[np.bool_]) -> list[Fold]:
    """Return folds that do not learn from some examples, and predict all the same."""
    return [Fold(fold.learn[~unfit[fold.learn]], fold.predict) for fold in folds]
