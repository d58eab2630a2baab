"""What a task of the training environment came to, and how long the next one may take.

Knows nothing about what is learned.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.trained import Progress

LEAST_SECONDS = 20.0
"""Work that is always allowed: with less, an encoder learns nothing and need not be begun."""

_AFTERWARDS = 0.15
"""Share of the rest that choosing the mixture and writing the network take."""


class Outcome(NamedTuple):
    """What came back from the training environment."""

    epochs: int
    """Epochs that a fit took."""

    held_out: dict[tuple[int, int], NDArray[np.float64]]
    """Log-probabilities of the labels, by text and track."""

    planned: int
    """Epochs that there was time for."""

    wanted: int
    """Epochs that would have been taken with more time."""

    seconds: float
    """Work that it took."""

    share: float = 1.0
    """Share of the texts that there was time to learn from."""


def share_of_first(count: int, parts: Sequence[Sequence[int]]) -> float:
    """Return the share of the work that is the first fold's: each learns from the others."""
    learned = [count - len(part) for part in parts]
    return learned[0] / (sum(learned) + count)


def seconds_for(budget: Budget, share: float) -> float:
    """Return the work that a task may take, less what comes after it; a little is always given."""
    return max(LEAST_SECONDS, budget.left * (1 - _AFTERWARDS)) * share


def cut_of(first: Outcome, second: Outcome) -> str:
    """Return what the budget left out, for the recipe."""
    planned = min(first.planned, second.planned)
    wanted = max(first.wanted, second.wanted)
    share = min(first.share, second.share)
    cut = [f"{planned} of {wanted} epochs"] if planned < wanted else []
    cut += [f"learned from {share:.0%} of the texts"] if share < 1 else []
    return ", ".join(cut) or "nothing"


def pass_on(line: str, progress: Progress) -> None:
    """Tell what a line of the task's output says of its progress."""
    try:
        said = json.loads(line)
    except ValueError:
        return
    if isinstance(said, dict) and "progress" in said:
        progress(float(said["progress"]), f"fine-tuning, {said.get('doing', '')}")
