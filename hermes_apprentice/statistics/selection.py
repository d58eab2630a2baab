"""Which rows a kernel model keeps, and which bandwidth and ridge suit them.

Everything is found on the data given, by leaving rows out; nothing is tuned to a data set.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.statistics import kernel
from hermes_apprentice.statistics.risk_control import BACKGROUND

_SEARCH_ROWS = 1_000
_BANDWIDTHS = (0.5, 1.0, 2.0)
_RIDGES = (0.03, 0.1, 0.3, 1.0)
_SAME = 0.9999
"""Cosine from which two rows of other traffic count as the same request."""
_NEIGHBOURHOOD = 0.025
"""Share of the other traffic that is taken for one topic: rather too much than too little."""
_LEAST_NEIGHBOURS = 5
_NEAR_COPY = 0.5
"""Rows of a class less far away than this share of the usual distance are near-copies."""
_COPIES = 0.25
"""Share of a class's rows that can be near-copies of one row."""
_MOST_COPIES = 250
_ROWS_ASKED = 200
"""Rows of a class that are scored without their near-copies; a quantile needs no more."""

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


class Choice(NamedTuple):
    """Settings of a kernel ridge."""

    bandwidth: float
    """Of the Gaussian kernel: larger is narrower."""

    ridge: float
    """Regularisation."""


_DEFAULT = Choice(1.0, 0.1)
_BLIND = Choice(2.0, 0.1)
"""Where nothing in the data can go wrong: narrow, so that most of what is new is turned away."""
_CLEARLY = 0.05
"""How much better than the default another choice must be, since the comparison is noisy."""


def distinct(vectors: Vectors, labels: Labels) -> NDArray[np.bool_]:
    """Mark the rows to use: repeats of other traffic are dropped, the first one stays."""
    used = np.ones(len(vectors), dtype=np.bool_)
    others = np.flatnonzero(labels == BACKGROUND)
    for start in range(0, len(others), 512):
        block = others[start : start + 512]
        earlier = vectors[block] @ vectors[others[: start + len(block)]].T
        same = np.tril(earlier >= _SAME, k=start - 1)
        used[block[same.any(axis=1)]] = False
    return used


def balanced(labels: Labels, limit: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Return at most ``limit`` rows, sorted: large classes give way first.

    Other traffic gets half of the room, or what the classes leave.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    names, sizes = np.unique(labels, return_counts=True)
    own = names != BACKGROUND
    room = limit - min(int(sizes[~own].sum()), limit // 2)
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes[own], middle).sum() <= room:
            low = middle
        else:
            high = middle - 1
    left = max(1, limit - int(np.minimum(sizes[own], low).sum()))
    chosen = [
        generator.permutation(np.flatnonzero(labels == name))[: low if name != BACKGROUND else left]
        for name in names
    ]
    return np.sort(np.concatenate(chosen))


def one_against_rest(labels: Labels, classes: int) -> kernel.Matrix:
    """Return the targets: 1 for a row's own class, 0 elsewhere."""
    return np.equal(labels[:, None], np.arange(classes)).astype(np.float64)


def neighbourhoods(vectors: Vectors, labels: Labels) -> NDArray[np.intp]:
    """Return one block per row of other traffic: the row itself and its nearest ones.

    Leaving the block out asks: what if nobody had ever seen this topic? Shape
    ``(other rows, size)``; one column per row while there are too few to leave any out.
    """
    others = np.flatnonzero(labels == BACKGROUND)
    near = max(_LEAST_NEIGHBOURS, math.ceil(_NEIGHBOURHOOD * len(others)))
    near = min(near, len(others) // 4)
    similarity = vectors[others] @ vectors[others].T
    np.fill_diagonal(similarity, np.inf)
    return others[np.argsort(-similarity, axis=1, kind="stable")[:, : near + 1]]


def near_copies(vectors: Vectors, labels: Labels, index: int) -> list[NDArray[np.intp]]:
    """Return one block per row of a class: the row itself and its near-copies in the class.

    Near-copies are half as far away as the middle one of the class's other rows, or less: what is
    near is told by the class, since some are all of one template and differ in a number, others
    have little in common. Leaving the block out asks: what if nothing had been said twice? Of
    large classes some rows only, evenly spread.
    """
    own = np.flatnonzero(labels == index)
    most = min(_MOST_COPIES, math.ceil(_COPIES * (len(own) - 1)))
    asked = np.unique(np.linspace(0, len(own) - 1, min(len(own), _ROWS_ASKED)).astype(np.intp))
    distance = 1.0 - vectors[own[asked]] @ vectors[own].T
    distance[np.arange(len(asked)), asked] = -np.inf
    order = np.argsort(distance, axis=1, kind="stable")
    sorted_away = np.take_along_axis(distance, order, axis=1)[:, 1:]
    if not most:
        return [own[[place]] for place in asked]
    usual = np.median(sorted_away, axis=1, keepdims=True)
    counts = np.minimum((sorted_away < _NEAR_COPY * usual).sum(axis=1), most)
    return [own[row[: count + 1]] for row, count in zip(order, counts, strict=True)]


def choose(
    vectors: Vectors, labels: Labels, classes: int, generator: np.random.Generator
) -> Choice:
    """Pick bandwidth and ridge by how much is routed at few false routes, all held out."""
    if classes == 1 and not (labels == BACKGROUND).any():
        return _BLIND
    rows = balanced(labels, _SEARCH_ROWS, generator)
    vectors, labels = vectors[rows], labels[rows]
    targets, blocks = one_against_rest(labels, classes), neighbourhoods(vectors, labels)
    found: dict[Choice, float] = {}
    for bandwidth in _BANDWIDTHS:
        parts = kernel.spectrum(kernel.self_gram(vectors, bandwidth))
        for ridge in _RIDGES:
            fitted = kernel.refit(parts, targets, ridge)
            scores = kernel.without_self(fitted, targets)
            novel = kernel.without_block(fitted, targets, blocks).max(axis=1)
            found[Choice(bandwidth, ridge)] = _quality(scores, labels, novel)
    best = max(found, key=lambda choice: found[choice])
    return best if found[best] > found[_DEFAULT] + _CLEARLY else _DEFAULT


def _quality(scores: kernel.Matrix, labels: Labels, novel: kernel.Matrix) -> float:
    """Mean share of rows routed rightly, over false-route rates from very few to one in ten."""
    own = labels != BACKGROUND
    top, score = scores.argmax(axis=1), scores.max(axis=1)
    right = np.where(top == labels, score, -np.inf)[own]
    wrong = novel
    if len(wrong) < 20:
        mine = one_against_rest(labels, scores.shape[1]).astype(bool)
        strays = np.where(mine, -np.inf, scores)[own].max(axis=1)
        wrong = np.concatenate([wrong, strays])
    wrong = np.sort(wrong)[::-1]
    ranks = np.unique(np.geomspace(1, max(2, len(wrong) // 10), 8).astype(int))
    return float(np.mean([(right > wrong[min(rank, len(wrong)) - 1]).mean() for rank in ranks]))
