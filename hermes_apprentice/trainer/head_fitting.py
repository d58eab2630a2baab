"""Fit a softmax head, its inputs and its regularisation chosen by cross-validation.

Knows nothing about what the classes mean.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.inference.head import SoftmaxHead
from hermes_apprentice.trainer.folds import Fold

_MOST_SPARSE = 30
"""Classes up to which a sparse prior is tried; it costs more."""

_PAIRS_FROM = 2
"""Examples in which a word or pair must occur to be learned from."""


class HeadSettings(NamedTuple):
    """What a head reads and how it is regularised."""

    embedding: bool
    """Whether it reads the embedding."""

    bag: bool
    """Whether it reads words and pairs."""

    strength: float
    """Inverse strength of the prior."""

    sparse: bool = False
    """Whether the prior is Laplace's, which keeps few words, rather than a Gaussian."""

    @property
    def text(self) -> str:
        """For the recipe."""
        read = [name for name, on in (("embedding", self.embedding), ("words", self.bag)) if on]
        return f"{'+'.join(read)} {'L1' if self.sparse else 'L2'} C={self.strength:g}"


OPTIONS = (
    HeadSettings(embedding=True, bag=False, strength=0.3),
    HeadSettings(embedding=True, bag=False, strength=3.0),
    HeadSettings(embedding=True, bag=False, strength=30.0),
    HeadSettings(embedding=False, bag=True, strength=0.3),
    HeadSettings(embedding=False, bag=True, strength=3.0),
    HeadSettings(embedding=True, bag=True, strength=3.0),
    HeadSettings(embedding=True, bag=True, strength=30.0),
    HeadSettings(embedding=False, bag=True, strength=1.0, sparse=True),
    HeadSettings(embedding=False, bag=True, strength=5.0, sparse=True),
)
"""What cross-validation chooses from."""


def fit_head(
    embeddings: FloatArray,
    bags: Sequence[Sequence[str]],
    classes: NDArray[np.intp],
    count: int,
    settings: HeadSettings,
) -> SoftmaxHead:
    """Return a head over ``count`` classes; classes without examples are never chosen."""
    vocabulary = _vocabulary(bags) if settings.bag else {}
    inputs = _inputs(embeddings, bags, vocabulary, settings)
    present = np.unique(classes)
    width = embeddings.shape[1] if settings.embedding else 0
    dense = np.zeros((width, count), np.float32)
    named = np.zeros((len(vocabulary), count), np.float32)
    bias = np.full(count, -30.0, np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return SoftmaxHead(dense=dense, vocabulary=vocabulary, named=named, bias=bias)
    fit = _sparse_logistic if settings.sparse else _logistic
    weights, intercept = fit(inputs, classes, settings.strength)
    dense[:, present] = weights[:width]
    named[:, present] = weights[width:] * _bag_scale(settings)
    bias[present] = intercept
    return SoftmaxHead(dense=dense, vocabulary=vocabulary, named=named, bias=bias)


def choose_head(
    embeddings: FloatArray,
    bags: Sequence[Sequence[str]],
    classes: NDArray[np.intp],
    count: int,
    folds: Sequence[Fold],
    options: Sequence[HeadSettings] = OPTIONS,
) -> tuple[HeadSettings, float]:
    """Return the settings with the best cross-validated log-likelihood, and their accuracy."""
    if not folds or len(np.unique(classes)) < 2:
        return options[0], 1.0
    best, best_loss, best_accuracy = options[0], np.inf, 0.0
    for option in options:
        if option.sparse and count > _MOST_SPARSE:
            continue
        losses, hits = [], 0
        for fold in folds:
            head = fit_head(
                embeddings[fold.learn],
                [bags[place] for place in fold.learn],
                classes[fold.learn],
                count,
                option,
            )
            scores = np.stack([head.scores(embeddings[n], bags[n]) for n in fold.predict])
            wanted = scores[np.arange(len(scores)), classes[fold.predict]]
            top = scores.max(axis=1)
            normal = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
            losses += list(normal - wanted)
            hits += int((scores.argmax(axis=1) == classes[fold.predict]).sum())
        loss = float(np.minimum(losses, 10.0).mean())
        if loss < best_loss:
            best, best_loss, best_accuracy = option, loss, hits / len(losses)
    return best, best_accuracy


def _vocabulary(bags: Sequence[Sequence[str]]) -> dict[str, int]:
    counts = Counter(name for bag in bags for name in bag)
    kept = sorted(name for name, seen in counts.items() if seen >= _PAIRS_FROM)
    return {name: row for row, name in enumerate(kept)}


def _bag_scale(settings: HeadSettings) -> float:
    """How large a word counts beside an embedding of length one."""
    return 0.3 if settings.embedding else 1.0


def _inputs(
    embeddings: FloatArray,
    bags: Sequence[Sequence[str]],
    vocabulary: dict[str, int],
    settings: HeadSettings,
) -> Any:
    from scipy.sparse import csr_matrix, hstack

    if not settings.bag:
        return embeddings
    columns: list[int] = []
    ends = [0]
    for bag in bags:
        columns += [vocabulary[name] for name in bag if name in vocabulary]
        ends.append(len(columns))
    scale = np.full(len(columns), _bag_scale(settings))
    named = csr_matrix((scale, columns, ends), shape=(len(bags), len(vocabulary)))
    return hstack([csr_matrix(embeddings), named]).tocsr() if settings.embedding else named


def _logistic(
    inputs: Any, classes: NDArray[np.intp], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights ``(inputs, classes)`` and intercepts; two classes give two columns."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=300)
    with warnings.catch_warnings():
        # The prior makes an early stop harmless, and cross-validation sees what it costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, classes)
    weights, intercept = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:
        weights = np.hstack([np.zeros_like(weights), weights])
        intercept = np.append(0.0, intercept)
    return weights, intercept


def _sparse_logistic(
    inputs: Any, classes: NDArray[np.intp], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same under a Laplace prior, solved exactly by splitting weights into two signs."""
    from scipy.optimize import minimize

    names, numbers = np.unique(classes, return_inverse=True)
    rows, columns, count = len(numbers), inputs.shape[1], len(names)
    gold = np.zeros((rows, count))
    gold[np.arange(rows), numbers] = 1
    transposed = inputs.T.tocsr() if hasattr(inputs, "tocsr") else inputs.T
    size = columns * count

    def loss(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = (vector[:size] - vector[size : 2 * size]).reshape(columns, count)
        scores = inputs @ weights + vector[2 * size :]
        top = scores.max(axis=1, keepdims=True)
        shares = np.exp(scores - top)
        total = shares.sum(axis=1, keepdims=True)
        value = float((np.log(total) + top).sum() - (scores * gold).sum()) * strength
        excess = (shares / total - gold) * strength
        slope = (transposed @ excess).ravel()
        value += float(vector[: 2 * size].sum())
        return value, np.concatenate([slope + 1, 1 - slope, excess.sum(axis=0)])

    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * (2 * size)
    found = minimize(
        loss,
        np.zeros(2 * size + count),
        jac=True,
        bounds=[*bounds, *[(None, None)] * count],
        method="L-BFGS-B",
        options={"maxiter": 300},
    )
    weights = (found.x[:size] - found.x[size : 2 * size]).reshape(columns, count)
    return weights, found.x[2 * size :]
