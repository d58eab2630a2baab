"""Find out where in the requests the values of the answers came from.

A value may stand in several places; then the places are compared with the
contexts of values whose place is certain, and the likely ones are kept. Pure:
knows nothing about networks or files.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.domain.shape import JsonScalar
from hermes_apprentice.inference.readings import READINGS
from hermes_apprentice.inference.words import Word

_CONTEXT = 3
_SMOOTHING = 0.5


class WordSpan(NamedTuple):
    """Words ``first`` up to but not including ``last``."""

    first: int
    last: int

    def overlaps(self, other: WordSpan) -> bool:
        """Whether the two share a word."""
        return self.first < other.last and other.first < self.last


@dataclass(slots=True)
class Mention:
    """One value of one answer, and where it may stand in its request."""

    example: int
    """Position of the example."""

    field: str
    """Path of the field."""

    value: JsonScalar
    """The value."""

    candidates: tuple[WordSpan, ...]
    """Every place that reads as the value."""

    element: int = 0
    """Position of the element of a list that it belongs to."""

    optional: bool = False
    """Whether it is what is written when nothing is said, so that it may stand nowhere."""

    chosen: tuple[WordSpan, ...] = ()
    """The places it was probably taken from; empty if there is none."""


def values_at(answer: Any, path: str) -> list[JsonScalar]:
    """Return the present scalar values at a path such as ``items[].sku``, in order."""
    current = [answer]
    for part in path.split("."):
        name = part.removesuffix("[]")
        step = [item[name] for item in current if isinstance(item, dict) and name in item]
        if part.endswith("[]"):
            step = [
                element for item in step for element in (item if isinstance(item, list) else [item])
            ]
        current = step
    return [value for value in current if value not in (None, "", [], {})]


def elements_at(answer: Any, path: str) -> list[JsonScalar]:
    """Return the value that each element of a list has at a path, ``None`` where it has none.

    ``path`` has one ``[]``; a value that stands alone is a list of one.
    """
    head, _, rest = path.partition("[]")
    found: Any = answer
    for name in head.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found in (None, "", [], {}):
        return []
    elements = found if isinstance(found, list) else [found]
    inner = rest.removeprefix(".")
    if not inner:
        return [None if element in ("", [], {}) else element for element in elements]
    return [next(iter(values_at(element, inner)), None) for element in elements]


def places_of(value: JsonScalar, haystack: Haystack, words: Sequence[Word]) -> tuple[WordSpan, ...]:
    """Return the runs of whole words in which a value stands."""
    starts = [word.start for word in words]
    ends = [word.end for word in words]
    found: dict[WordSpan, None] = {}
    for start, end in haystack.spans(value):
        span = WordSpan(bisect_right(ends, start), bisect_left(starts, end))
        if span.first < span.last and starts[span.first] >= start and ends[span.last - 1] <= end:
            found[span] = None
    return tuple(found)


def readable_places(
    places: Sequence[WordSpan],
    value: JsonScalar,
    reading: str,
    request: str,
    words: Sequence[Word],
) -> tuple[WordSpan, ...]:
    """Return those places that ``reading`` turns into exactly this value."""
    read = READINGS[reading]
    return tuple(
        span
        for span in places
        if same(read(request[words[span.first].start : words[span.last - 1].end]), value)
    )


def same(left: JsonScalar, right: JsonScalar) -> bool:
    """Whether two values are the same in JSON: ``1`` is not ``true``, but is ``1.0``."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def choose_places(mentions: Sequence[Mention], words: Sequence[Sequence[Word]]) -> None:
    """Set ``chosen`` of every mention.

    A mention with one candidate is certain. Of several candidates those are
    kept whose surroundings are more usual for certain mentions of the field
    than for words in general, and at least the best one, unless the mention is optional. A place
    that is certain for another field is avoided.
    """
    certain: dict[str, Counter[str]] = defaultdict(Counter)
    taken: dict[int, list[tuple[str, WordSpan]]] = defaultdict(list)
    for mention in mentions:
        if len(mention.candidates) == 1 and not mention.optional:
            mention.chosen = mention.candidates
            taken[mention.example].append((mention.field, mention.candidates[0]))
            certain[mention.field].update(
                _surroundings(words[mention.example], mention.candidates[0])
            )
    background: Counter[str] = Counter()
    for text in words:
        for place in range(len(text)):
            background.update(_surroundings(text, WordSpan(place, place + 1)))
    odds = {name: _Odds(counts, background) for name, counts in certain.items()}
    even = _Odds(Counter(), background)
    used: dict[tuple[int, str], set[WordSpan]] = defaultdict(set)
    for mention in mentions:
        if len(mention.candidates) < (1 if mention.optional else 2):
            continue
        text = words[mention.example]
        free = [
            span
            for span in mention.candidates
            if not any(
                name != mention.field and span.overlaps(other)
                for name, other in taken[mention.example]
            )
        ] or list(mention.candidates)
        scores = {
            span: odds.get(mention.field, even).of(_surroundings(text, span)) for span in free
        }
        if mention.optional:
            free = [span for span in free if scores[span] > 0]
            if not free:
                continue
        if "[]" in mention.field:
            # Elements of a list are told apart by their places, so each takes one of its own.
            key = (mention.example, mention.field)
            left = [span for span in free if span not in used[key]] or free
            mention.chosen = (left[0],)
            used[key].add(left[0])
            continue
        best = max(free, key=lambda span: (scores[span], -span.first))
        mention.chosen = tuple(span for span in free if span == best or scores[span] > 0)


class _Odds:
    """How much more usual some surroundings are for a field than elsewhere."""

    def __init__(self, field_counts: Counter[str], background: Counter[str]) -> None:
        self._field = field_counts
        self._background = background
        self._field_total = field_counts.total() + _SMOOTHING * (1 + len(background))
        self._background_total = background.total() + _SMOOTHING * (1 + len(background))

    def of(self, surroundings: Iterator[str]) -> float:
        """Return the log-odds."""
        total = 0.0
        for name in surroundings:
            mine = (self._field[name] + _SMOOTHING) / self._field_total
            other = (self._background[name] + _SMOOTHING) / self._background_total
            total += log(mine / other)
        return total


def _surroundings(words: Sequence[Word], span: WordSpan) -> Iterator[str]:
    for step in range(1, _CONTEXT + 1):
        for side, place in (("<", span.first - step), (">", span.last + step - 1)):
            inside = 0 <= place < len(words)
            yield f"{side}{step if step == 1 else 2}{words[place].text.lower() if inside else ''}"
