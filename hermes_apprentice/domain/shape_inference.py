"""Find what the answers of a cluster have in common, and whether an answer fits it.

Pure: texts go in, a ``Shape`` comes out. Expects a share of the answers to be
off: refusals, prose, other schemas. Knows nothing about clusters or models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import median

from hermes_apprentice.domain.closed_set import by_frequency, is_closed
from hermes_apprentice.domain.copying import Haystack, Span, copied_from
from hermes_apprentice.domain.evaluation import label_key, parse_json
from hermes_apprentice.domain.fields import infer_fields, object_fits, read_sample
from hermes_apprentice.domain.json_answer import infer_style, render, split_json
from hermes_apprentice.domain.leaves import occurrences
from hermes_apprentice.domain.shape import FieldKind, Shape, ShapeKind

__all__ = ["Haystack", "Span", "copied_from", "fits", "fits_request", "infer_shape", "render"]

MAX_LABEL_CHARS = 60
"""Longest label."""

COMMON_SHARE = 0.8
"""Share of the short answers that have at most the usual number of words."""

RARE_LABEL = 0.05
"""Share of the short answers up to which a label is rare."""

EXTRA_WORDS = 3
"""Words that a rare label may have more than the common ones."""

MIN_FIT = 0.5
"""Share of answers that must fit for a shape to be dominant."""

LENGTH_FACTOR = 5
"""Free texts fit while their length is within this factor of the median."""


def infer_shape(requests: Sequence[str], answers: Sequence[str]) -> Shape:
    """Return the dominant shape of the answers.

    Args:
        requests: What was asked, paired with ``answers``; decides what counts as copied.
        answers: The answers, as the upstream gave them.

    Returns:
        A ``JSON`` shape if at least half of the answers share a schema, a
        ``LABEL`` shape if at least half are from a small closed set, and
        ``TEXT`` otherwise. ``agreement`` is the share of all answers that fit.

    Raises:
        ValueError: The two sequences differ in length.
    """
    if len(requests) != len(answers):
        raise ValueError(f"{len(requests)} requests for {len(answers)} answers")
    return _json_shape(requests, answers) or _label_shape(answers) or _text_shape(answers)


def fits(shape: Shape, answer: str) -> bool:
    """Whether one answer is of the shape.

    A label must be in the set. A JSON object must have known keys only, values
    of the right type, known values where the set is closed, and a value
    wherever every answer has one; formatting does not count. A text must not be
    empty, nor far shorter or longer than usual.
    """
    if shape.kind is ShapeKind.LABEL:
        return label_key(answer) in _label_keys(shape.labels)
    if shape.kind is ShapeKind.JSON:
        value = parse_json(answer)
        return value is not None and object_fits(shape.fields, value)
    length = len(answer.strip())
    usual = shape.median_chars
    return length > 0 and (not usual or usual <= length * LENGTH_FACTOR <= usual * LENGTH_FACTOR**2)


def fits_request(shape: Shape, request: str, answer: str) -> bool:
    """Whether an answer is of the shape and can have been read from the request alone.

    "Make it 34 instead" may well be answered with a whole order as JSON, but
    its values come from earlier turns. At least half of the values that are
    copied must stand in the request; all would be too much to ask, since an
    upstream mends a spelling now and then.
    """
    if not fits(shape, answer):
        return False
    if shape.kind is not ShapeKind.JSON:
        return True
    parsed = parse_json(answer) or {}
    haystack = Haystack(request)
    values = [
        leaf.bare(value)
        for leaf in shape.fields
        if leaf.kind is FieldKind.COPIED
        for value in occurrences(parsed, leaf.path)
        if isinstance(value, str | int | float) and value not in ("", leaf.default)
    ]
    return 2 * sum(map(haystack.holds, values)) >= len(values)


@lru_cache(maxsize=64)
def _label_keys(labels: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(label_key, labels))


def _text_shape(answers: Sequence[str]) -> Shape:
    lengths = [len(answer.strip()) for answer in answers if answer.strip()]
    shape = Shape(
        kind=ShapeKind.TEXT, agreement=0.0, median_chars=round(median(lengths)) if lengths else 0
    )
    return _with_agreement(shape, answers)


def _with_agreement(shape: Shape, answers: Sequence[str]) -> Shape:
    fitting = [answer for answer in answers if fits(shape, answer)]
    return replace(
        shape,
        agreement=len(fitting) / max(1, len(answers)),
        median_chars=shape.median_chars or (round(median(map(len, fitting))) if fitting else 0),
    )


# --- labels ---------------------------------------------------------------------------


def _label_shape(answers: Sequence[str]) -> Shape | None:
    written: dict[str, Counter[str]] = {}
    for answer in answers:
        text = answer.strip()
        key = label_key(text)
        if key and len(text) <= MAX_LABEL_CHARS and "\n" not in text:
            written.setdefault(key, Counter())[text] += 1
    counts = Counter({key: forms.total() for key, forms in written.items()})
    counts = _without_remarks(counts)
    if counts.total() < MIN_FIT * len(answers) or not is_closed(counts):
        return None
    labels = tuple(written[key].most_common(1)[0][0] for key, _ in by_frequency(counts))
    return _with_agreement(Shape(kind=ShapeKind.LABEL, agreement=0.0, labels=labels), answers)


def _without_remarks(counts: Counter[str]) -> Counter[str]:
    """Drop rare answers that are wordier than the common ones: refusals and questions."""
    lengths = sorted(_words(key) for key, count in counts.items() for _ in range(count))
    usual = lengths[int(COMMON_SHARE * (len(lengths) - 1))] if lengths else 0
    rare = RARE_LABEL * counts.total()
    return Counter(
        {
            key: count
            for key, count in counts.items()
            if count > max(1, rare) or _words(key) <= usual + (EXTRA_WORDS if count > 1 else 0)
        }
    )


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


# --- JSON -----------------------------------------------------------------------------


def _json_shape(requests: Sequence[str], answers: Sequence[str]) -> Shape | None:
    parsed = []
    for request, answer in zip(requests, answers, strict=True):
        parts = split_json(answer)
        if parts is not None and (sample := read_sample(Haystack(request), parts)) is not None:
            parsed.append(sample)
    needed = max(1.0, MIN_FIT * len(answers))
    if len(parsed) < needed:
        return None
    fields, fitting = infer_fields(parsed)
    if not fields or len(fitting) < needed:
        return None
    style = infer_style(sample.answer for sample in fitting)
    shape = Shape(kind=ShapeKind.JSON, agreement=0.0, fields=fields, style=style)
    return _with_agreement(shape, answers)
