"""Split a request into the words that spans are made of.

A word is a run of letters, a run of digits, or one other character that is
not a space, so that values such as ``AB-12`` or ``3x`` begin and end between
words. Scripts written without spaces are split into single characters.
Knows nothing about word pieces, features or labels.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])+|\d+|\S")


class Word(NamedTuple):
    """A word and where it stands."""

    text: str
    """As it is written."""

    start: int
    """First character."""

    end: int
    """One past the last character."""


def split_words(text: str) -> list[Word]:
    """Return the words of ``text`` in order; spaces belong to none."""
    return [Word(match.group(), *match.span()) for match in _WORD.finditer(text)]
