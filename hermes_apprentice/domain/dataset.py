"""Training data: redacted examples and where they came from.

Only ``dataset.builder`` makes an ``Example``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.shape import Shape


class Split(StrEnum):
    """The part of a dataset that an example belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One redacted exchange."""

    example_id: str
    """The exchange it was made from."""

    group: str
    """Near-duplicates share a group, and a group never crosses splits."""

    split: Split
    """Where it belongs."""

    request: str
    """The request, personal data replaced by typed placeholders."""

    answer: str
    """The answer, with the same placeholders."""

    asked_at: float
    """Unix time of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A built dataset: examples in memory, and the digest of what lies on disk."""

    dataset_id: str
    """``ds-`` and the first digits of the digest."""

    digest: str
    """sha256 over the examples' file and the recipe."""

    pattern_id: str
    """The pattern it was built for."""

    shape: Shape
    """The shape of the kept answers, found on the training split only."""

    redacted: bool
    """Whether placeholders stand for personal data; the specialist's runtime must do the same."""

    redaction: str
    """The redactor's fingerprint, or ``none``."""

    dropped: tuple[tuple[str, int], ...]
    """How many exchanges were left out, by reason."""

    examples: tuple[Example, ...]
    """Every example, in the order of the file."""

    def of(self, split: Split) -> tuple[Example, ...]:
        """Return the examples of one split."""
        return tuple(example for example in self.examples if example.split is split)
