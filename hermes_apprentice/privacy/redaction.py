"""Replace personal data by typed placeholders, and put it back.

The one promise: a text is either redacted so that it can be restored exactly,
or `RedactionError` is raised and nothing is returned. Knows nothing about
exchanges, datasets or how personal data is recognised.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hermes_apprentice.errors import RedactionError
from hermes_apprentice.privacy import json_text, placeholders
from hermes_apprentice.privacy.analyzer import Analyzer, installed_model
from hermes_apprentice.privacy.kinds import Finding, Kind, core, occurrences, squeeze
from hermes_apprentice.privacy.placeholders import PlaceholderNames, placeholders_in

RECIPE = 2
"""Counts up whenever the same text would be redacted otherwise than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a redactor looks for, for manifests and data cards."""

    recipe: int
    """The version of the rules."""

    kinds: tuple[str, ...]
    """The kinds that are replaced."""

    not_covered: tuple[str, ...]
    """The kinds that were wanted and need a language model that is not installed."""

    model: str | None
    """Name and version of the spaCy model, or ``None``."""

    @property
    def digest(self) -> str:
        """A sha256 that two redactors share only if they redact alike."""
        recipe = {"recipe": self.recipe, "kinds": self.kinds, "model": self.model}
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """One text without its personal data."""

    text: str
    """The text with placeholders."""

    mapping: Mapping[str, str] = field(repr=False)
    """The value behind every placeholder of the text; personal data, so it is never shown."""

    counts: Mapping[str, int]
    """How many places were replaced, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactedPair:
    """A request and its answer without their personal data, under common placeholders."""

    request: str
    """The request with placeholders, numbered by first appearance."""

    answer: str
    """The answer with the same placeholders for the same values; still valid JSON if it was."""

    mapping: Mapping[str, str] = field(repr=False)
    """The value behind every placeholder; personal data, so it is never shown."""

    counts: Mapping[str, int]
    """How many places were replaced in both, by kind."""

    only_in_answer: tuple[str, ...]
    """Placeholders that the request does not contain: no specialist could know their values."""

    reproducible: bool
    """Whether the request is redacted alike without its answer, as when a specialist serves it."""


class _Value(NamedTuple):
    kind: Kind
    text: str


class _Place(NamedTuple):
    start: int
    end: int
    kind: Kind


class Redactor:
    """Redacts texts; safe to share between threads."""

    def __init__(self, analyzer: Analyzer | None = None) -> None:
        """Use ``analyzer``, or one with all kinds and the best installed language model."""
        self._analyzer = analyzer if analyzer is not None else Analyzer(model=installed_model())

    @property
    def policy(self) -> Policy:
        """What this redactor looks for."""
        model = self._analyzer.model
        return Policy(
            recipe=RECIPE,
            kinds=tuple(str(kind) for kind in self._analyzer.kinds),
            not_covered=tuple(str(kind) for kind in self._analyzer.not_covered),
            model=f"{model} {self._analyzer.model_version}" if model else None,
        )

    @property
    def fingerprint(self) -> str:
        """The digest of the policy."""
        return self.policy.digest

    def load(self) -> None:
        """Load what is otherwise loaded at the first text that needs it.

        Raises:
            RedactionError: The language model is missing or broken.
        """
        self._analyzer.load()

    def redact(self, text: str) -> Redaction:
        """Replace the personal data in ``text``; `restore` gives back exactly ``text``.

        Raises:
            RedactionError: The text could not be redacted with certainty.
        """
        findings = self._analyzer.find(text)
        if not findings:
            return Redaction(text=text, mapping={}, counts={})
        places = _places(text, findings, _values(text, findings))
        names = PlaceholderNames(placeholders_in(text))
        redacted = _replace(text, places, names.exact)
        _check_round_trip(text, redacted, names.mapping)
        return Redaction(text=redacted, mapping=names.mapping, counts=_count(places))

    def redact_pair(self, request: str, answer: str) -> RedactedPair:
        """Replace the personal data in both texts, the same value by the same placeholder.

        What was recognised in one of the two is replaced in the other as well.
        A spelling that only the answer uses (``jo@x.test`` for ``Jo@X.test``)
        takes the placeholder of the request's spelling.

        Raises:
            RedactionError: One of them could not be redacted with certainty: a
                JSON answer holds personal data as a bare number, or the answer
                already contains the text of a placeholder in use.
        """
        request_findings = self._analyzer.find(request)
        request_values = _values(request, request_findings)
        parts = _parts(answer)
        found = {part: self._find_in_part(part) for part in dict.fromkeys(parts)}
        answer_values = [v for part in found for v in _values(part.value, found[part])]
        values = list(dict.fromkeys([*request_values, *answer_values]))

        alone = _places(request, request_findings, request_values)
        places = _places(request, request_findings, values)
        names = PlaceholderNames(placeholders_in(request))
        redacted_request = _replace(request, places, names.exact)
        _check_round_trip(request, redacted_request, names.mapping)
        in_request = frozenset(names.mapping)

        replaced: list[_Place] = []

        def change(part: json_text.Leaf) -> str:
            part_places = _places(part.value, found[part], values)
            if part_places and part.is_number:
                raise RedactionError(
                    "the JSON answer holds personal data as a bare number, which has no room for a "
                    "placeholder; nothing was written"
                )
            replaced.extend(part_places)
            return _replace(part.value, part_places, names.nearest)

        redacted_answer = _rewrite(answer, change)
        if (placeholders_in(answer) - placeholders_in(request)) & frozenset(names.mapping):
            raise RedactionError(
                "the answer already contains the text of a placeholder in use, so it could not be "
                "restored; nothing was written"
            )
        return RedactedPair(
            request=redacted_request,
            answer=redacted_answer,
            mapping=names.mapping,
            counts=_count([*places, *replaced]),
            only_in_answer=tuple(name for name in names.mapping if name not in in_request),
            reproducible=alone == places,
        )

    def _find_in_part(self, part: json_text.Leaf) -> tuple[Finding, ...]:
        """Search a part of an answer, with the key it stands under as context."""
        prefix = f"{part.label}: " if part.label else ""
        return tuple(
            Finding(
                kind=f.kind,
                start=max(f.start - len(prefix), 0),
                end=f.end - len(prefix),
                score=f.score,
            )
            for f in self._analyzer.find(prefix + part.value)
            if f.end > len(prefix)
        )


def restore(text: str, mapping: Mapping[str, str]) -> str:
    """Put the values back into a plain text; the inverse of `Redactor.redact`."""
    return placeholders.restore(text, mapping)


def restore_answer(text: str, mapping: Mapping[str, str]) -> str:
    r"""Put the values back into an answer, escaped as JSON demands where it is JSON.

    Values taken from quoted JSON lose their ``\/``, which only JSON writers use.
    """
    plain = {name: value.replace("\\/", "/") for name, value in mapping.items()}
    return _rewrite(text, lambda part: placeholders.restore(part.value, plain))


def _parts(text: str) -> list[json_text.Leaf]:
    """Return what is searched on its own: the strings of JSON documents, and the text between."""
    parts: list[json_text.Leaf] = []

    def collect(part: json_text.Leaf) -> str:
        parts.append(part)
        return part.value

    _rewrite(text, collect)
    return parts


def _rewrite(text: str, change: Callable[[json_text.Leaf], str]) -> str:
    done = 0
    result = []
    for document in json_text.documents(text):
        result += [
            change(json_text.Leaf("", text[done : document.start], False)),
            json_text.rewrite(text[document.start : document.end], change),
        ]
        done = document.end
    return "".join([*result, change(json_text.Leaf("", text[done:], False))])


def _values(text: str, findings: Iterable[Finding]) -> list[_Value]:
    return [_Value(f.kind, text[f.start : f.end]) for f in findings]


def _places(text: str, findings: Sequence[Finding], values: Sequence[_Value]) -> tuple[_Place, ...]:
    """Return what to replace: the findings, and every other occurrence of a known value."""
    places = [_Place(f.start, f.end, f.kind) for f in findings]
    own = Counter(text[f.start : f.end] for f in findings)
    places += _occurrences(text, values, own)
    while True:
        # A value may be glued to another one, and stand free only once that one is replaced.
        rest = _replace(text, joined := _joined(places), lambda _, value: " " * len(value))
        found = _occurrences(rest, values, Counter())
        if not found:
            return joined
        places += found


def _occurrences(text: str, values: Sequence[_Value], own: Mapping[str, int]) -> list[_Place]:
    places = []
    squeezed = squeeze(text)
    for value in values:
        # Compiling the pattern costs more than all else, and most values occur once.
        if squeezed.count(core(value.kind, value.text)) > own.get(value.text, 0):
            for match in occurrences(value.kind, value.text).finditer(text):
                places.append(_Place(match.start(), match.end(), value.kind))
    return places


def _joined(places: Sequence[_Place]) -> tuple[_Place, ...]:
    """Join places that overlap into one of the kind of the longest.

    Of equal places the first wins, so that a value keeps the kind it has in the request.
    """
    order = {place: index for index, place in reversed(list(enumerate(places)))}
    joined: list[_Place] = []
    for place in sorted(order, key=lambda p: (p.start, -p.end, order[p])):
        if joined and place.start < joined[-1].end:
            last = joined[-1]
            longer = last if last.end - last.start >= place.end - place.start else place
            joined[-1] = _Place(last.start, max(last.end, place.end), longer.kind)
        else:
            joined.append(place)
    return tuple(joined)


def _replace(text: str, places: Iterable[_Place], name: Callable[[Kind, str], str]) -> str:
    parts = []
    done = 0
    for start, end, kind in places:
        parts += [text[done:start], name(kind, text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


def _check_round_trip(text: str, redacted: str, mapping: Mapping[str, str]) -> None:
    if restore(redacted, mapping) != text:
        raise RedactionError


def _count(places: Iterable[_Place]) -> dict[str, int]:
    return dict(Counter(str(place.kind) for place in places))
