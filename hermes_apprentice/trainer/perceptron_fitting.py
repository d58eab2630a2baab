"""Fit a network with one hidden layer, without torch.

Adam (Kingma and Ba, 2015) on the cross-entropy with smoothed targets (Szegedy et al., 2016) and
dropout (Srivastava et al., 2014). Inputs are scaled so that the same settings fit every set. Knows
nothing about what the classes mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.perceptron import Perceptron

_LENGTH = 10.0
"""Length that a typical block of inputs is scaled to."""

_SPREAD = 1e-3
_DECAY = (0.9, 0.999)
_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptronSettings:
    """How a network is fitted."""

    units: int = 256
    """Hidden units."""

    dropout: float = 0.2
    """Share of the hidden units that is left out at every step; half as much of the inputs."""

    smoothing: float = 0.1
    """Share of each target that is spread over all classes."""

    rate: float = 2e-3
    """Step size at the start; it falls to nothing in a straight line."""

    batch: int = 128
    """Examples per step."""

    epochs: int = 15
    """Passes over the examples."""

    least_steps: int = 600
    """Steps that are taken however few examples there are."""


def fit_perceptron(
    inputs: FloatArray,
    classes: NDArray[np.intp],
    count: int,
    settings: PerceptronSettings,
    seed: int,
) -> Perceptron:
    """Return a network over ``count`` classes.

    Args:
        inputs: Shape ``(examples, inputs)``.
        classes: Number of every example's class.
        count: How many classes there are.
        settings: How.
        seed: For everything random.

    Raises:
        TrainingError: There are no examples, or the loss is not finite.
    """
    if not len(inputs):
        raise TrainingError("there is nothing for a network to learn from")
    rng = np.random.default_rng(seed)
    rows, width = inputs.shape
    mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = inputs.std(axis=0, dtype=np.float64)
    scale = (_LENGTH / ((spread + _SPREAD) * np.sqrt(width))).astype(np.float32)
    scaled = ((inputs - mean) * scale).astype(np.float32)
    weights = [
        rng.normal(0, np.sqrt(1 / width), (width, settings.units)).astype(np.float32),
        np.zeros(settings.units, np.float32),
        rng.normal(0, np.sqrt(1 / settings.units), (settings.units, count)).astype(np.float32),
        np.zeros(count, np.float32),
    ]
    optimizer = _Adam(weights)
    per_epoch = -(-rows // settings.batch)
    total = max(settings.epochs * per_epoch, settings.least_steps)
    step = 0
    while step < total:
        order = rng.permutation(rows)
        for start in range(0, rows, settings.batch):
            chosen = order[start : start + settings.batch]
            loss, gradients = _slope(scaled[chosen], classes[chosen], weights, settings, rng)
            if not np.isfinite(loss):
                raise TrainingError("the loss is not finite; training was given up")
            optimizer.step(gradients, settings.rate * (1 - step / total))
            step += 1
            if step == total:
                break
    hidden, hidden_bias, output, output_bias = weights
    return Perceptron(
        hidden=scale[:, None] * hidden,
        hidden_bias=hidden_bias - (mean * scale) @ hidden,
        output=output,
        output_bias=output_bias,
    )


def _slope(
    inputs: FloatArray,
    classes: NDArray[np.intp],
    weights: list[FloatArray],
    settings: PerceptronSettings,
    rng: np.random.Generator,
) -> tuple[float, list[FloatArray]]:
    """Return the mean loss of a batch and its gradient."""
    hidden, hidden_bias, output, output_bias = weights
    rows = len(inputs)
    inputs = inputs * _mask(inputs.shape, settings.dropout / 2, rng)
    units = inputs @ hidden + hidden_bias
    active = (units > 0) * _mask(units.shape, settings.dropout, rng)
    units = units * active
    scores = units @ output + output_bias
    scores -= scores.max(axis=1, keepdims=True)
    shares = np.exp(scores)
    total = shares.sum(axis=1, keepdims=True)
    log_shares = scores - np.log(total)
    shares /= total
    even = settings.smoothing / scores.shape[1]
    places = np.arange(rows)
    own = log_shares[places, classes]
    loss = -float(((1 - settings.smoothing) * own + even * log_shares.sum(axis=1)).mean())
    excess = shares - np.float32(even)
    excess[places, classes] -= np.float32(1 - settings.smoothing)
    excess /= np.float32(rows)
    back = (excess @ output.T) * active
    return loss, [inputs.T @ back, back.sum(axis=0), units.T @ excess, excess.sum(axis=0)]


def _mask(shape: tuple[int, ...], rate: float, rng: np.random.Generator) -> FloatArray:
    kept = rng.random(shape, dtype=np.float32) >= rate
    mask: FloatArray = kept.astype(np.float32) / np.float32(1 - rate)
    return mask


class _Adam:
    """Changes weights in place."""

    def __init__(self, weights: list[FloatArray]) -> None:
        self._weights = weights
        self._means = [np.zeros_like(part) for part in weights]
        self._squares = [np.zeros_like(part) for part in weights]
        self._count = 0

    def step(self, gradients: list[FloatArray], rate: float) -> None:
        self._count += 1
        first, second = _DECAY
        size = rate * np.sqrt(1 - second**self._count) / (1 - first**self._count)
        for weight, mean, square, gradient in zip(
            self._weights, self._means, self._squares, gradients, strict=True
        ):
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            weight -= (size * mean / (np.sqrt(square) + _EPSILON)).astype(np.float32)
