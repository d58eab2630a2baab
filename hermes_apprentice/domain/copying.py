"""Whether a value of an answer can be found in the request it answers.

The one definition of "copied" in the product: shape inference measures with it,
and an extractor learns from the spans it returns. Knows nothing about models.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from hermes_apprentice.domain.dates import looks_written, written_moments
from hermes_apprentice.domain.shape import JsonScalar

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: number for number, word in enumerate(_UNITS)} | {
    word: 20 + 10 * place for place, word in enumerate(_TENS)
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_COUNTS = {"dozen": 12, "couple": 2, "pair": 2, "once": 1, "twice": 2}

# Runs of digits and of letters; scripts without spaces give one token per character.
_TOKEN = re.compile(r"\d+|[\u2e80-\ufaff]|[^\W\d_\u2e80-\ufaff]+")
_NUMBER = re.compile(r"\d+(?:[.,'\u2019\u00a0\u202f ]\d+)*")
_WORD = re.compile(r"[a-z]+")
_MINUS = re.compile(r"(?:[-\u2212]|\bminus[ ])$", re.IGNORECASE)
_PERCENT = re.compile(r"[ \u00a0]?(?:%|per ?cent\b)", re.IGNORECASE)


class Span(NamedTuple):
    """A part of a text, in characters; ``text[start:end]``."""

    start: int
    end: int


class Haystack:
    """One request, prepared for many look-ups.

    Case, width, white space and punctuation between letters and digits do not
    count; letters and digits do.
    """

    def __init__(self, request: str) -> None:
        self._request = request
        self._squeezed, self._starts, self._ends = _squeeze(request)
        self._numbers: dict[float, tuple[Span, ...]] | None = None
        self._moments: dict[str, tuple[Span, ...]] | None = None

    def spans(self, value: JsonScalar) -> tuple[Span, ...]:
        """Return where the value stands in the request, first to last.

        Texts are looked for from token to token, numbers by value: ``1200`` is
        found in ``1,200``, ``12`` in ``twelve`` and in ``a dozen``, ``0.15`` in ``15 %``.
        A day or a time of day is found however the request writes it.
        ``None``, booleans and empty texts are never found.
        """
        if value is None or isinstance(value, bool):
            return ()
        if isinstance(value, int | float):
            return self._number_spans(float(value))
        found = self._text_spans(value)
        if not found and looks_written(value):
            found = self._moment_spans(value)
        if not found and (number := _as_number(value)) is not None:
            found = self._number_spans(number)
        return found

    def holds(self, value: JsonScalar) -> bool:
        """Whether the value stands in the request."""
        return bool(self.spans(value))

    def _text_spans(self, value: str) -> tuple[Span, ...]:
        needle = _squeeze(value).text
        if not needle:  # emoji, punctuation
            return _plain_spans(value.strip(), self._request)
        spans = []
        at = self._squeezed.find(needle)
        while at >= 0:
            start, end = self._starts.get(at), self._ends.get(at + len(needle))
            if start is not None and end is not None:
                spans.append(self._with_edges(Span(start, end), value))
            at = self._squeezed.find(needle, at + 1)
        return tuple(spans)

    def _with_edges(self, span: Span, value: str) -> Span:
        """Widen a span by the value's own punctuation, where the request has it as well."""
        value = value.strip()
        core = [place for place, letter in enumerate(value) if letter.isalnum()]
        before, after = core[0], len(value) - core[-1] - 1
        start, end = span
        if before and self._request[max(0, start - before) : start] == value[:before]:
            start -= before
        if after and self._request[end : end + after] == value[-after:]:
            end += after
        return Span(start, end)

    def _number_spans(self, value: float) -> tuple[Span, ...]:
        if self._numbers is None:
            found: dict[float, list[Span]] = {}
            for number, span in (*_digit_numbers(self._request), *_spoken_numbers(self._request)):
                found.setdefault(number, []).append(span)
                if percent := _PERCENT.match(self._request, span.end):
                    # Rounded, for 7 / 100 is not the 0.07 that JSON gives.
                    share = round(number / 100, 12)
                    found.setdefault(share, []).append(Span(span.start, percent.end()))
            self._numbers = {number: _outermost(spans) for number, spans in found.items()}
        spans = self._numbers.get(abs(value), ())
        return tuple(map(self._with_sign, spans)) if value < 0 else spans

    def _with_sign(self, span: Span) -> Span:
        sign = _MINUS.search(self._request, max(0, span.start - 6), span.start)
        return Span(sign.start(), span.end) if sign else span

    def _moment_spans(self, value: str) -> tuple[Span, ...]:
        if self._moments is None:
            found: dict[str, list[Span]] = {}
            for moment in written_moments(self._request):
                found.setdefault(moment.value, []).append(Span(moment.start, moment.end))
            self._moments = {written: _outermost(spans) for written, spans in found.items()}
        return self._moments.get(value, ())


def copied_from(value: JsonScalar, request: str) -> bool:
    """Whether ``value`` stands in ``request``, as it is or after a simple normalisation."""
    return Haystack(request).holds(value)


def _outermost(spans: list[Span]) -> tuple[Span, ...]:
    """Sort, and drop what lies inside another: the ``120`` of ``120.0``."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return tuple(kept)


class _Squeezed(NamedTuple):
    text: str
    starts: dict[int, int]
    ends: dict[int, int]


@lru_cache(maxsize=4096)
def _fold(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter).casefold()


def _squeeze(text: str) -> _Squeezed:
    """Return the folded tokens without what is between them, and where each came from."""
    parts: list[str] = []
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    length = 0
    for match in _TOKEN.finditer(text):
        token = "".join(map(_fold, match.group()))
        starts[length] = match.start()
        length += len(token)
        ends[length] = match.end()
        parts.append(token)
    return _Squeezed("".join(parts), starts, ends)


def _plain_spans(needle: str, text: str) -> tuple[Span, ...]:
    if not needle:
        return ()
    return tuple(Span(match.start(), match.end()) for match in re.finditer(re.escape(needle), text))


def _as_number(text: str) -> float | None:
    try:
        return float(text.replace(",", "")) if text.strip().isascii() else None
    except ValueError:
        return None


def _digit_numbers(text: str) -> list[tuple[float, Span]]:
    """Read ``1,200``, ``1.200`` and ``12,50`` every way they can be meant."""
    found = []
    for match in _NUMBER.finditer(text):
        whole = Span(match.start(), match.end())
        groups = list(re.finditer(r"\d+", match.group()))
        if len(groups[0].group()) <= 3 and all(len(group.group()) == 3 for group in groups[1:]):
            found.append((_float("".join(group.group() for group in groups)), whole))
        if len(groups) > 1 and match.group()[groups[-1].start() - 1] in ".,":
            head = "".join(group.group() for group in groups[:-1])
            found.append((_float(f"{head}.{groups[-1].group()}"), whole))
        if len(groups) > 1 or not found or found[-1][1] != whole:
            found += [
                (
                    _float(group.group()),
                    Span(match.start() + group.start(), match.start() + group.end()),
                )
                for group in groups
            ]
    return found


def _float(digits: str) -> float:
    return float(digits[:300])  # longer runs are no quantities, and would overflow


def _spoken_numbers(text: str) -> list[tuple[float, Span]]:
    """Read English number words: ``twenty-five``, ``a hundred and twenty``, ``half a dozen``."""
    words = [(match.group(), match.span()) for match in _WORD.finditer(text.lower())]
    if len(text.lower()) != len(text):  # some letters change length; then positions are off
        return []
    found: list[tuple[float, Span]] = []
    at = 0
    while at < len(words):
        after, number = _read_number([word for word, _ in words[at : at + 12]])
        if after:
            start, end = words[at][1][0], words[at + after - 1][1][1]
            found.append((float(number), Span(start, end)))
        at += after or 1
    return found


def _read_number(words: list[str]) -> tuple[int, int]:
    """Return how many words the number at the front takes (0: none), and the number."""
    if words[:3] == ["half", "a", "dozen"]:
        return 3, 6
    total = current = used = 0
    started = False
    last = 0
    for place, word in enumerate(words):
        if word in _SMALL:
            small = _SMALL[word]
            joins = not started or last >= 100 or (20 <= last < 100 and small < 10)
            if not joins:
                break
            current, last = current + small, small
        elif word in _SCALES and (started or words[0] in ("a", "one")):
            scale = _SCALES[word]
            current = max(1, current) * scale
            if scale > 100:
                total, current = total + current, 0
            last = scale
        elif word in _COUNTS and not (started and last >= 100):
            number = max(1, current) * _COUNTS[word] if started else _COUNTS[word]
            return place + 1, total + number
        elif (word == "a" and place == 0) or (word == "and" and last >= 100):
            continue
        else:
            break
        started, used = True, place + 1
    return (used, total + current) if started else (0, 0)
