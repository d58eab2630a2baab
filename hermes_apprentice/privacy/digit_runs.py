"""Cut a text into runs of digit groups, and the runs into numbers that may stand alone.

`415 555 0132` is one run of three groups. A group that hangs on a letter, as in
`KX-4821-B`, or on a decimal point cannot begin or end a number.
Knows nothing about what the numbers mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SPACES = " \u00a0\u202f"
_RUN = re.compile(rf"(?<![^\W_])[(+]{{0,2}}\d+(?:[{_SPACES}().\-/]{{1,3}}\d+)*", re.ASCII)
_GROUP = re.compile(r"[(+]{0,2}\d+\)?", re.ASCII)
_HANGS_BEFORE = re.compile(r"(?:[^\W_][\-_./]|[.\-_/]|[$€£¥]\s?)\Z")
_THOUSANDS_BEFORE = re.compile(r"\d,\Z", re.ASCII)
_HANGS_AFTER = re.compile(
    r"[^\W_]|(?!-(?:office|fax|mobile|cell|tel|home|work|desk)\b)[\-_/.]+[^\W_]"
    r"|(?:,\d{1,3})?\s?(?:%|[€$£¥]|(?:usd|eur|gbp|kg|km|mm|cm|ml|pcs|pieces|units|items)\b)",
    re.IGNORECASE,
)
_THREE_DIGITS = re.compile(r"\d{3}(?!\d)", re.ASCII)
_EXTENSION = re.compile(r"\s?(?:x|ext\.?|extension)\s?\d{1,6}(?![^\W_])", re.IGNORECASE)


class Number(NamedTuple):
    """One way to read neighbouring digit groups as a single number."""

    start: int
    end: int
    digits: str
    groups: int


def numbers(text: str, *, fewest: int, most: int) -> Iterator[list[Number]]:
    """Yield, for each place where a number may begin, its readings, longest first.

    Args:
        text: What to scan.
        fewest: Digits that a number has at least.
        most: Digits that a number has at most.
    """
    for run in _RUN.finditer(text):
        if sum(c.isdigit() for c in run.group()) < fewest:
            continue
        groups = [(m.start(), m.end()) for m in _GROUP.finditer(text, run.start(), run.end())]
        for first, (start, _) in enumerate(groups):
            if not _may_begin(text, start, groups[first - 1][1] if first else None):
                continue
            readings = []
            digits = ""
            for last in range(first, len(groups)):
                group_start, group_end = groups[last]
                digits += "".join(c for c in text[group_start:group_end] if c.isdigit())
                if len(digits) > most:
                    break
                if last > first and text[group_start] == "+":
                    break
                if len(digits) >= fewest and _may_end(text, group_end, last + 1 < len(groups)):
                    readings.append(Number(start, group_end, digits, last - first + 1))
            if readings:
                yield readings[::-1]


def with_extension(text: str, end: int) -> int:
    """Return the end of the extension (``x123``) that follows a number, or ``end``."""
    match = _EXTENSION.match(text, end)
    return match.end() if match else end


def _may_begin(text: str, start: int, previous_end: int | None) -> bool:
    if previous_end is not None:
        return text[start] in "(+" or any(c in _SPACES for c in text[previous_end:start])
    before = max(0, start - 2)
    if text[start] == "+":
        return True
    if _THOUSANDS_BEFORE.search(text, before, start) and _THREE_DIGITS.match(text, start):
        return False
    return _HANGS_BEFORE.search(text, before, start) is None


def _may_end(text: str, end: int, more_groups: bool) -> bool:
    if more_groups:
        return text[end] in _SPACES or (text[end] in "./-" and text[end + 1 : end + 2] in _SPACES)
    return _EXTENSION.match(text, end) is not None or _HANGS_AFTER.match(text, end) is None
