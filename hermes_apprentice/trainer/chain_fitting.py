"""Fit a linear-chain conditional random field by maximum likelihood.

L-BFGS on the exact gradient of the conditional log-likelihood (forward-backward
over all sequences at once) with a Gaussian prior. Named features and encoder
states have a prior each; the states are standardised first, so that one
strength fits every data set. Knows nothing about fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.chain import Chain, allowed_transitions

Features = Sequence[Sequence[str]]
"""Names of the features of every word of one text."""

_MIN_SEEN = 2
"""Words a feature must hold for; the rest cost time and tell nothing."""

_SPREAD = 1e-3
_NEGLIGIBLE = 5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """How a chain is fitted."""

    named_prior: float = 0.3
    """Strength of the prior on the weights of named features."""

    dense_prior: float = 0.02
    """Strength of the prior on the weights of states, for states scaled to unit length."""

    transition_prior: float = 0.1
    """Strength of the prior on transitions."""

    iterations: int = 100
    """Most steps of L-BFGS."""


def fit_chain(
    features: Sequence[Features],
    states: Sequence[FloatArray],
    labels: Sequence[Sequence[str]],
    names: Sequence[str],
    settings: ChainSettings,
) -> Chain:
    """Return the field that makes the given labels most probable.

    Args:
        features: Named features of every word, per text.
        states: State of every word, per text; zeros where there is none.
        labels: Label of every word, per text.
        names: All labels, the one for words outside of spans first.
        settings: How.

    Raises:
        TrainingError: There are no words, or the likelihood is not finite.
    """
    kept = [place for place, row in enumerate(labels) if row]
    if not kept:
        raise TrainingError("there are no words to learn from")
    features = [features[place] for place in kept]
    rows = np.concatenate([np.asarray(states[place], np.float32) for place in kept])
    problem = _Problem(features, rows, [labels[place] for place in kept], tuple(names), settings)
    return problem.solve()


class _Problem:
    """The likelihood of one training set."""

    def __init__(
        self,
        features: Sequence[Features],
        states: FloatArray,
        labels: Sequence[Sequence[str]],
        names: tuple[str, ...],
        settings: ChainSettings,
    ) -> None:
        self.names = names
        self.settings = settings
        self.count = len(names)
        number = {name: place for place, name in enumerate(names)}
        self.vocabulary, self.named = _sparse(features)
        self.named_t = self.named.T.tocsr()
        self.mean, self.scale, self.dense = _standardised(states)
        self.allowed, self.start = (part.astype(np.float64) for part in allowed_transitions(names))
        lengths = np.array([len(row) for row in labels])
        flat = np.array([number[label] for row in labels for label in row])
        self.gold = np.zeros((len(flat), self.count))
        self.gold[np.arange(len(flat)), flat] = 1
        self.moves = np.zeros((self.count, self.count))
        for row in labels:
            for left, right in pairwise(row):
                self.moves[number[left], number[right]] += 1
        self._lay_out(lengths)

    def _lay_out(self, lengths: NDArray[np.intp]) -> None:
        """Number the words by place, the longest texts first, so that a step is one slice."""
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        order = np.argsort(-lengths, kind="stable")
        offsets, lengths = offsets[order], lengths[order]
        self.steps = [
            offsets[: int((lengths > place).sum())] + place for place in range(int(lengths.max()))
        ]

    def solve(self) -> Chain:
        from scipy.optimize import minimize

        sizes = (self.named.shape[1], self.dense.shape[1], self.count)
        self.cuts = np.cumsum([size * self.count for size in sizes])
        found = minimize(
            self._loss,
            np.zeros(self.cuts[-1]),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.settings.iterations, "maxcor": 8},
        )
        if not np.isfinite(found.fun):
            raise TrainingError("the tagger's likelihood is not finite")
        named, dense, transitions = self._parts(found.x)
        dense = dense / self.scale[:, None]
        kept = np.flatnonzero(np.abs(named).max(axis=1) >= _NEGLIGIBLE)
        known = list(self.vocabulary)
        return Chain(
            labels=self.names,
            vocabulary={known[row]: place for place, row in enumerate(kept)},
            named=named[kept].astype(np.float32),
            dense=dense.astype(np.float32),
            offset=(-self.mean @ dense).astype(np.float32),
            transitions=(transitions + self.allowed).astype(np.float32),
            start=self.start.astype(np.float32),
        )

    def _parts(self, vector: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return [part.reshape(-1, self.count) for part in np.split(vector, self.cuts[:-1])]

    def _loss(self, vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        named, dense, transitions = self._parts(vector)
        scores = self.named @ named
        scores += self.dense @ dense.astype(np.float32)
        posterior, moves, log_partition = self._expect(scores, transitions + self.allowed)
        priors = self.settings
        loss = log_partition - (scores * self.gold).sum() - (transitions * self.moves).sum()
        excess = posterior - self.gold
        gradients = []
        for weights, gradient, prior in (
            (named, self.named_t @ excess, priors.named_prior),
            (dense, self.dense.T @ excess.astype(np.float32), priors.dense_prior),
            (transitions, moves - self.moves, priors.transition_prior),
        ):
            loss += 0.5 * prior * float((weights**2).sum())
            gradients.append((gradient + prior * weights).ravel())
        return float(loss), np.concatenate(gradients)

    def _expect(
        self, scores: NDArray[np.float64], transitions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return label posteriors, expected transitions and the summed log partitions."""
        peak = transitions.max()
        table = np.exp(transitions - peak)
        forward = [scores[self.steps[0]] + self.start]
        for words in self.steps[1:]:
            before = forward[-1][: len(words)]
            top = before.max(axis=1, keepdims=True)
            forward.append(
                scores[words] + top + peak + np.log(np.exp(before - top) @ table + 1e-300)
            )
        posterior = np.empty_like(scores)
        moves = np.zeros_like(transitions)
        log_partition = 0.0
        after = np.zeros((0, self.count))
        for place in range(len(self.steps) - 1, -1, -1):
            words = self.steps[place]
            backward = np.zeros((len(words), self.count))
            count = len(after)
            if count:
                top = after.max(axis=1, keepdims=True)
                ahead = np.exp(after - top)
                backward[:count] = top + peak + np.log(ahead @ table.T + 1e-300)
            total = forward[place] + backward
            high = total.max(axis=1, keepdims=True)
            normal = high + np.log(np.exp(total - high).sum(axis=1, keepdims=True))
            posterior[words] = np.exp(total - normal)
            if count:
                here = np.exp(forward[place][:count] + (top + peak - normal[:count]))
                moves += (here.T @ ahead) * table
            if place == 0:
                log_partition = float(normal.sum())
            after = backward + scores[words]
        return posterior, moves, log_partition


def _sparse(features: Sequence[Features]) -> tuple[dict[str, int], Any]:
    from scipy.sparse import csr_matrix

    counts = Counter(name for text in features for names in text for name in names)
    kept = sorted(name for name, seen in counts.items() if seen >= _MIN_SEEN)
    vocabulary = {name: row for row, name in enumerate(kept)}
    columns: list[int] = []
    ends = [0]
    for text in features:
        for names in text:
            columns += [vocabulary[name] for name in names if name in vocabulary]
            ends.append(len(columns))
    ones = np.ones(len(columns))
    return vocabulary, csr_matrix((ones, columns, ends), shape=(len(ends) - 1, len(vocabulary)))


def _standardised(
    states: FloatArray,
) -> tuple[NDArray[np.float64], NDArray[np.float64], FloatArray]:
    """Return mean, scale, and the states with them applied; words without a state stay zero.

    The scale includes the square root of the dimension, so that a typical state
    has unit length and one prior fits embedders of every width.
    """
    seen = states.any(axis=1)
    if not seen.any():
        size = states.shape[1]
        return np.zeros(size), np.ones(size), states
    mean = states[seen].mean(axis=0, dtype=np.float64)
    scale = (states[seen].std(axis=0, dtype=np.float64) + _SPREAD) * np.sqrt(states.shape[1])
    scaled = ((states - mean) / scale).astype(np.float32)
    scaled[~seen] = 0
    return mean, scale, scaled
