"""What a trained CPU model can do, whoever asks.

Knows nothing about thresholds, redaction or pattern membership: the serving
runtime adds those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hermes_apprentice.embedding.base import Encoding


class Prediction(NamedTuple):
    """What a model would answer, and how sure it is."""

    text: str
    """The answer, formatted as the upstream formats it."""

    confidence: float
    """0 to 1; higher means more likely to equal the upstream's answer."""


class CpuModel(Protocol):
    """A loaded classifier or extractor."""

    @property
    def reads_encodings(self) -> bool:
        """Whether ``predict`` needs the embedder's encodings, or runs a network of its own."""
        ...

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request; ``encodings`` are those of the same texts, in order."""
        ...
