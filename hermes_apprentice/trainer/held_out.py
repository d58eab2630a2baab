"""What an extractor's cross-validated models answer, and what that says.

Knows nothing about how the models were fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import agrees, f1
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.decoding import SIGNALS
from hermes_apprentice.inference.extractor import Extractor, View
from hermes_apprentice.trainer.calibrating import cross_calibrated
from hermes_apprentice.trainer.folds import Fold

FLAGS = (SIGNALS - 1, SIGNALS)
"""Signals that warn: a span that could not be read, a request beyond the window."""


class HeldOut(NamedTuple):
    """Cross-validated answers."""

    texts: Sequence[str]
    """One answer per example."""

    signals: NDArray[np.float64]
    """What the confidence is computed from, shape ``(examples, SIGNALS + 1)``."""

    right: NDArray[np.bool_]
    """Whether each answer equals the upstream's."""

    def predictions(self, folds: Sequence[Fold], typical: NDArray[np.float64]) -> list[Prediction]:
        """Return the answers with cross-calibrated confidences."""
        confidences = cross_calibrated(self.signals, self.right, folds, FLAGS) * typical
        return [
            Prediction(text, float(confidence))
            for text, confidence in zip(self.texts, confidences, strict=True)
        ]

    def scores(self, shape: Shape, examples: Sequence[Example]) -> dict[str, float]:
        """Return agreement and F1."""
        answers = [example.answer for example in examples]
        return {"agreement": float(self.right.mean()), "f1": f1(shape, self.texts, answers)}


def held_out_views(
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
    folds: Sequence[Fold],
    models: Sequence[Extractor],
) -> list[View]:
    """Return what each fold's model says of what it has not seen, one per example."""
    views: dict[int, View] = {}
    for fold, model in zip(folds, models, strict=True):
        for place in fold.predict:
            views[place] = model.view(examples[place].request, encodings[place])
    return [views[place] for place in range(len(examples))]


def predict_held_out(
    shape: Shape,
    examples: Sequence[Example],
    views: Sequence[View],
    folds: Sequence[Fold],
    models: Sequence[Extractor],
    extra: Sequence[Sequence[NDArray[np.float64]]] | None = None,
) -> HeldOut:
    """Let each fold's model answer what it has not seen.

    Args:
        shape: The shape of the answers.
        examples: All examples.
        views: What the fold's model says of each.
        folds: The folds.
        models: One per fold.
        extra: Scores to add to every word's labels, per example and track.
    """
    texts = [""] * len(examples)
    signals = np.zeros((len(examples), SIGNALS + 1))
    for fold, model in zip(folds, models, strict=True):
        for place in fold.predict:
            more = None if extra is None else extra[place]
            decoded, cut_off = model.put_together(views[place], more)
            texts[place] = decoded.text
            signals[place] = np.append(decoded.signals, float(cut_off))
    right = np.array(
        [agrees(shape, text, example.answer) for text, example in zip(texts, examples, strict=True)]
    )
    return HeldOut(texts, signals, right)
