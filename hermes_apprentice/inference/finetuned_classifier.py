"""The classifier with a fine-tuned encoder beside its head.

Both give every label a log-probability; they are added, the encoder's with a weight that
cross-validation chose. All else is as in `Classifier`. Torch is not needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.classifier import Classifier
from hermes_apprentice.inference.mixture import read_weight, write_weight
from hermes_apprentice.inference.network import GRAPH_FILE, TOKENIZER_FILE, Network
from hermes_apprentice.inference.perceptron import log_softmax


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinetunedClassifier:
    """A trained classifier with a network of its own."""

    classifier: Classifier
    """Head, exemplars, calibration."""

    network: Network
    """The fine-tuned encoder."""

    weight: float
    """How much its log-probabilities count."""

    folder: Path
    """Where the network's files lie."""

    reads_encodings: bool = field(default=True, init=False)
    """The head and the exemplars live on the embedding."""

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request with its most probable label."""
        if encodings is None:
            raise ArtefactError("this classifier needs the embedder's encodings")
        return [
            self.classifier.judge(self._scores(request, encoding), encoding)
            for request, encoding in zip(requests, encodings, strict=True)
        ]

    def _scores(self, request: str, encoding: Encoding) -> NDArray[np.float64]:
        own = self.classifier.scores(request, encoding)
        return mixed(own, self.network.text_log_probabilities(request), self.weight)

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``."""
        self.classifier.save(folder)
        for name in (GRAPH_FILE, TOKENIZER_FILE):
            shutil.copyfile(self.folder / name, folder / name)
        write_weight(folder, self.weight)

    @classmethod
    def load(cls, folder: Path) -> FinetunedClassifier:
        """Return the model that `save` wrote.

        Raises:
            ArtefactError: A file is missing, damaged or does not fit the others.
        """
        classifier = Classifier.load(folder)
        weight = read_weight(folder)
        network = Network(folder / GRAPH_FILE, folder / TOKENIZER_FILE, 1)
        if network.widths != (len(classifier.labels),):
            raise ArtefactError()
        return cls(classifier=classifier, network=network, weight=weight, folder=folder)


def mixed(
    own: NDArray[np.float64], network: NDArray[np.float64], weight: float
) -> NDArray[np.float64]:
    """Return the scores of the labels by head and network, over the last axis."""
    return log_softmax(own) + weight * network
