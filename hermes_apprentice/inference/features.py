"""What a tagger sees of each word: its spelling, its neighbours, the encoder's states.

Knows nothing about labels or fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.inference.words import Word

_LETTER = re.compile(r"[^\W\d_]")
_REPEAT = re.compile(r"(.)\1{2,}")
_REACH = 3


def spelling(word: str) -> str:
    """Return a word's outline: ``Xxx`` for ``Berlin``, ``dddd`` for ``2024``."""
    if word.isdigit():
        return "d" * min(len(word), 5)
    outline = _LETTER.sub(lambda match: "X" if match.group().isupper() else "x", word)
    return _REPEAT.sub(r"\1\1", outline)


def word_features(words: Sequence[Word], text: str) -> list[list[str]]:
    """Return the names of the features that hold, for every word.

    They are the word in lower case, its outline, its first and last letters,
    what stands between it and the word before, and the same of its neighbours.
    """
    own = [_own(word, text) for word in words]
    count = len(words)
    found = []
    for place, mine in enumerate(own):
        names = ["", *mine]
        for step in range(-_REACH, _REACH + 1):
            other = place + step
            if step == 0:
                continue
            if 0 <= other < count:
                near = own[other] if abs(step) == 1 else own[other][:2]
                names += [f"{step}{name}" for name in near]
            else:
                names.append(f"{step}|")
        if place:
            names.append(f"<{own[place - 1][0]} {mine[0]}")
        if place + 1 < count:
            names.append(f">{mine[0]} {own[place + 1][0]}")
        found.append(names)
    return found


def _own(word: Word, text: str) -> list[str]:
    low = word.text.lower()
    before = text[word.start - 1] if word.start else "\n"
    gap = "n" if before == "\n" else " " if before.isspace() else "j"
    return [
        f"w{low}",
        f"o{spelling(word.text)}",
        f"a{low[:2]}",
        f"b{low[:3]}",
        f"y{low[-2:]}",
        f"z{low[-3:]}",
        f"g{gap}",
    ]


def word_states(words: Sequence[Word], encoding: Encoding) -> FloatArray:
    """Return the mean state of each word's pieces, shape ``(words, state_dimension)``.

    A word that the embedder did not read has zeros.
    """
    pooled = np.zeros((len(words), encoding.states.shape[1]), np.float32)
    starts, ends = encoding.offsets[:, 0], encoding.offsets[:, 1]
    first = np.searchsorted(ends, [word.start for word in words], side="right")
    last = np.searchsorted(starts, [word.end for word in words], side="left")
    for place, (low, high) in enumerate(zip(first, last, strict=True)):
        if high > low:
            pooled[place] = encoding.states[low:high].mean(axis=0)
    return pooled


def text_inputs(encoding: Encoding) -> FloatArray:
    """Return what a network reads of a whole text: its embedding and the mean of its states.

    Shape ``(dimension + state_dimension,)``. The states are of several layers, so that they tell
    words that the embedding has already given up for their meaning.
    """
    embedding, states = encoding.embedding, encoding.states
    result: FloatArray = np.empty(len(embedding) + states.shape[1], np.float32)
    result[: len(embedding)] = embedding
    mean = result[len(embedding) :]
    np.add.reduce(states, axis=0, out=mean)
    mean /= max(1, len(states))
    return result


def neighbourhoods(states: FloatArray) -> FloatArray:
    """Return each word's state between those of its neighbours, shape ``(words, 3 * size)``."""
    edge = np.zeros((1, states.shape[1]), np.float32)
    padded = np.concatenate([edge, states, edge])
    result: FloatArray = np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
    return result


def reads_all(words: Sequence[Word], encoding: Encoding) -> bool:
    """Whether the embedder's window reached the last word."""
    if not words:
        return True
    return bool(len(encoding.offsets)) and int(encoding.offsets[-1, 1]) >= words[-1].start
