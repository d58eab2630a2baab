"""Decide for every field of a JSON shape where its value comes from.

Learned from the examples alone: which values stand in their requests, how they
have to be read, which fields overlap. Knows nothing about networks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
from hermes_apprentice.inference.plan import AnswerPlan, FieldPlan, Placed, Source, build
from hermes_apprentice.inference.words import Word, split_words
from hermes_apprentice.trainer.alignment import (
    Mention,
    WordSpan,
    choose_places,
    places_of,
    readable_places,
    same,
    values_at,
)

MIN_READABLE = 0.7
"""Share of a copied field's values that one reading must find in the requests."""

MIN_REBUILT = 0.7
"""Share of the answers that must come out right when every span and choice is known."""

MAX_OVERLAP = 0.02
"""Share of a field's spans that may overlap another field's in the same track."""


class Supervision(NamedTuple):
    """What one example teaches."""

    words: tuple[Word, ...]
    """The words of its request."""

    labels: tuple[tuple[str, ...], ...] | None
    """Labels of the words, one row per track; ``None`` if a value could not be placed."""

    choices: Mapping[str, int]
    """Number of the right choice, by field; a field with an unknown value is left out."""


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
        found = [values_at(answer, leaf.path) for answer in answers]
        field, placed = _plan_field(leaf, found, examples, words, haystacks)
        plans.append(field)
        mentions += placed
    choose_places(mentions, words)
    tracks = _tracks(plans, mentions)
    plan = AnswerPlan(fields=tuple(_on_track(field, tracks) for field in plans), style=shape.style)
    supervision = _supervise(plan, answers, words, mentions)
    rebuilt = _rebuilt(plan, answers, supervision, mentions)
    if rebuilt < MIN_REBUILT:
        raise TrainingError(
            f"only {rebuilt:.0%} of the answers can be put together from spans of their requests "
            f"and known values; an extractor needs {MIN_REBUILT:.0%}"
        )
    return Lesson(plan, supervision, rebuilt)


def _plan_field(
    leaf: FieldShape,
    found: Sequence[Sequence[JsonScalar]],
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
    if leaf.kind is FieldKind.CLOSED_SET and not listed:
        return _choice(leaf, found), []
    located = [
        (example, value, places_of(value, haystacks[example], words[example]))
        for example, values in enumerate(found)
        for value in values
    ]
    reading, mentions = _best_reading(leaf, located, examples, words)
    readable = sum(bool(mention.candidates) for mention in mentions)
    if readable < MIN_READABLE * len(mentions):
        raise TrainingError(
            f"the field {leaf.path!r} has values of which only "
            f"{readable / max(1, len(mentions)):.0%} stand in their requests; an extractor needs "
            f"{MIN_READABLE:.0%}"
        )
    plan = FieldPlan(
        path=leaf.path,
        source=Source.SPAN,
        missing=_missing(leaf),
        reading=reading,
        can_be_missing=listed or any(not values for values in found),
    )
    return plan, mentions


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


def _choice(leaf: FieldShape, found: Sequence[Sequence[JsonScalar]]) -> FieldPlan:
    return FieldPlan(
        path=leaf.path,
        source=Source.CHOICE,
        missing=_missing(leaf),
        choices=leaf.values,
        can_be_missing=any(not values for values in found),
    )


def _best_reading(
    leaf: FieldShape,
    located: Sequence[tuple[int, JsonScalar, tuple[WordSpan, ...]]],
    examples: Sequence[Example],
    words: Sequence[Sequence[Word]],
) -> tuple[str, list[Mention]]:
    """Return the plainest reading that places the most values."""
    from hermes_apprentice.inference.readings import readings_for

    best: tuple[str, list[Mention]] = ("as_is", [])
    best_count = -1
    for name in readings_for(leaf.value_type):
        mentions = [
            Mention(
                example,
                leaf.path,
                value,
                readable_places(places, value, name, examples[example].request, words[example]),
            )
            for example, value, places in located
        ]
        count = sum(bool(mention.candidates) for mention in mentions)
        if count > best_count:
            best, best_count = (name, mentions), count
        if count == len(mentions):
            break
    return best


def _tracks(plans: Sequence[FieldPlan], mentions: Sequence[Mention]) -> dict[str, int]:
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
    lessons = []
    for example, answer in enumerate(answers):
        rows = [[OUTSIDE] * len(words[example]) for _ in range(plan.tracks)]
        placed = True
        for mention in by_example[example]:
            marked = [
                _mark(rows[track_of[mention.field]], span, mention.field) for span in mention.chosen
            ]
            placed = placed and any(marked)
        choices = {
            field.path: number
            for field in plan.of(Source.CHOICE)
            if (number := _choice_of(field, answer)) is not None
        }
        labels = tuple(tuple(row) for row in rows) if placed else None
        lessons.append(Supervision(tuple(words[example]), labels, choices))
    return tuple(lessons)


def _mark(row: list[str], span: WordSpan, field: str) -> bool:
    if any(label != OUTSIDE for label in row[span.first : span.last]):
        return False
    row[span.first : span.last] = [f"B-{field}"] + [f"I-{field}"] * (span.last - span.first - 1)
    return True


def _choice_of(field: FieldPlan, answer: Any) -> int | None:
    values = values_at(answer, field.path)
    if not values:
        return len(field.choices) if field.can_be_missing else None
    for number, choice in enumerate(field.choices):
        if same(choice, values[0]):
            return number
    return None


def _rebuilt(
    plan: AnswerPlan,
    answers: Sequence[Any],
    supervision: Sequence[Supervision],
    mentions: Sequence[Mention],
) -> float:
    """Return the share of the answers that come out right from perfect labels and choices."""
    values: list[dict[str, list[Placed]]] = [defaultdict(list) for _ in answers]
    for mention in mentions:
        if mention.chosen:
            values[mention.example][mention.field].append(
                Placed(mention.value, mention.chosen[0].first)
            )
    right = 0
    for answer, lesson, found in zip(answers, supervision, values, strict=True):
        if lesson.labels is None:
            continue
        for field in plan.fields:
            if field.source is Source.CONSTANT and "[]" not in field.path:
                found[field.path] = [Placed(field.choices[0], 0)]
            elif field.source is Source.CHOICE:
                number = lesson.choices.get(field.path)
                if number is not None and number < len(field.choices):
                    found[field.path] = [Placed(field.choices[number], 0)]
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
