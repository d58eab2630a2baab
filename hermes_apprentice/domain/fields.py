"""The schema of JSON answers: their leaves, and where each leaf's values come from.

Pure. Knows nothing about formatting (``json_answer``) or about answers that are
not JSON objects (``shape_inference``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hermes_apprentice.domain.closed_set import by_frequency, is_closed
from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.domain.json_answer import JsonAnswer
from hermes_apprentice.domain.shape import FieldKind, FieldShape, JsonScalar, Missing

COPIED_SHARE = 0.85
"""Share of a field's values that stand in their requests, from which on it counts as copied;
the rest are taken for mistakes of the upstream."""

MAX_VACUOUS = 0.5
"""Share of requests that may hold the other values of a closed set as well; beyond it, the
instruction lists the choices, and finding the right one in the request says nothing."""

RARE_PATH = 0.04
"""Leaves in no more answers than this share belong to off-shape answers."""

MIN_FOR_RARE = 10
"""Answers needed before a leaf can be called rare."""

_CHOICES_CHECKED = 20
_VALUES_CHECKED = 400


class Sample(NamedTuple):
    """One JSON answer and the request it belongs to."""

    request: Haystack
    """The request, prepared for look-ups."""

    answer: JsonAnswer
    """The answer, taken apart."""

    paths: tuple[str, ...]
    """Its leaves, in the order they are written."""


class Fields(NamedTuple):
    """The outcome of ``infer_fields``."""

    fields: tuple[FieldShape, ...]
    """The leaves, in the upstream's key order."""

    fitting: list[Sample]
    """The samples that have this schema."""


class _Absent:
    """Marks a key that is left out."""


_ABSENT: Final = _Absent()


def read_sample(request: Haystack, answer: JsonAnswer) -> Sample | None:
    """Pair an answer with its request; ``None`` if its keys make no paths."""
    paths = _paths(answer.value)
    return None if paths is None else Sample(request, answer, paths)


def infer_fields(samples: Sequence[Sample]) -> Fields:
    """Return the schema that most samples share, and the samples that have it."""
    kept = _of_dominant_schema(samples)
    fields: tuple[FieldShape, ...] = ()
    for _ in range(2):  # the second time without what the first fields reject
        fields = tuple(_field(path, kept) for path in _key_order(kept))
        kept = [sample for sample in kept if object_fits(fields, sample.answer.value)]
    return Fields(fields, kept)


def object_fits(fields: Sequence[FieldShape], value: dict[str, Any]) -> bool:
    """Whether an object has known leaves only, of the right types, and none missing."""
    paths = _paths(value)
    if paths is None:
        return False
    known = {leaf.path for leaf in fields}
    containers = {above for path in known for above in _containers(path)}
    for path in paths:
        if path not in known:
            missing = all(_missing(item) is not None for item in occurrences(value, path))
            if path not in containers or not missing:
                return False
    return all(_field_fits(leaf, occurrences(value, leaf.path)) for leaf in fields)


def occurrences(value: Any, path: str) -> list[Any]:
    """Return every value at a path, in order.

    Where a key, a list or an object above it is missing there is one missing
    value: ``None``, an empty text or list, or a mark for a key that is left out.
    """
    current = [value]
    for part in path.split("."):
        name = part.rstrip("[]")
        current = [item.get(name, _ABSENT) if _is_object(item) else _gone(item) for item in current]
        for _ in range((len(part) - len(name)) // 2):
            current = [
                element
                for item in current
                for element in (item if isinstance(item, list) and item else [_gone(item)])
            ]
    return current


def _is_object(item: Any) -> bool:
    return isinstance(item, dict) and bool(item)


def _gone(item: Any) -> Any:
    """What a path below ``item`` finds when nothing is there."""
    return _ABSENT if _missing(item) is None else item


def _missing(value: Any) -> Missing | None:
    if value is _ABSENT:
        return Missing.ABSENT
    if value is None:
        return Missing.NULL
    return Missing.EMPTY if value in ("", [], {}) else None


def _paths(value: Any, path: str = "") -> tuple[str, ...] | None:
    """Return the leaves of a value in order; ``None`` if a key cannot be part of a path."""
    found: dict[str, None] = {}
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            if not key or set(key) & set(".[]"):
                return None
            below = _paths(item, f"{path}.{key}" if path else key)
            if below is None:
                return None
            found.update(dict.fromkeys(below))
        return tuple(found)
    if isinstance(value, list) and value:
        for item in value:
            below = _paths(item, f"{path}[]")
            if below is None:
                return None
            found.update(dict.fromkeys(below))
        return tuple(found)
    return (path,)


def _containers(path: str) -> list[str]:
    """Return the paths above a leaf: ``a[].b`` lies in ``a`` and in ``a[]``."""
    return [path[:at] for at in range(len(path)) if path[at] == "." or path[at : at + 2] == "[]"]


def _of_dominant_schema(samples: Sequence[Sample]) -> list[Sample]:
    """Drop the samples of other schemas, and leaves that only stand for an empty container.

    Leaves that occur together belong to one schema, however often each is left
    out; the schema of the most samples counts. Rare leaves belong to none.
    """
    counts = Counter(path for sample in samples for path in sample.paths)
    least = max(1.0, RARE_PATH * len(samples)) if len(samples) >= MIN_FOR_RARE else 0.0
    common = {path for path, count in counts.items() if count > least}
    containers = {above for path in common for above in _containers(path)}
    kept = []
    for sample in samples:
        leaves = tuple(path for path in sample.paths if path not in containers)
        if common.issuperset(leaves):
            kept.append(sample._replace(paths=leaves))
    schema = _largest_schema(kept)
    return [sample for sample in kept if schema.issuperset(sample.paths)]


def _largest_schema(samples: Sequence[Sample]) -> set[str]:
    """Return the connected leaves that the most samples have."""
    leader: dict[str, str] = {}

    def find(path: str) -> str:
        while leader.setdefault(path, path) != path:
            path = leader[path]
        return path

    for sample in samples:
        for path in sample.paths[1:]:
            leader[find(path)] = find(sample.paths[0])
    sizes = Counter(find(sample.paths[0]) for sample in samples if sample.paths)
    if not sizes:
        return set()
    largest = by_frequency(sizes)[0][0]
    return {path for path in list(leader) if find(path) == largest}


def _key_order(samples: Sequence[Sample]) -> list[str]:
    """Merge the answers' key orders, the most frequent first."""
    order: list[str] = []
    for paths, _ in by_frequency(Counter(sample.paths for sample in samples)):
        at = 0
        for path in paths:
            if path in order:
                at = order.index(path) + 1
            else:
                order.insert(at, path)
                at += 1
    return order


def _field(path: str, samples: Sequence[Sample]) -> FieldShape:
    values: list[tuple[JsonScalar, Haystack]] = []
    missing: Counter[Missing] = Counter()
    answers_with_value = 0
    for sample in samples:
        present = []
        for value in occurrences(sample.answer.value, path):
            how = _missing(value)
            if how is not None:
                missing[how] += 1
            elif not isinstance(value, dict | list):
                present.append((value, sample.request))
        values += present
        answers_with_value += bool(present)
    value_type = _dominant_type([value for value, _ in values])
    values = [(value, request) for value, request in values if _has_type(value, value_type)]
    counts = Counter(_exact(value) for value, _ in values)
    copied = sum(request.holds(value) for value, request in values) / max(1, len(values))
    kind = _kind(values, counts, copied, always=not missing)
    listed: tuple[JsonScalar, ...] = ()
    if kind in (FieldKind.CONSTANT, FieldKind.CLOSED_SET):
        listed = tuple(value for (_, value), _ in by_frequency(counts)) or (None,)
    return FieldShape(
        path=path,
        kind=kind,
        missing=missing.most_common(1)[0][0] if missing else Missing.NEVER,
        presence=answers_with_value / max(1, len(samples)),
        value_type=value_type,
        values=listed,
        copied_share=copied,
    )


def _kind(
    values: list[tuple[JsonScalar, Haystack]],
    counts: Counter[tuple[str, JsonScalar]],
    copied: float,
    *,
    always: bool,
) -> FieldKind:
    if not values or (len(counts) == 1 and len(values) > 1 and always):
        return FieldKind.CONSTANT
    closed = is_closed(counts)
    if copied >= COPIED_SHARE and not (closed and _choices_are_listed(values, counts)):
        return FieldKind.COPIED
    return FieldKind.CLOSED_SET if closed else FieldKind.FREE_TEXT


def _choices_are_listed(
    values: list[tuple[JsonScalar, Haystack]], counts: Counter[tuple[str, JsonScalar]]
) -> bool:
    choices = [key for key, _ in by_frequency(counts)][:_CHOICES_CHECKED]
    others = found = 0
    for own, request in values[:_VALUES_CHECKED]:
        for choice in choices:
            if choice != _exact(own):
                others += 1
                found += request.holds(choice[1])
    return found > MAX_VACUOUS * others


def _field_fits(leaf: FieldShape, found: list[Any]) -> bool:
    known = {_exact(value) for value in leaf.values}
    for value in found:
        if _missing(value) is not None:
            if leaf.missing is Missing.NEVER:
                return False
        elif not _has_type(value, leaf.value_type) or (known and _exact(value) not in known):
            return False
    return True


def _exact(value: JsonScalar) -> tuple[str, JsonScalar]:
    """Return a key that keeps ``1`` and ``True`` apart."""
    return (_type_of(value), value)


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _dominant_type(values: Sequence[Any]) -> str:
    counts = Counter(map(_type_of, values))
    if not counts:
        return "string"
    if counts["number"] and counts["number"] + counts["integer"] > counts.total() / 2:
        return "number"
    return counts.most_common(1)[0][0]


def _has_type(value: Any, value_type: str) -> bool:
    if isinstance(value, dict | list):
        return False
    actual = _type_of(value)
    return actual == value_type or (value_type == "number" and actual == "integer")
