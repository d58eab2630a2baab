"""What a trainer hands over, whatever it trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hermes_apprentice.domain.training import Method
from hermes_apprentice.inference.base import Prediction

Progress = Callable[[float, str], None]
"""Told the share of the work that is done, 0 to 1, and what comes next."""


class Savable(Protocol):
    """A model that can write its files."""

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model with what cross-validation said about it."""

    model: Savable
    """Fitted on everything."""

    method: Method
    """How it was trained."""

    held_out: Sequence[Prediction]
    """One prediction per example, by a model that had seen neither it nor its near-duplicates."""

    right: Sequence[bool]
    """Whether each of them agrees with the upstream's answer."""

    scores: Mapping[str, float]
    """Cross-validated figures, by name."""

    recipe: Mapping[str, str]
    """Settings, by name."""


def part_of(progress: Progress, start: float, end: float) -> Progress:
    """Return a progress callback for a part of the work."""

    def report(share: float, doing: str) -> None:
        progress(start + share * (end - start), doing)

    return report
