"""The schema of JSON answers: their leaves, and where each leaf's values come from.

Pure. Knows nothing about formatting (``json_answer``) or about answers that are
not JSON objects (``shape_inference``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

from hermes_apprentice.domain.affix import Affix, common_affix
from hermes_apprentice.domain.closed_set import by_frequency, is_closed
from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.domain.json_answer import JsonAnswer
from hermes_apprentice.domain.leaves import containers_of, leaf_paths, missing_as, occurrences
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

DEFAULT_SHARE = 0.6
"""Share of the values that do not stand in their requests that one value must have to be what
is written when nothing is said."""

_LEAST_DEFAULTS = 3
_MOST_ORDERED = 300
"""Leaves up to which their order is weighed pair by pair; nobody's schema has more."""

_LEAST_DISTINCT = 5
"""Different values that must begin or end alike before that is no accident."""

_LONE_LISTS = 0.1
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


def read_sample(request: Haystack, answer: JsonAnswer) -> Sample | None:
    """Pair an answer with its request; ``None`` if its keys make no paths."""
    paths = leaf_paths(answer.value)
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
    paths = leaf_paths(value)
    if paths is None:
        return False
    known = {leaf.path for leaf in fields}
    lone = {leaf.path.removesuffix("[]") for leaf in fields if leaf.lone}
    containers = {above for path in known for above in containers_of(path)}
    for path in paths:
        if path not in known:
            missing = all(missing_as(item) is not None for item in occurrences(value, path))
            if path not in lone and (path not in containers or not missing):
                return False
    return all(_field_fits(leaf, occurrences(value, leaf.path)) for leaf in fields)


def _of_dominant_schema(samples: Sequence[Sample]) -> list[Sample]:
    """Drop the samples of other schemas, and leaves that only stand for an empty container.

    Leaves that occur together belong to one schema, however often each is left
    out; the schema of the most samples counts. Rare leaves belong to none.
    """
    samples = _with_lists(samples)
    counts = Counter(path for sample in samples for path in sample.paths)
    least = max(1.0, RARE_PATH * len(samples)) if len(samples) >= MIN_FOR_RARE else 0.0
    kept = _with_common_leaves(samples, counts, least)
    if 2 * len(kept) < len(samples):  # many leaves, each of which is rare
        kept = _with_common_leaves(samples, counts, min(1.0, least))
    schema = _largest_schema(kept)
    chosen = [sample for sample in kept if schema.issuperset(sample.paths)]
    if 2 * len(chosen) < len(samples):
        # Answers that say one thing each do not tell their keys to be of one schema.
        schema |= {sample.paths[0] for sample in kept if len(sample.paths) == 1}
        chosen = [sample for sample in kept if schema.issuperset(sample.paths)]
    return chosen


def _with_common_leaves(
    samples: Sequence[Sample], counts: Counter[str], least: float
) -> list[Sample]:
    common = {path for path, count in counts.items() if count > least}
    containers = {above for path in common for above in containers_of(path)}
    kept = []
    for sample in samples:
        leaves = tuple(path for path in sample.paths if path not in containers)
        if common.issuperset(leaves):
            kept.append(sample._replace(paths=leaves))
    return kept


def _with_lists(samples: Sequence[Sample]) -> list[Sample]:
    """Count a value as a list of one where the others are lists of several."""
    alone: Counter[str] = Counter()
    several: Counter[str] = Counter()
    listed_alone: Counter[str] = Counter()
    listed = {path for sample in samples for path in sample.paths if path.endswith("[]")}
    lists = {path.removesuffix("[]") for path in listed if path.count("[]") == 1}
    for sample in samples:
        for path in sample.paths:
            bare = path.removesuffix("[]")
            if bare not in lists:
                continue
            if path == bare:
                alone[bare] += missing_as(occurrences(sample.answer.value, path)[0]) is None
            elif len(occurrences(sample.answer.value, path)) > 1:
                several[bare] += 1
            else:
                listed_alone[bare] += 1
    lone = {
        path
        for path in lists
        if alone[path] and several[path] and listed_alone[path] <= _LONE_LISTS * alone[path]
    }
    # Where lists are rare they are mistakes, as every rare leaf is.
    lone = {path for path in lone if several[path] > RARE_PATH * len(samples)}
    return [
        sample._replace(
            paths=tuple(
                f"{path}[]"
                if path in lone and missing_as(occurrences(sample.answer.value, path)[0]) is None
                else path
                for path in sample.paths
            )
        )
        for sample in samples
    ]


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
    """Merge the answers' key orders: what mostly stands before goes before."""
    counted = by_frequency(Counter(sample.paths for sample in samples))
    left: list[str] = []
    for paths, _ in counted:
        at = 0
        for path in paths:
            if path in left:
                at = left.index(path) + 1
            else:
                left.insert(at, path)
                at += 1
    if len(left) > _MOST_ORDERED:
        return left
    before: Counter[tuple[str, str]] = Counter()
    for paths, count in counted:
        for pair in combinations(paths, 2):
            before[pair] += count
    ahead: Counter[str] = Counter()
    behind: defaultdict[str, list[str]] = defaultdict(list)
    for (one, other), count in list(before.items()):
        if count > before[other, one]:
            ahead[other] += 1
            behind[one].append(other)
    order: list[str] = []
    while left:
        # Where answers contradict each other, the one with the fewest others before it.
        following = min(left, key=lambda path: ahead[path])
        order.append(following)
        left.remove(following)
        ahead.subtract(behind[following])
    return order


def _field(path: str, samples: Sequence[Sample]) -> FieldShape:
    values: list[tuple[JsonScalar, Haystack]] = []
    missing: Counter[Missing] = Counter()
    answers_with_value = 0
    for sample in samples:
        present = []
        for value in occurrences(sample.answer.value, path):
            how = missing_as(value)
            if how is not None:
                missing[how] += 1
            elif not isinstance(value, dict | list):
                present.append((value, sample.request))
        values += present
        answers_with_value += bool(present)
    value_type = _dominant_type([value for value, _ in values])
    values = [(value, request) for value, request in values if _has_type(value, value_type)]
    counts = Counter(_exact(value) for value, _ in values)
    held = [request.holds(value) for value, request in values]
    copied = sum(held) / max(1, len(values))
    kind = _kind(values, counts, copied, always=not missing)
    default = None
    if kind in (FieldKind.CLOSED_SET, FieldKind.FREE_TEXT) and not missing:
        default = _default(values, held)
        # A text out of a few, told from the whole request, is safer than one that is looked for.
        if kind is FieldKind.CLOSED_SET and value_type == "string" and "[]" not in path:
            default = None
        kind = kind if default is None else FieldKind.COPIED
    affix = Affix("", "")
    if kind is FieldKind.FREE_TEXT and value_type == "string":
        affix, share = _copied_affix(values)
        if share >= COPIED_SHARE:
            kind, copied = FieldKind.COPIED, share
        else:
            affix = Affix("", "")
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
        default=default,
        lone=_is_lone(path, samples),
        prefix=affix.prefix,
        suffix=affix.suffix,
    )


def _copied_affix(values: Sequence[tuple[JsonScalar, Haystack]]) -> tuple[Affix, float]:
    """Return what all texts have around a part that is copied, and how often that part is."""
    texts = {value for value, _ in values if isinstance(value, str)}
    affix = common_affix(texts)
    if len(texts) < _LEAST_DISTINCT or not any(affix):
        return affix, 0.0
    before, after = map(len, affix)
    held = [
        request.holds(value[before : len(value) - after])
        for value, request in values
        if isinstance(value, str)
    ]
    return affix, sum(held) / len(held)


def _is_lone(path: str, samples: Sequence[Sample]) -> bool:
    """Whether values stand alone where a list has one element."""
    if not path.endswith("[]") or path.count("[]") > 1:
        return False
    found = (occurrences(sample.answer.value, path.removesuffix("[]")) for sample in samples)
    return any(missing_as(value) is None and not isinstance(value, list) for (value,) in found)


def _default(values: Sequence[tuple[JsonScalar, Haystack]], held: Sequence[bool]) -> JsonScalar:
    """Return the value that is written when nothing is said, ``None`` if there is none.

    It seldom stands in its request, and nearly all other values do.
    """
    pairs = list(zip(values, held, strict=True))
    absent = Counter(_exact(value) for (value, _), found in pairs if not found)
    if not absent:
        return None
    key, count = by_frequency(absent)[0]
    same = sum(_exact(value) == key for value, _ in values)
    others = [(pair, found) for pair, found in pairs if _exact(pair[0]) != key]
    distinct = Counter(_exact(value) for (value, _), _ in others)
    usual = (
        count >= max(_LEAST_DEFAULTS, DEFAULT_SHARE * absent.total(), same / 2)
        and len(distinct) >= 2
        and sum(found for _, found in others) >= COPIED_SHARE * len(others)
        and not _choices_are_listed([pair for pair, _ in others], distinct)
    )
    return key[1] if usual else None


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
        if missing_as(value) is not None:
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
