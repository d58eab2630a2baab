"""What the examples teach about lists.

That is what their elements are put together around, what their choices are, and in which order
the values of a set are written. Knows nothing about networks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from hermes_apprentice.domain.shape import JsonScalar
from hermes_apprentice.inference.elements import (
    ElementPlace,
    Placed,
    element_places,
    rows_of,
)
from hermes_apprentice.inference.plan import FieldPlan, Source, list_name
from hermes_apprentice.inference.words import Word
from hermes_apprentice.trainer.alignment import Mention, WordSpan, elements_at, same

MAX_OVERLAP = 0.02
"""Share of a field's spans that may overlap another field's in the same track."""


class ElementLesson(NamedTuple):
    """The right choice for one element."""

    place: ElementPlace
    """Where the element is."""

    number: int
    """Number of the choice."""


def arrange(
    plans: Sequence[FieldPlan], mentions: Sequence[Mention], answers: Sequence[Any]
) -> list[FieldPlan]:
    """Name an anchor for every list whose elements may lack a field, and the others' sides.

    Where all elements have all fields, their order alone puts them together.
    """
    result = list(plans)
    for head in {list_name(plan) for plan in plans} - {""}:
        group = [plan for plan in plans if list_name(plan) == head and plan.source is Source.SPAN]
        whole = [plan for plan in group if not _lacking(plan, answers)]
        if len(group) < 2 or len(whole) == len(group) or not whole:
            continue
        anchor = whole[0].path
        places: dict[tuple[int, int], WordSpan] = {
            (mention.example, mention.element): mention.chosen[0]
            for mention in mentions
            if mention.field == anchor and mention.chosen
        }
        for plan in group:
            sides = Counter(
                mention.chosen[0].first > home.first
                for mention in mentions
                if mention.field == plan.path
                and mention.chosen
                and (home := places.get((mention.example, mention.element))) is not None
            )
            side = 1 if sides[True] > sides[False] else -1
            result[result.index(plan)] = replace(
                plan, anchor=plan.path == anchor, side=0 if plan.path == anchor else side
            )
    return result


def _lacking(plan: FieldPlan, answers: Sequence[Any]) -> bool:
    return plan.default is not None or any(
        value is None for answer in answers for value in elements_at(answer, plan.path)
    )


def spans_by_field(mentions: Sequence[Mention], examples: int) -> list[dict[str, list[Placed]]]:
    """Return per example the values whose places are known."""
    values: list[dict[str, list[Placed]]] = [defaultdict(list) for _ in range(examples)]
    for mention in mentions:
        if mention.chosen:
            first, last = mention.chosen[0]
            values[mention.example][mention.field].append(Placed(mention.value, first, last))
    return values


def element_lessons(
    field: FieldPlan,
    spans: Sequence[FieldPlan],
    answer: Any,
    values: Mapping[str, Sequence[Placed]],
    words: Sequence[Word],
) -> tuple[ElementLesson, ...]:
    """Return the right choices of one field for the elements of one example.

    Nothing where the elements could not be put together as the answer has them.
    """
    wanted = elements_at(answer, field.path)
    rows = rows_of(spans, values)
    if len(rows) != len(wanted):
        return ()
    lessons = []
    for place, value in zip(element_places(rows, len(words)), wanted, strict=True):
        number = choice_number(field, value)
        if number is not None:
            lessons.append(ElementLesson(place, number))
    return tuple(lessons)


def choice_number(field: FieldPlan, value: JsonScalar) -> int | None:
    """Return the number of a choice, that of "missing" for ``None``; ``None`` if unknown."""
    if value is None:
        return len(field.choices) if field.can_be_missing else None
    for number, choice in enumerate(field.choices):
        if same(choice, value):
            return number
    return None


def set_order(
    values: Sequence[JsonScalar], found: Sequence[Sequence[JsonScalar]]
) -> tuple[JsonScalar, ...]:
    """Return the values in the order in which lists have them."""
    before: Counter[tuple[str, str]] = Counter()
    for listed in found:
        for left, right in combinations(listed, 2):
            before[repr(left), repr(right)] += 1

    def rank(value: JsonScalar) -> tuple[int, int]:
        name = repr(value)
        ahead = sum(before[repr(other), name] > before[name, repr(other)] for other in values)
        return ahead, values.index(value)

    return tuple(sorted(values, key=rank))


def tracks_of(plans: Sequence[FieldPlan], mentions: Sequence[Mention]) -> dict[str, int]:
    """Give every span field a track in which it seldom overlaps another field."""
    spans: dict[str, dict[int, list[WordSpan]]] = defaultdict(lambda: defaultdict(list))
    for mention in mentions:
        spans[mention.field][mention.example] += mention.chosen
    tracks: dict[str, int] = {}
    for plan in plans:
        if plan.source is not Source.SPAN:
            continue
        mine = spans[plan.path]
        total = sum(map(len, mine.values()))
        track = 0
        while any(
            tracks[other] == track and _overlaps(mine, spans[other]) > MAX_OVERLAP * total
            for other in tracks
        ):
            track += 1
        tracks[plan.path] = track
    return tracks


def _overlaps(
    left: Mapping[int, Sequence[WordSpan]], right: Mapping[int, Sequence[WordSpan]]
) -> int:
    return sum(
        any(span.overlaps(other) for other in right.get(example, ()))
        for example, spans in left.items()
        for span in spans
    )
