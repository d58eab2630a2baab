"""Where the words of a text are among the word pieces that a network reads.

A text that is longer than the network's window is read in several windows
that overlap; each word is looked up where it has the most text around it.
Knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.words import Word

WINDOW = 256
"""Most pieces in a window, the two special ones included."""

OVERLAP = 64
"""Pieces that neighbouring windows share."""

MAX_WINDOWS = 16
"""Windows of one text; words beyond them are not read."""


class Layout(NamedTuple):
    """A text as a network reads it."""

    windows: tuple[tuple[int, ...], ...]
    """Ids of the pieces of each window, special ones included."""

    places: NDArray[np.int64]
    """Window and position of each word's first piece, shape ``(words, 2)``; -1 where none."""


def lay_out(tokenizer: Any, text: str, words: Sequence[Word]) -> Layout:
    """Return the windows of a text and the place of every word."""
    encoded = tokenizer.encode(text.encode("utf-8", "replace").decode())
    ids, offsets = encoded.ids, encoded.offsets[1:-1]
    first, last = ids[0], ids[-1]
    body = ids[1:-1]
    starts = _starts(len(body))
    size = WINDOW - 2
    windows = tuple((first, *body[start : start + size], last) for start in starts)
    places = np.full((len(words), 2), -1, np.int64)
    piece = 0
    for number, word in enumerate(words):
        while piece < len(offsets) and offsets[piece][1] <= word.start:
            piece += 1
        if piece == len(offsets) or offsets[piece][0] >= word.end:
            continue
        window = _best_window(piece, starts, size, len(body))
        if window >= 0:
            places[number] = window, piece - starts[window] + 1
    return Layout(windows, places)


def open_tokenizer(path: Path) -> Any:
    """Return a tokenizer that neither pads nor cuts.

    Raises:
        ArtefactError: The file is missing or no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ArtefactError(f"{path.name} is missing; train the specialist again") from exc
    except Exception as exc:  # the library raises plain Exception, nothing narrower
        raise ArtefactError(f"{path.name} is damaged; train the specialist again") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _starts(count: int) -> list[int]:
    size = WINDOW - 2
    if count <= size:
        return [0]
    return [*range(0, count - OVERLAP, size - OVERLAP)][:MAX_WINDOWS]


def _best_window(piece: int, starts: Sequence[int], size: int, count: int) -> int:
    """Return the window in which a piece is farthest from an edge inside the text."""
    best, margin = -1, -1
    for window, start in enumerate(starts):
        if not start <= piece < start + size:
            continue
        left = piece - start if start else size
        right = start + size - 1 - piece if start + size < count else size
        if min(left, right) > margin:
            best, margin = window, min(left, right)
    return best
