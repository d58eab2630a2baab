"""The classifier: a head on what the embedder says of a request, open to unknown requests.

A request is answered with the confidence of its label times how typical it is
of that label's training requests. Knows nothing about training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.arrays import read_groups, write_groups
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.confidence import (
    Calibration,
    Typicality,
    confidence_arrays,
    nearness,
    read_confidence,
)
from hermes_apprentice.inference.features import text_inputs
from hermes_apprentice.inference.head import SoftmaxHead, bag_of
from hermes_apprentice.inference.perceptron import Perceptron
from hermes_apprentice.inference.words import split_words

LABELS_FILE = "labels.json"
WEIGHTS_FILE = "weights.npz"
_HEAD = "head"
_NETWORK = "network"
SIGNALS = 3
"""How many numbers the calibration reads."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier:
    """A trained classifier."""

    labels: tuple[str, ...]
    """The answers, exactly as the upstream writes them."""

    head: SoftmaxHead | Perceptron
    """Scores the labels, from the embedding and words or from the states as well."""

    owners: NDArray[np.int32]
    """Label of every exemplar, shape ``(exemplars,)``."""

    calibration: Calibration
    """Turns signals into a probability."""

    typicality: Typicality
    """Exemplars of the training requests, and what is usual among them."""

    score_weight: float = 0.0
    """How much the winning score counts beside the nearness in a request's familiarity."""

    reads_encodings: bool = field(default=True, init=False)
    """It lives on the embedding."""

    bounds: NDArray[np.intp] = field(init=False, repr=False)
    """Where each label's exemplars begin, and where the last one's end; shape ``(labels + 1,)``."""

    def __post_init__(self) -> None:
        """Put the exemplars in the order of their labels, so that those of one lie together.

        Between two answers the embedder fills the caches with its weights; what is left to read
        then is these rows alone, not an owner of every exemplar and a copy of the rows.
        """
        owners = self.owners
        if (owners[1:] < owners[:-1]).any():
            order = np.argsort(owners, kind="stable")
            owners = owners[order]
            sorted_rows = replace(self.typicality, exemplars=self.typicality.exemplars[order])
            object.__setattr__(self, "owners", owners)
            object.__setattr__(self, "typicality", sorted_rows)
        bounds = np.searchsorted(owners, np.arange(len(self.labels) + 1))
        object.__setattr__(self, "bounds", bounds)

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request with its most probable label."""
        if encodings is None:
            raise ArtefactError("this classifier needs the embedder's encodings")
        return [
            self.judge(self.scores(request, encoding), encoding)
            for request, encoding in zip(requests, encodings, strict=True)
        ]

    def judge(self, scores: NDArray[np.float64], encoding: Encoding) -> Prediction:
        """Return the label with the best score, and how sure that is."""
        picked = int(scores.argmax())
        own = self.typicality.exemplars[self.bounds[picked] : self.bounds[picked + 1]]
        near = nearness(own @ encoding.embedding)
        signals = label_signals(scores, near)
        typical = self.typicality.from_similarity(familiarity(signals, self.score_weight))
        confidence = self.calibration.probability(signals) * typical
        return Prediction(self.labels[picked], confidence)

    def scores(self, request: str, encoding: Encoding) -> NDArray[np.float64]:
        """Return the score of every label, shape ``(labels,)``."""
        if isinstance(self.head, Perceptron):
            return self.head.scores(text_inputs(encoding)).astype(np.float64)
        bag = bag_of(split_words(request)) if self.head.vocabulary else []
        return self.head.scores(encoding.embedding, bag)

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``."""
        write_groups(
            folder / WEIGHTS_FILE,
            {
                _NETWORK if isinstance(self.head, Perceptron) else _HEAD: self.head.to_arrays(),
                "confidence": confidence_arrays(self.calibration, self.typicality),
                "owners": {
                    "owners": self.owners.astype(np.int32),
                    "score_weight": np.array(self.score_weight),
                },
            },
        )
        text = json.dumps(list(self.labels), ensure_ascii=True, indent=1)
        (folder / LABELS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Return the model that `save` wrote.

        Raises:
            ArtefactError: A file is missing, damaged or does not fit the others.
        """
        try:
            labels = json.loads((folder / LABELS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise ArtefactError(f"{LABELS_FILE} cannot be read; train again") from exc
        groups = read_groups(folder / WEIGHTS_FILE)
        try:
            head = (
                Perceptron.from_arrays(groups[_NETWORK])
                if _NETWORK in groups
                else SoftmaxHead.from_arrays(groups[_HEAD])
            )
            calibration, typicality = read_confidence(groups["confidence"], SIGNALS)
            owners = groups["owners"]["owners"]
            score_weight = float(groups["owners"]["score_weight"])
        except (KeyError, TypeError) as exc:
            raise ArtefactError() from exc
        fits = (
            isinstance(labels, list)
            and all(isinstance(label, str) for label in labels)
            and len(labels) == _size(head)
            and owners.shape == (len(typicality.exemplars),)
        )
        if not fits:
            raise ArtefactError()
        return cls(
            labels=tuple(labels),
            head=head,
            owners=owners.astype(np.int32, copy=False),
            calibration=calibration,
            typicality=typicality,
            score_weight=score_weight,
        )


def _size(head: SoftmaxHead | Perceptron) -> int:
    return len(head.output_bias if isinstance(head, Perceptron) else head.bias)


def label_signals(scores: NDArray[np.float64], near: float) -> NDArray[np.float64]:
    """Return what the calibration of a classifier reads, shape ``(SIGNALS,)``.

    Log-odds of the best label, its score (which is low for every label where a request
    is none of them), and the nearness of its exemplars.
    """
    top = float(scores.max())
    # The largest of the softmax: its own exponential is one.
    best = 1.0 / float(np.add.reduce(np.exp(scores - top)))
    best = min(max(best, 1e-6), 1 - 1e-6)
    return np.array([np.log(best / (1 - best)), top, near])


def familiarity(signals: NDArray[np.float64], score_weight: float) -> float:
    """Return how much a request is like those of its label: nearness and score together."""
    return float(signals[2] + score_weight * signals[1])
