"""A linear-chain conditional random field over words, forward pass only.

After Lafferty, McCallum and Pereira (2001). A word's score for a label is the
sum of the weights of its named features plus a linear function of its
standardised encoder state. Labels follow the begin/inside/outside scheme;
``I-x`` can only follow ``B-x`` or ``I-x``. Knows nothing about what labels mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.arrays import in_order, pack_names, unpack_names

OUTSIDE = "O"
"""The label of a word that belongs to no span."""

FORBIDDEN = -1e4
"""Score of a transition that cannot happen."""


class Tagging(NamedTuple):
    """The most probable labels of one text."""

    labels: tuple[str, ...]
    """One per word."""

    log_probability: float
    """Of the whole sequence, at most 0."""

    marginals: NDArray[np.float64]
    """Probability of each word's own label, shape ``(words,)``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """A trained field."""

    labels: tuple[str, ...]
    """``O`` first, then ``B-x`` and ``I-x``."""

    vocabulary: Mapping[str, int]
    """Row of every known feature in ``named``."""

    named: FloatArray
    """Weights of the named features, shape ``(features, labels)``."""

    dense: FloatArray
    """Weights of the states, shape ``(state_dimension, labels)``; scaling is folded in."""

    offset: FloatArray
    """Added to every word that has a state, shape ``(labels,)``: the folded mean."""

    transitions: FloatArray
    """From row to column, forbidden ones included, shape ``(labels, labels)``."""

    start: FloatArray
    """For the first word, shape ``(labels,)``."""

    def emissions(
        self, features: Sequence[Sequence[str]], states: FloatArray
    ) -> NDArray[np.float64]:
        """Return every word's score for every label, shape ``(words, labels)``."""
        look_up = self.vocabulary.get
        scores = np.zeros((len(features), len(self.labels)))
        for place, names in enumerate(features):
            rows = [row for name in names if (row := look_up(name)) is not None]
            if rows:
                scores[place] = self.named[rows].sum(axis=0)
        seen = states.any(axis=1)
        scores[seen] += states[seen] @ self.dense + self.offset
        return scores

    def tag(self, emissions: NDArray[np.float64], required: Collection[str] = ()) -> Tagging:
        """Return the best labels of one text; see `best_labels`."""
        return best_labels(self.labels, emissions, self.transitions, self.start, required)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as plain arrays, for a file."""
        return {
            "labels": pack_names(self.labels),
            "vocabulary": pack_names(in_order(self.vocabulary)),
            "named": self.named.astype(np.float16),
            "dense": self.dense.astype(np.float32),
            "offset": self.offset.astype(np.float32),
            "transitions": self.transitions.astype(np.float32),
            "start": self.start.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Chain:
        """Return the field that `to_arrays` wrote.

        Raises:
            ArtefactError: An array is missing or its shape does not fit.
        """
        try:
            labels = unpack_names(arrays["labels"])
            names = unpack_names(arrays["vocabulary"])
            chain = cls(
                labels=labels,
                vocabulary={name: row for row, name in enumerate(names)},
                named=arrays["named"].astype(np.float32, copy=False),
                dense=arrays["dense"].astype(np.float32, copy=False),
                offset=arrays["offset"].astype(np.float32, copy=False),
                transitions=arrays["transitions"].astype(np.float32, copy=False),
                start=arrays["start"].astype(np.float32, copy=False),
            )
        except KeyError as exc:
            raise ArtefactError() from exc
        count = len(labels)
        fits = (
            chain.named.shape == (len(names), count)
            and chain.dense.ndim == 2
            and chain.dense.shape[1] == count
            and chain.offset.shape == chain.start.shape == (count,)
            and chain.transitions.shape == (count, count)
        )
        if not fits:
            raise ArtefactError()
        return chain


def best_labels(
    labels: Sequence[str],
    emissions: NDArray[np.float64],
    transitions: NDArray[Any],
    start: NDArray[Any],
    required: Collection[str] = (),
) -> Tagging:
    """Return the best labels (Viterbi) with their probabilities (forward-backward).

    Args:
        labels: Names of the columns.
        emissions: Scores, shape ``(words, labels)``.
        transitions: Scores from row to column, shape ``(labels, labels)``.
        start: Scores for the first word, shape ``(labels,)``.
        required: Fields that must have a span; one that the best labels leave out
            begins at its most probable word. Probabilities are not changed by this.
    """
    count = len(emissions)
    if not count:
        return Tagging((), 0.0, np.zeros(0))
    transitions = transitions.astype(np.float64)
    marginals, log_partition = posteriors(emissions, transitions, start)
    path = _viterbi(emissions, transitions, start)
    fixed: dict[int, int] = {}
    for field in required:
        begin = labels.index(f"B-{field}") if f"B-{field}" in labels else -1
        if begin < 0 or begin in path or len(fixed) == count:
            continue
        shares = marginals[:, begin].copy()
        shares[list(fixed)] = -1.0
        fixed[int(shares.argmax())] = begin
        bound = emissions.copy()
        for place, label in fixed.items():
            bound[place] = FORBIDDEN
            bound[place, label] = emissions[place, label]
        path = _viterbi(bound, transitions, start)
    places = np.arange(count)
    score = emissions[places, path].sum() + start[path[0]]
    score += transitions[path[:-1], path[1:]].sum()
    return Tagging(
        tuple(labels[label] for label in path),
        min(0.0, float(score) - log_partition),
        marginals[places, path],
    )


def _viterbi(
    emissions: NDArray[np.float64], transitions: NDArray[np.float64], start: NDArray[Any]
) -> list[int]:
    best = emissions[0] + start
    back = np.zeros(emissions.shape, np.intp)
    for place in range(1, len(emissions)):
        paths = best[:, None] + transitions
        back[place] = paths.argmax(axis=0)
        best = paths.max(axis=0) + emissions[place]
    path = [int(best.argmax())]
    for place in range(len(emissions) - 1, 0, -1):
        path.append(int(back[place][path[-1]]))
    path.reverse()
    return path


def posteriors(
    emissions: NDArray[np.float64], transitions: NDArray[np.float64], start: NDArray[Any]
) -> tuple[NDArray[np.float64], float]:
    """Return each word's label probabilities, ``(words, labels)``, and the log partition."""
    count = len(emissions)
    moves = np.exp(np.maximum(transitions, FORBIDDEN))
    forward = np.empty_like(emissions)
    forward[0] = emissions[0] + start
    for place in range(1, count):
        peak = forward[place - 1].max()
        step = np.exp(forward[place - 1] - peak) @ moves
        forward[place] = emissions[place] + peak + np.log(step + 1e-300)
    backward = np.zeros_like(emissions)
    for place in range(count - 2, -1, -1):
        after = emissions[place + 1] + backward[place + 1]
        peak = after.max()
        backward[place] = peak + np.log(moves @ np.exp(after - peak) + 1e-300)
    total = forward + backward
    peaks = total.max(axis=1, keepdims=True)
    log_partition = float(peaks[-1, 0] + np.log(np.exp(total[-1] - peaks[-1]).sum()))
    return np.exp(total - log_partition), log_partition


def allowed_transitions(labels: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return what may follow what, and what may come first: 0 or `FORBIDDEN`."""
    moves = np.zeros((len(labels), len(labels)), np.float32)
    start = np.zeros(len(labels), np.float32)
    for column, label in enumerate(labels):
        if not label.startswith("I-"):
            continue
        start[column] = FORBIDDEN
        for row, before in enumerate(labels):
            if before[2:] != label[2:]:
                moves[row, column] = FORBIDDEN
    return moves, start
