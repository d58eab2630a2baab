"""From labels and choices to an answer, and to the signals that say how sure it is.

The same for every method: what found the labels does not matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.shape import JsonScalar
from hermes_apprentice.inference.chain import OUTSIDE, Tagging
from hermes_apprentice.inference.elements import ElementPlace, element_places, rows_of
from hermes_apprentice.inference.plan import (
    AnswerPlan,
    FieldPlan,
    Placed,
    Source,
    list_name,
    set_head,
)
from hermes_apprentice.inference.readings import READINGS
from hermes_apprentice.inference.words import Word

SIGNALS = 5
"""How many numbers `Decoded.signals` has."""

_LEAST = 1e-6


class LabelledSpan(NamedTuple):
    """Words that carry one field's value."""

    field: str
    """Path of the field."""

    first: int
    """First word."""

    last: int
    """One past the last word."""

    probability: float
    """Of its least certain word."""


class Decoded(NamedTuple):
    """An answer before its confidence is known."""

    text: str
    """The answer."""

    signals: NDArray[np.float64]
    """Log-probabilities of the labels, of the weakest span, of the choices and of the weakest
    choice, and 1 where a span could not be read; shape ``(SIGNALS,)``."""


Judge = Callable[[FieldPlan, ElementPlace], NDArray[np.float64]]
"""Gives the probabilities of a choice of a list's element."""


def spans_of(tagging: Tagging) -> list[LabelledSpan]:
    """Return the spans that the labels mark, in order."""
    spans = []
    place = 0
    labels = tagging.labels
    while place < len(labels):
        label = labels[place]
        if label == OUTSIDE:
            place += 1
            continue
        field = label[2:]
        end = place + 1
        while end < len(labels) and labels[end] == f"I-{field}":
            end += 1
        least = float(tagging.marginals[place:end].min())
        spans.append(LabelledSpan(field, place, end, least))
        place = end
    return spans


def decode(
    plan: AnswerPlan,
    request: str,
    words: Sequence[Word],
    taggings: Sequence[Tagging],
    choices: Mapping[str, NDArray[np.float64]],
    judge: Judge,
) -> Decoded:
    """Put an answer together.

    A field that is no list takes its most probable span; a list takes them all, in order.

    Args:
        plan: Where the fields come from.
        request: The text.
        words: Its words.
        taggings: One per track.
        choices: Probabilities of each decision about the whole request, by name, "missing" last
            where there is one.
        judge: Gives those of a choice of a list's element.
    """
    readings = {field.path: READINGS[field.reading] for field in plan.of(Source.SPAN)}
    values: dict[str, list[Placed]] = {
        field.path: [Placed(field.choices[0], 0)]
        for field in plan.of(Source.CONSTANT)
        if "[]" not in field.path
    }
    best: dict[str, float] = {}
    weakest = 1.0
    unread = 0.0
    for tagging in taggings:
        weakest = min(weakest, float(tagging.marginals.min(initial=1.0)))
        for span in spans_of(tagging):
            value: JsonScalar = readings[span.field](
                request[words[span.first].start : words[span.last - 1].end]
            )
            if value is None:
                unread = 1.0
            elif "[]" in span.field:
                values.setdefault(span.field, []).append(Placed(value, span.first, span.last))
            elif span.probability > best.get(span.field, 0.0):
                best[span.field] = span.probability
                values[span.field] = [Placed(value, span.first, span.last)]
    picks = _pick(plan, values, len(words), choices, judge)
    chosen_log = sum(float(np.log(max(_LEAST, share))) for share in picks)
    chosen_least = min(picks, default=1.0)
    signals = np.array(
        [
            max(-20.0, sum(tagging.log_probability for tagging in taggings)),
            np.log(max(_LEAST, weakest)),
            chosen_log,
            np.log(max(_LEAST, chosen_least)),
            unread,
        ]
    )
    return Decoded(plan.write(values), signals)


def _pick(
    plan: AnswerPlan,
    values: dict[str, list[Placed]],
    words: int,
    choices: Mapping[str, NDArray[np.float64]],
    judge: Judge,
) -> list[float]:
    """Add the values of all choices; return the probability of every decision taken."""
    picks: list[float] = []

    def pick(shares: NDArray[np.float64]) -> int:
        picked = int(shares.argmax())
        picks.append(float(shares[picked]))
        return picked

    for field in plan.of(Source.CHOICE):
        head = list_name(field)
        if not head:
            picked = pick(choices[field.path])
            if picked < len(field.choices):
                values[field.path] = [Placed(field.choices[picked], 0)]
            continue
        spans = [one for one in plan.of(Source.SPAN) if list_name(one) == head]
        values[field.path] = []
        for number, place in enumerate(element_places(rows_of(spans, values), words)):
            picked = pick(judge(field, place))
            if picked < len(field.choices):
                values[field.path].append(Placed(field.choices[picked], number))
    for field in plan.of(Source.SET):
        values[field.path] = [
            Placed(value, place)
            for place, value in enumerate(field.choices)
            if pick(choices[set_head(field, place)])
        ]
    return picks
