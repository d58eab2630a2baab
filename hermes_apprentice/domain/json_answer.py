"""A JSON object as a model writes it: with a fence, a lead-in, its own white space.

Taking it apart, finding the formatting that an upstream uses, and writing an
object the same way. Knows nothing about what the fields mean.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NoReturn

from hermes_apprentice.domain.shape import JsonStyle

MAX_AROUND = 200
"""Characters of prose around an object; with more, the answer is prose that quotes JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonAnswer:
    """An answer that consists of one JSON object."""

    prefix: str
    """What stands before the object."""

    body: str
    """The object as it is written."""

    suffix: str
    """What stands after it."""

    value: dict[str, Any]
    """The object."""


def split_json(text: str) -> JsonAnswer | None:
    """Take an answer apart; ``None`` if it is not exactly one JSON object."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    prefix, suffix = text[:start], text[end:]
    inside_list = prefix.rstrip().endswith(("[", ",")) or suffix.lstrip().startswith((",", "]"))
    around = len(prefix.strip()) + len(suffix.strip())
    if inside_list or "{" in suffix or around > MAX_AROUND:
        return None
    return JsonAnswer(prefix=prefix, body=text[start:end], suffix=suffix, value=value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def render(style: JsonStyle, value: Mapping[str, Any]) -> str:
    """Write an object with the given formatting, keys in the order they come in."""
    # With line breaks, a blank behind the comma would end up at the end of the line.
    item_separator = style.item_separator if style.indent is None else style.item_separator.rstrip()
    body = json.dumps(
        value,
        indent=style.indent,
        separators=(item_separator, style.key_separator),
        ensure_ascii=style.ensure_ascii,
    )
    return f"{style.prefix}{body}{style.suffix}"


def infer_style(answers: Iterable[JsonAnswer]) -> JsonStyle:
    """Return the formatting that reproduces the most answers byte for byte.

    An answer speaks for every formatting that would have given it, so short
    objects, which tell little, do not outvote telling ones.
    """
    frames: Counter[tuple[str, str]] = Counter()
    bodies: Counter[JsonStyle] = Counter()
    for answer in answers:
        frames[(answer.prefix, answer.suffix)] += 1
        bodies.update(_fitting_styles(answer))
    style = bodies.most_common(1)[0][0] if bodies else JsonStyle()
    if not frames:
        return style
    prefix, suffix = frames.most_common(1)[0][0]
    return replace(style, prefix=prefix, suffix=suffix)


def _fitting_styles(answer: JsonAnswer) -> list[JsonStyle]:
    indent = _indent(answer.body)
    return [
        style
        for item, key, ascii_only in product((", ", ","), (": ", ":", " : "), (False, True))
        if render(
            style := JsonStyle(
                indent=indent, item_separator=item, key_separator=key, ensure_ascii=ascii_only
            ),
            answer.value,
        )
        == answer.body
    ]


def _indent(body: str) -> int | None:
    if "\n" not in body:
        return None
    second = body.split("\n", 2)[1]
    return len(second) - len(second.lstrip(" "))
