"""The elements of a list in a request: which spans belong together, and what is around them.

Spans are put together by the order of a list's fields, or, where elements may lack a field, around
one field that every element has. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from hermes_apprentice.domain.shape import JsonScalar
from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.inference.words import Word


class ListField(Protocol):
    """A field of the elements whose values are spans."""

    @property
    def path(self) -> str:
        """As in `FieldShape.path`."""
        ...

    @property
    def anchor(self) -> bool:
        """Whether every element has it, and the others are put together around it."""
        ...

    @property
    def side(self) -> int:
        """Where it stands beside the anchor: -1 before, 1 after."""
        ...


class Placed(NamedTuple):
    """A value with the place it was found at, which decides what belongs together."""

    value: JsonScalar
    """The value."""

    at: int
    """First word of its span; the number of the element for a choice inside a list; else 0."""

    end: int = 0
    """One past the last word of its span."""


class Row(NamedTuple):
    """One element."""

    values: dict[str, Placed]
    """Its spans, by path."""

    @property
    def first(self) -> int:
        """First word of its first span."""
        return min(placed.at for placed in self.values.values())

    @property
    def last(self) -> int:
        """One past the last word of its last span."""
        return max(placed.end or placed.at + 1 for placed in self.values.values())


class ElementPlace(NamedTuple):
    """Where an element is, in words."""

    before: int
    """One past the element before it, or 0."""

    first: int
    """Its first word."""

    last: int
    """One past its last word."""

    after: int
    """First word of the element after it, or the end of the text."""


def rows_of(group: Sequence[ListField], values: Mapping[str, Sequence[Placed]]) -> list[Row]:
    """Return the elements that the spans of a list's fields make, in order of appearance."""
    anchor = next((field for field in group if field.anchor), None)
    if anchor is None:
        return _in_sequence(group, values)
    heads = sorted(values.get(anchor.path, ()), key=lambda placed: placed.at)
    rows = [Row({anchor.path: placed}) for placed in heads]
    for field in group:
        if field.anchor:
            continue
        for placed in sorted(values.get(field.path, ()), key=lambda one: field.side * one.at):
            # What stands before its anchor goes to the next one, what stands after to the last one.
            number = sum(head.at <= placed.at for head in heads) - (field.side > 0)
            number = min(max(number, 0), len(rows) - 1)
            if rows:
                rows[number].values.setdefault(field.path, placed)
    return rows


def _in_sequence(group: Sequence[ListField], values: Mapping[str, Sequence[Placed]]) -> list[Row]:
    placed = sorted(
        (
            (item.at, order, item)
            for order, field in enumerate(group)
            for item in values.get(field.path, ())
        ),
        key=lambda entry: entry[:2],
    )
    rows: list[Row] = []
    for _, order, item in placed:
        path = group[order].path
        if not rows or path in rows[-1].values:
            rows.append(Row({}))
        rows[-1].values[path] = item
    return rows


def element_places(rows: Sequence[Row], words: int) -> list[ElementPlace]:
    """Return where the elements of a text of so many words are; there may be none."""
    if not rows:
        return []
    cores = [(row.first, row.last) for row in rows]
    befores = [0, *(last for _, last in cores[:-1])]
    afters = [*(first for first, _ in cores[1:]), words]
    return [
        ElementPlace(min(before, first), first, last, max(after, last))
        for before, (first, last), after in zip(befores, cores, afters, strict=True)
    ]


def element_bag(words: Sequence[Word], place: ElementPlace) -> list[str]:
    """Return the words of an element and around it, and the pairs next to it, in lower case."""
    lows = [word.text.lower() for word in words]
    found: dict[str, None] = {}
    for sign, part in (
        ("<", lows[place.before : place.first]),
        ("=", lows[place.first : place.last]),
        (">", lows[place.last : place.after]),
    ):
        found.update(dict.fromkeys(f"{sign}{word}" for word in part))
        found.update(dict.fromkeys(f"{sign}{left} {right}" for left, right in pairwise(part)))
    if place.before < place.first:
        found[f"<|{lows[place.first - 1]}"] = None
    if place.last < place.after:
        found[f">|{lows[place.last]}"] = None
    return list(found)


def element_state(states: FloatArray, place: ElementPlace) -> FloatArray:
    """Return the mean state of an element's words and those around it, at unit length."""
    part = states[place.before : place.after]
    mean = part.mean(axis=0) if len(part) else np.zeros(states.shape[1], np.float32)
    size = float(np.linalg.norm(mean))
    result: FloatArray = (mean / size if size else mean).astype(np.float32)
    return result
