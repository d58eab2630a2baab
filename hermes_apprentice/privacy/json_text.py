"""Change the strings of a JSON document without touching anything else in it.

Knows nothing about personal data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+\-]*', re.DOTALL)
_COLON = re.compile(r"\s*:")
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Leaf(NamedTuple):
    """One string or number of a document."""

    label: str
    """The key it stands under, as words; empty for keys themselves and outside objects."""

    value: str
    """The decoded string, or the digits of the number as written."""

    is_number: bool
    """Whether it is a number, which cannot hold a placeholder."""


class Span(NamedTuple):
    """A part of a text."""

    start: int
    end: int


def documents(text: str) -> list[Span]:
    """Return where JSON objects and arrays stand: the whole text, or fenced code blocks."""
    stripped = text.strip()
    if _is_document(stripped):
        start = text.index(stripped)
        return [Span(start, start + len(stripped))]
    return [Span(*m.span(1)) for m in _FENCE.finditer(text) if _is_document(m.group(1).strip())]


def leaves(document: str) -> Iterator[Leaf]:
    """Yield every string and number of a valid ``document``, keys included."""
    for leaf, _ in _walk(document):
        yield leaf


def rewrite(document: str, change: Callable[[Leaf], str]) -> str:
    """Return ``document`` with each leaf changed; a leaf that stays equal stays as written.

    The result is a valid document. Numbers are only shown to ``change``, never changed.
    """
    parts = []
    done = 0
    for leaf, span in _walk(document):
        new = change(leaf)
        if new == leaf.value or leaf.is_number:
            continue
        literal = document[span.start : span.end]
        escaped = json.dumps(leaf.value, ensure_ascii=True) == literal and not leaf.value.isascii()
        parts += [document[done : span.start], json.dumps(new, ensure_ascii=escaped)]
        done = span.end
    return "".join([*parts, document[done:]])


def _walk(document: str) -> Iterator[tuple[Leaf, Span]]:
    label = ""
    for match in _TOKEN.finditer(document):
        literal = match.group()
        span = Span(*match.span())
        if not literal.startswith('"'):
            yield Leaf(label, literal, True), span
            continue
        value = str(json.loads(literal, strict=False))
        if _COLON.match(document, match.end()):
            label = _WORD_START.sub(" ", value).replace("_", " ")
            yield Leaf("", value, False), span
        else:
            yield Leaf(label, value, False), span


def _is_document(text: str) -> bool:
    if text[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
