"""A softmax head: the request as a whole decides among a few classes.

It reads the sentence embedding, the words and word pairs of the request, or
both. Knows nothing about what the classes mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.arrays import in_order, pack_names, unpack_names
from hermes_apprentice.inference.words import Word


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftmaxHead:
    """A multinomial logistic regression."""

    dense: FloatArray
    """Weights of the embedding, shape ``(dimension, classes)``; no rows where it is not read."""

    vocabulary: Mapping[str, int]
    """Row of every known word or pair in ``named``."""

    named: FloatArray
    """Weights of words and pairs, shape ``(features, classes)``."""

    bias: FloatArray
    """Shape ``(classes,)``."""

    def scores(self, embedding: FloatArray, bag: Sequence[str]) -> NDArray[np.float64]:
        """Return the log-odds of every class, up to a constant, shape ``(classes,)``."""
        total = self.bias.astype(np.float64)
        if len(self.dense):
            total += embedding @ self.dense
        if self.vocabulary:
            look_up = self.vocabulary.get
            rows = [row for name in bag if (row := look_up(name)) is not None]
            if rows:
                total += self.named[rows].sum(axis=0)
        return total

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as plain arrays, for a file."""
        return {
            "dense": self.dense.astype(np.float32),
            "vocabulary": pack_names(in_order(self.vocabulary)),
            "named": self.named.astype(np.float16),
            "bias": self.bias.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SoftmaxHead:
        """Return the head that `to_arrays` wrote.

        Raises:
            ArtefactError: An array is missing or its shape does not fit.
        """
        try:
            names = unpack_names(arrays["vocabulary"])
            head = cls(
                dense=arrays["dense"].astype(np.float32, copy=False),
                vocabulary={name: row for row, name in enumerate(names)},
                named=arrays["named"].astype(np.float32, copy=False),
                bias=arrays["bias"].astype(np.float32, copy=False),
            )
        except KeyError as exc:
            raise ArtefactError() from exc
        count = len(head.bias)
        if head.named.shape != (len(names), count) or head.dense.shape[1:] != (count,):
            raise ArtefactError()
        return head


def bag_of(words: Sequence[Word]) -> list[str]:
    """Return the distinct words and neighbouring pairs of a request, in lower case."""
    lows = [word.text.lower() for word in words]
    found = dict.fromkeys(lows)
    found.update(dict.fromkeys(f"{left} {right}" for left, right in pairwise(lows)))
    return list(found)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities, over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result
