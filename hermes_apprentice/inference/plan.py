"""Where each field of an answer comes from, and how values become the upstream's JSON.

A plan is learned once and stored beside the weights. Knows nothing about how
spans and choices are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.json_answer import render
from hermes_apprentice.domain.shape import JsonScalar, JsonStyle, Missing
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.elements import Placed, rows_of
from hermes_apprentice.inference.readings import READINGS

__all__ = ["AnswerPlan", "FieldPlan", "HeadPlan", "Placed", "Source", "build"]


class Source(StrEnum):
    """Where a field's value comes from."""

    SPAN = "span"
    """Words of the request, read in one way."""

    CHOICE = "choice"
    """One of a few values, told from the whole request, or for a list from an element's words."""

    SET = "set"
    """A list of some of a few values, each told from the whole request."""

    CONSTANT = "constant"
    """Always the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPlan:
    """One leaf of the answers' schema."""

    path: str
    """As in `FieldShape.path`."""

    source: Source
    """Where its value comes from."""

    missing: Missing
    """How it is written when there is nothing to say."""

    reading: str = "as_is"
    """Name of the reading, for spans."""

    track: int = 0
    """Which chain of labels its spans are in; fields that overlap are in different ones."""

    choices: tuple[JsonScalar, ...] = ()
    """The values of a choice, or the constant alone."""

    can_be_missing: bool = False
    """Whether there may be nothing to say; for a choice, that is one more choice, the last."""

    default: JsonScalar = None
    """What is written when there is nothing to say, instead of ``missing``."""

    lone: bool = False
    """Whether a list of one element is written as the element alone."""

    anchor: bool = False
    """Whether the elements of its list are put together around this field."""

    side: int = 0
    """Where it stands beside the anchor: -1 before, 1 after; 0 without an anchor."""

    prefix: str = ""
    """Written before every value that a span gives."""

    suffix: str = ""
    """The same behind it."""

    def written(self, value: JsonScalar) -> JsonScalar:
        """Return a value as it stands in answers."""
        if self.source is not Source.SPAN or not (self.prefix or self.suffix):
            return value
        return f"{self.prefix}{value}{self.suffix}"


class HeadPlan(NamedTuple):
    """A decision that a softmax head takes."""

    name: str
    """Unique in a plan."""

    field: FieldPlan
    """The field it is about."""

    classes: int
    """How many outcomes it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """The whole answer."""

    fields: tuple[FieldPlan, ...]
    """Every leaf, in the upstream's key order."""

    style: JsonStyle
    """The formatting."""

    def of(self, source: Source) -> tuple[FieldPlan, ...]:
        """Return the fields of one source."""
        return tuple(field for field in self.fields if field.source is source)

    @property
    def heads(self) -> tuple[HeadPlan, ...]:
        """Every decision: one per choice, and one per value of a set (not in it, in it)."""
        found: list[HeadPlan] = []
        for field in self.fields:
            if field.source is Source.CHOICE:
                classes = len(field.choices) + field.can_be_missing
                found.append(HeadPlan(field.path, field, classes))
            elif field.source is Source.SET:
                found += [
                    HeadPlan(set_head(field, place), field, 2)
                    for place in range(len(field.choices))
                ]
        return tuple(found)

    @property
    def tracks(self) -> int:
        """How many chains of labels there are."""
        return max((field.track + 1 for field in self.of(Source.SPAN)), default=0)

    @property
    def required(self) -> tuple[str, ...]:
        """Paths of the span fields that every answer has."""
        return tuple(field.path for field in self.of(Source.SPAN) if not field.can_be_missing)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> AnswerPlan:
        """Return the plan that `to_json` wrote.

        Raises:
            ArtefactError: The text is not a plan.
        """
        try:
            plan = _ADAPTER.validate_json(text, strict=False)
        except ValidationError as exc:
            raise ArtefactError() from exc
        if any(field.reading not in READINGS for field in plan.fields):
            raise ArtefactError()
        return plan

    def write(self, values: Mapping[str, Sequence[Placed]]) -> str:
        """Return the answer as the upstream would write it.

        Args:
            values: What was found, by path; fields of lists may have several.
        """
        return render(self.style, build(self.fields, values))


_ADAPTER = TypeAdapter(AnswerPlan)


def set_head(field: FieldPlan, place: int) -> str:
    """Return the name of the head that decides on one value of a set."""
    return f"{field.path}#{place}"


def list_name(field: FieldPlan) -> str:
    """Return the path of the list that a field is in, or an empty text."""
    head, bracket, _ = field.path.partition("[]")
    return head if bracket else ""


def build(fields: Sequence[FieldPlan], values: Mapping[str, Sequence[Placed]]) -> dict[str, Any]:
    """Put values into nested objects and lists, keys in the order of ``fields``."""
    result: dict[str, Any] = {}
    done: set[str] = set()
    for field in fields:
        head, bracket, rest = field.path.partition("[]")
        if bracket:
            if head in done:
                continue
            done.add(head)
            group = [other for other in fields if other.path.startswith(f"{head}[]")]
            items = _items(group, values, rest == "")
            if items or field.missing is not Missing.ABSENT:
                empty: Any = None if field.missing is Missing.NULL else []
                whole = items[0] if len(items) == 1 and field.lone else items
                _put(result, head, whole if items else empty)
            continue
        found = values.get(field.path, ())
        if found:
            _put(result, field.path, field.written(found[0].value))
        elif field.default is not None:
            _put(result, field.path, field.default)
        elif field.missing is Missing.ABSENT:
            continue
        else:
            _put(result, field.path, "" if field.missing is Missing.EMPTY else None)
    return result


def _items(
    group: Sequence[FieldPlan], values: Mapping[str, Sequence[Placed]], scalars: bool
) -> list[Any]:
    """Return the elements of a list, in order of appearance."""
    if scalars:
        found = sorted(values.get(group[0].path, ()), key=lambda one: one.at)
        return [group[0].written(one.value) for one in found]
    spans = [field for field in group if field.source is Source.SPAN]
    items = []
    for number, row in enumerate(rows_of(spans, values)):
        known = {path: [placed] for path, placed in row.values.items()}
        for field in group:
            if field.source is Source.CONSTANT:
                known[field.path] = [Placed(field.choices[0], 0)]
            elif field.source is Source.CHOICE:
                known[field.path] = [one for one in values.get(field.path, ()) if one.at == number]
        inner = [replace(field, path=field.path.partition("[].")[2]) for field in group]
        items.append(
            build(inner, {path.partition("[].")[2]: found for path, found in known.items()})
        )
    return items


def _put(target: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {})
    target[last] = value
