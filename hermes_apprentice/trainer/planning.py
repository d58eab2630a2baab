"""Decide for every field of a JSON shape where its value comes from.

Learned from the examples alone: which values stand in their requests, how they
have to be read, which fields overlap. Knows nothing about networks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hermes_apprentice.domain.affix import Affix, common_affix
from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import parse_json
from hermes_apprentice.domain.shape import (
    FieldKind,
    FieldShape,
    JsonScalar,
    Missing,
    Shape,
    ShapeKind,
)
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.chain import OUTSIDE
from hermes_apprentice.inference.plan import (
    AnswerPlan,
    FieldPlan,
    Placed,
    Source,
    build,
    list_name,
    set_head,
)
from hermes_apprentice.inference.words import Word, split_words
from hermes_apprentice.trainer.alignment import (
    Mention,
    WordSpan,
    choose_places,
    elements_at,
    places_of,
    readable_places,
    same,
    values_at,
)
from hermes_apprentice.trainer.arrangement import (
    ElementLesson,
    arrange,
    choice_number,
    element_lessons,
    set_order,
    spans_by_field,
    tracks_of,
)

MIN_READABLE = 0.7
"""Share of a copied field's values that one reading must find in the requests."""

MIN_REBUILT = 0.7
"""Share of the answers that must come out right when every span and choice is known."""


class Supervision(NamedTuple):
    """What one example teaches."""

    words: tuple[Word, ...]
    """The words of its request."""

    labels: tuple[tuple[str, ...], ...] | None
    """Labels of the words, one row per track; ``None`` if a value could not be placed."""

    choices: Mapping[str, int]
    """Number of the right choice, by decision; one with an unknown value is left out."""

    elements: Mapping[str, tuple[ElementLesson, ...]]
    """The right choices for the elements of lists, by field."""


class Lesson(NamedTuple):
    """A plan and what every example teaches under it."""

    plan: AnswerPlan
    """Where each field comes from."""

    supervision: tuple[Supervision, ...]
    """One per example, in order."""

    rebuilt: float
    """Share of the answers that come out right from perfect spans and choices."""

    def label_names(self, track: int) -> tuple[str, ...]:
        """Return every label of a track, the one for words outside of spans first."""
        rows = [item.labels[track] for item in self.supervision if item.labels is not None]
        return (OUTSIDE, *sorted({label for row in rows for label in row} - {OUTSIDE}))


def plan_answers(shape: Shape, examples: Sequence[Example]) -> Lesson:
    """Plan how the answers of a shape are made.

    Raises:
        TrainingError: An extractor cannot give such answers, and why.
    """
    if shape.kind is not ShapeKind.JSON or not shape.fields:
        raise TrainingError("an extractor needs answers that are JSON objects with fields")
    answers = [parse_json(example.answer) or {} for example in examples]
    words = [split_words(example.request) for example in examples]
    haystacks = [Haystack(example.request) for example in examples]
    plans: list[FieldPlan] = []
    mentions: list[Mention] = []
    for leaf in shape.fields:
        found = [_values(answer, leaf.path) for answer in answers]
        field, placed = _plan_field(leaf, found, examples, words, haystacks)
        plans.append(field)
        mentions += placed
    choose_places(mentions, words)
    plans = arrange(plans, mentions, answers)
    tracks = tracks_of(plans, mentions)
    plan = AnswerPlan(fields=tuple(_on_track(field, tracks) for field in plans), style=shape.style)
    supervision = _supervise(plan, answers, words, mentions)
    rebuilt = _rebuilt(plan, answers, supervision, mentions)
    if rebuilt < MIN_REBUILT:
        inner = next((leaf.path for leaf in shape.fields if leaf.in_inner_list), "")
        if inner:
            raise TrainingError(
                f"the field {inner!r} is in a list inside a list, and an extractor cannot tell "
                "which one a value belongs to; train it as a generator (--kind generator)"
            )
        raise TrainingError(
            f"only {rebuilt:.0%} of the answers can be put together from spans of their requests "
            f"and known values; an extractor needs {MIN_REBUILT:.0%}"
        )
    return Lesson(plan, supervision, rebuilt)


def _values(answer: Any, path: str) -> list[tuple[int, JsonScalar]]:
    """Return the present values at a path, each with the position of its list's element."""
    if path.count("[]") == 1:
        return [
            (element, value)
            for element, value in enumerate(elements_at(answer, path))
            if value is not None
        ]
    return list(enumerate(values_at(answer, path)))


def _plan_field(
    leaf: FieldShape,
    found: Sequence[Sequence[tuple[int, JsonScalar]]],
    examples: Sequence[Example],
    words: Sequence[Sequence[Word]],
    haystacks: Sequence[Haystack],
) -> tuple[FieldPlan, list[Mention]]:
    listed = "[]" in leaf.path
    if leaf.kind is FieldKind.CONSTANT:
        return _constant(leaf), []
    if leaf.kind is FieldKind.FREE_TEXT:
        raise TrainingError(
            f"the field {leaf.path!r} is written freely; only a generator can learn it"
        )
    if leaf.kind is FieldKind.CLOSED_SET and leaf.path.endswith("[]"):
        return _set(leaf, [[value for _, value in values] for values in found]), []
    if leaf.kind is FieldKind.CLOSED_SET:
        return _choice(leaf, found), []
    affix = Affix(leaf.prefix, leaf.suffix)
    reading, mentions = _best_reading(leaf, found, affix, examples, words, haystacks)
    if _readable(mentions) < MIN_READABLE and not any(affix):
        # Marks such as the # of #12 do not count where values are looked for, yet are written.
        affix = common_affix(
            {value for values in found for _, value in values if isinstance(value, str)}
        )
        reading, mentions = _best_reading(leaf, found, affix, examples, words, haystacks)
    if _readable(mentions) < MIN_READABLE:
        raise TrainingError(
            f"the field {leaf.path!r} has values of which only {_readable(mentions):.0%} stand in "
            f"their requests; an extractor needs {MIN_READABLE:.0%}"
        )
    plan = FieldPlan(
        path=leaf.path,
        source=Source.SPAN,
        missing=_missing(leaf),
        reading=reading,
        can_be_missing=listed or leaf.default is not None or any(not values for values in found),
        default=leaf.default,
        lone=leaf.lone,
        prefix=affix.prefix,
        suffix=affix.suffix,
    )
    return plan, mentions


def _readable(mentions: Sequence[Mention]) -> float:
    """Return the share of the values that must stand in their requests and do."""
    said = [mention for mention in mentions if not mention.optional]
    return sum(bool(mention.candidates) for mention in said) / len(said) if said else 1.0


def _missing(leaf: FieldShape) -> Missing:
    """How "nothing" is written; for a field that was always there, as ``null``."""
    return Missing.NULL if leaf.missing is Missing.NEVER else leaf.missing


def _constant(leaf: FieldShape) -> FieldPlan:
    value = leaf.values[0] if leaf.values else None
    if value is None:  # never had a value
        return FieldPlan(
            path=leaf.path, source=Source.CHOICE, missing=_missing(leaf), can_be_missing=True
        )
    return FieldPlan(
        path=leaf.path, source=Source.CONSTANT, missing=_missing(leaf), choices=(value,)
    )


def _set(leaf: FieldShape, found: Sequence[Sequence[JsonScalar]]) -> FieldPlan:
    return FieldPlan(
        path=leaf.path,
        source=Source.SET,
        missing=_missing(leaf),
        choices=set_order(leaf.values, found),
        lone=leaf.lone,
    )


def _choice(leaf: FieldShape, found: Sequence[Sequence[tuple[int, JsonScalar]]]) -> FieldPlan:
    return FieldPlan(
        path=leaf.path,
        source=Source.CHOICE,
        missing=_missing(leaf),
        choices=leaf.values,
        can_be_missing=leaf.missing is not Missing.NEVER
        if "[]" in leaf.path
        else any(not values for values in found),
    )


def _best_reading(
    leaf: FieldShape,
    found: Sequence[Sequence[tuple[int, JsonScalar]]],
    affix: Affix,
    examples: Sequence[Example],
    words: Sequence[Sequence[Word]],
    haystacks: Sequence[Haystack],
) -> tuple[str, list[Mention]]:
    """Return the plainest reading that places the most values, their common ends taken off."""
    from hermes_apprentice.inference.readings import readings_for

    located = [
        (example, element, bare, places_of(bare, haystacks[example], words[example]))
        for example, values in enumerate(found)
        for element, bare in ((element, affix.bare(value)) for element, value in values)
    ]
    best: tuple[str, list[Mention]] = ("as_is", [])
    best_count = -1
    for name in readings_for(leaf.value_type):
        mentions = [
            Mention(
                example,
                leaf.path,
                value,
                readable_places(places, value, name, examples[example].request, words[example]),
                element=element,
                optional=leaf.default is not None and same(leaf.default, value),
            )
            for example, element, value, places in located
        ]
        count = sum(bool(mention.candidates) or mention.optional for mention in mentions)
        if count > best_count:
            best, best_count = (name, mentions), count
        if count == len(mentions):
            break
    return best


def _on_track(field: FieldPlan, tracks: Mapping[str, int]) -> FieldPlan:
    from dataclasses import replace

    return replace(field, track=tracks.get(field.path, 0))


def _supervise(
    plan: AnswerPlan,
    answers: Sequence[Any],
    words: Sequence[Sequence[Word]],
    mentions: Sequence[Mention],
) -> tuple[Supervision, ...]:
    track_of = {field.path: field.track for field in plan.of(Source.SPAN)}
    by_example: dict[int, list[Mention]] = defaultdict(list)
    for mention in mentions:
        by_example[mention.example].append(mention)
    values = spans_by_field(mentions, len(answers))
    lessons = []
    for example, answer in enumerate(answers):
        rows = [[OUTSIDE] * len(words[example]) for _ in range(plan.tracks)]
        placed = True
        for mention in by_example[example]:
            marked = [
                _mark(rows[track_of[mention.field]], span, mention.field) for span in mention.chosen
            ]
            placed = placed and (any(marked) or (mention.optional and not mention.chosen))
        labels = tuple(tuple(row) for row in rows) if placed else None
        elements = {
            field.path: element_lessons(
                field, _spans_beside(plan, field), answer, values[example], words[example]
            )
            for field in plan.of(Source.CHOICE)
            if placed and list_name(field)
        }
        lessons.append(
            Supervision(tuple(words[example]), labels, _decisions(plan, answer), elements)
        )
    return tuple(lessons)


def _spans_beside(plan: AnswerPlan, field: FieldPlan) -> list[FieldPlan]:
    return [one for one in plan.of(Source.SPAN) if list_name(one) == list_name(field)]


def _decisions(plan: AnswerPlan, answer: Any) -> dict[str, int]:
    """Return the right outcome of every decision about the whole request."""
    found: dict[str, int] = {}
    for field in plan.of(Source.CHOICE):
        if not list_name(field):
            value = next(iter(values_at(answer, field.path)), None)
            number = choice_number(field, value)
            if number is not None:
                found[field.path] = number
    for field in plan.of(Source.SET):
        listed = values_at(answer, field.path)
        for place, choice in enumerate(field.choices):
            found[set_head(field, place)] = int(any(same(choice, value) for value in listed))
    return found


def _mark(row: list[str], span: WordSpan, field: str) -> bool:
    if any(label != OUTSIDE for label in row[span.first : span.last]):
        return False
    row[span.first : span.last] = [f"B-{field}"] + [f"I-{field}"] * (span.last - span.first - 1)
    return True


def _rebuilt(
    plan: AnswerPlan,
    answers: Sequence[Any],
    supervision: Sequence[Supervision],
    mentions: Sequence[Mention],
) -> float:
    """Return the share of the answers that come out right from perfect labels and choices."""
    values = spans_by_field(mentions, len(answers))
    right = 0
    for answer, lesson, found in zip(answers, supervision, values, strict=True):
        if lesson.labels is None:
            continue
        for field in plan.fields:
            if field.source is Source.CONSTANT and "[]" not in field.path:
                found[field.path] = [Placed(field.choices[0], 0)]
            elif field.source is Source.SET:
                found[field.path] = [
                    Placed(choice, place)
                    for place, choice in enumerate(field.choices)
                    if lesson.choices[set_head(field, place)]
                ]
            elif field.source is Source.CHOICE:
                if list_name(field):
                    numbers = [one.number for one in lesson.elements[field.path]]
                else:
                    numbers = [lesson.choices.get(field.path, len(field.choices))]
                found[field.path] = [
                    Placed(field.choices[number], place)
                    for place, number in enumerate(numbers)
                    if number < len(field.choices)
                ]
        right += _present(build(plan.fields, found)) == _present(answer)
    return right / max(1, len(answers))


def _present(value: Any) -> Any:
    """Drop what stands for nothing, and keep ``1`` and ``true`` apart."""
    if isinstance(value, dict):
        kept = {key: _present(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, "", [], {})}
    if isinstance(value, list):
        return [_present(item) for item in value]
    return json.dumps(value) if isinstance(value, bool) else value
