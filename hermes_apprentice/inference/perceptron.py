"""A network with one hidden layer: a few numbers in, a score per class out.

Knows nothing about what goes in or what the classes mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import ArtefactError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Perceptron:
    """A trained network; the scaling of its inputs is folded into the first layer."""

    hidden: FloatArray
    """Weights of the inputs, shape ``(inputs, units)``."""

    hidden_bias: FloatArray
    """Shape ``(units,)``."""

    output: FloatArray
    """Weights of the units, shape ``(units, classes)``."""

    output_bias: FloatArray
    """Shape ``(classes,)``."""

    def scores(self, inputs: FloatArray) -> FloatArray:
        """Return the score of every class, shape ``(..., classes)`` for ``(..., inputs)``."""
        units: FloatArray = inputs @ self.hidden
        units += self.hidden_bias
        np.maximum(units, 0.0, out=units)
        result: FloatArray = units @ self.output
        result += self.output_bias
        return result

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as plain arrays, for a file."""
        return {
            "hidden": self.hidden.astype(np.float16),
            "hidden_bias": self.hidden_bias.astype(np.float32),
            "output": self.output.astype(np.float16),
            "output_bias": self.output_bias.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Perceptron:
        """Return the network that `to_arrays` wrote.

        Raises:
            ArtefactError: An array is missing or its shape does not fit.
        """
        try:
            found = cls(
                hidden=arrays["hidden"].astype(np.float32, copy=False),
                hidden_bias=arrays["hidden_bias"].astype(np.float32, copy=False),
                output=arrays["output"].astype(np.float32, copy=False),
                output_bias=arrays["output_bias"].astype(np.float32, copy=False),
            )
        except KeyError as exc:
            raise ArtefactError() from exc
        units, classes = len(found.hidden_bias), len(found.output_bias)
        if (
            found.hidden.ndim != 2
            or found.hidden.shape[1] != units
            or found.output.shape != (units, classes)
        ):
            raise ArtefactError()
        return found


def log_softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return log-probabilities over the last axis."""
    wide = scores.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result
