"""Texts as an encoder is trained on them: windows, batches, and how many epochs there are.

Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.inference.pieces import Layout

_BATCH = 16
_BATCH_PIECES = 640
_STEPS = 280
_PIECES = 160_000
"""Word pieces, padding included, that one fit reads at most; it bounds the time."""

EPOCHS = (3, 25)
"""Fewest and most epochs; where the time is not enough for the fewest, texts are left out."""

IGNORED = -100


class Text(NamedTuple):
    """One text, ready for the network."""

    layout: Layout
    """Windows and the places of its words."""

    states: list[Any]
    """What the lower layers say of each window."""

    labels: tuple[tuple[int, ...], ...] | None
    """Number of every word's label, per track; ``None``: not to learn from."""


class Window(NamedTuple):
    """As much of a text as the network reads at once."""

    states: Any
    """What the lower layers say of its pieces, shape ``(pieces, hidden)``."""

    targets: list[NDArray[np.int64]]
    """Number of every piece's label, per track."""


def windows_of(text: Text) -> Iterator[Window]:
    """Yield each window with the label numbers of its pieces, per track."""
    for number, states in enumerate(text.states):
        inside = np.flatnonzero(text.layout.places[:, 0] == number)
        if not len(inside) or text.labels is None:
            continue
        targets = []
        for row in text.labels:
            target = np.full(len(states), IGNORED, np.int64)
            target[text.layout.places[inside, 1]] = np.array(row)[inside]
            targets.append(target)
        yield Window(states, targets)


def in_batches(windows: Sequence[Window], rng: np.random.Generator) -> list[list[Window]]:
    """Return batches of about the same length, in random order."""
    lengths = np.array([len(window.states) for window in windows])
    order = np.argsort(lengths + rng.uniform(0, 4, len(windows)), kind="stable")
    batches: list[list[Window]] = []
    for place in order:
        # Lengths ascend, but for the jitter, so the newcomer decides how wide the batch gets.
        full = not batches or (
            len(batches[-1]) == _BATCH
            or (len(batches[-1]) + 1) * int(lengths[place]) > _BATCH_PIECES
        )
        if full:
            batches.append([])
        batches[-1].append(windows[place])
    return [batches[place] for place in rng.permutation(len(batches))]


def pieces_of(batches: Sequence[Sequence[Window]]) -> int:
    """Return how many word pieces are read in an epoch, padding included."""
    return sum(len(batch) * max(len(window.states) for window in batch) for batch in batches)


def wanted_epochs(batches: Sequence[Sequence[Window]]) -> int:
    """Return how many epochs fit the bounds on steps and word pieces."""
    wanted = min(_STEPS / max(1, len(batches)), _PIECES / max(1, pieces_of(batches)))
    return int(np.clip(np.ceil(wanted), *EPOCHS))


def affordable(wanted: int, epochs: float) -> tuple[int, float]:
    """Return how many epochs to take, and of what share of the texts.

    Args:
        wanted: Epochs that there should be.
        epochs: Epochs of all texts that there is time for. Where they are fewer than the fewest,
            some texts are left out instead.
    """
    if epochs >= min(wanted, EPOCHS[0]):
        return min(wanted, int(epochs)), 1.0
    return EPOCHS[0], max(0.0, epochs) / EPOCHS[0]
