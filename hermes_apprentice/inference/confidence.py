"""How sure an answer is: calibrated on answers to held-out requests, and lower far from home.

Two parts are multiplied. A logistic curve over the model's own signals, fitted on
cross-validated predictions (Platt, 1999, with his smoothed targets), says how
often such answers are right. The typicality of a request, from its
nearest training requests, is 1 for all but the oddest of them and falls
to 0 for requests of another kind. Knows nothing about answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import ArtefactError

NEIGHBOURS = 3
"""Training requests that a request is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """A logistic curve over signals."""

    weights: NDArray[np.float64]
    """One per signal."""

    bias: float
    """The constant term."""

    def probability(self, signals: NDArray[np.float64]) -> float:
        """Return how often an answer with these signals is right, 0 to 1."""
        margin = float(signals @ self.weights) + self.bias
        return float(1.0 / (1.0 + np.exp(-min(max(margin, -30.0), 30.0))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Typicality:
    """What the training requests look like, as a whole."""

    exemplars: FloatArray
    """Unit-length embeddings of training requests, shape ``(count, dimension)``."""

    usual: float
    """Mean cosine to the nearest exemplars above which a request is fully typical."""

    foreign: float
    """The same below which it is not typical at all."""

    def of(self, embedding: FloatArray) -> float:
        """Return how typical a request is, 0 to 1."""
        return self.from_similarity(nearness(self.exemplars @ embedding))

    def from_similarity(self, similarity: float) -> float:
        """Return the typicality that a nearness stands for."""
        share = (similarity - self.foreign) / max(1e-6, self.usual - self.foreign)
        return float(min(max(share, 0.0), 1.0))


def nearness(cosines: NDArray[Any]) -> float:
    """Return the mean of the largest cosines; 0 where there are none."""
    if not len(cosines):
        return 0.0
    count = min(NEIGHBOURS, len(cosines))
    nearest = np.partition(cosines, len(cosines) - count)[-count:]
    return float(np.add.reduce(nearest) / cosines.dtype.type(count))


def confidence_arrays(calibration: Calibration, typicality: Typicality) -> dict[str, NDArray[Any]]:
    """Return both parts as plain arrays, for a file."""
    return {
        "calibration": np.append(calibration.weights, calibration.bias),
        "exemplars": typicality.exemplars.astype(np.float16),
        "typicality": np.array([typicality.usual, typicality.foreign]),
    }


def read_confidence(
    arrays: Mapping[str, NDArray[Any]], signals: int
) -> tuple[Calibration, Typicality]:
    """Return what `confidence_arrays` wrote.

    Raises:
        ArtefactError: An array is missing or its shape does not fit.
    """
    try:
        curve = arrays["calibration"].astype(np.float64)
        exemplars = arrays["exemplars"].astype(np.float32, copy=False)
        usual, foreign = arrays["typicality"].astype(np.float64).tolist()
    except (KeyError, ValueError) as exc:
        raise ArtefactError() from exc
    if curve.shape != (signals + 1,) or exemplars.ndim != 2:
        raise ArtefactError()
    calibration = Calibration(weights=curve[:-1], bias=float(curve[-1]))
    return calibration, Typicality(exemplars=exemplars, usual=usual, foreign=foreign)
