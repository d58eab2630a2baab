"""Days and times of day in a request, however they are written, and in an answer.

Pure look-ups in a text: ``3 March 2026``, ``03/03/26``, ``Mar. 3rd``, ``3 pm``. What stands for
which day is left open where it is open (``03/04/26``); the examples of a field decide. Knows
nothing about today, so ``tomorrow`` is no day here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from types import MappingProxyType
from typing import NamedTuple

_MONTHS = (
    "january januar janvier enero gennaio januari",
    "february februar février febrero febbraio februari",
    "march märz mars marzo maart",
    "april avril abril aprile",
    "may mai mayo maggio mei",
    "june juni juin junio giugno",
    "july juli juillet julio luglio",
    "august août agosto augustus",
    "september septembre septiembre settembre",
    "october oktober octobre octubre ottobre",
    "november novembre noviembre",
    "december dezember décembre diciembre dicembre",
)
_SHORT = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH_OF = {
    **{name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()},
    **{name: number for number, name in enumerate(_SHORT, 1)},
    "sept": 9,
    "okt": 10,
    "dez": 12,
    "mrz": 3,
}
_MONTH = "|".join(sorted(_MONTH_OF, key=lambda name: (-len(name), name)))
_DAY = r"(?P<day>\d{1,2})"
_YEAR = r"(?P<year>(?:19|20)\d{2}|['\u2019]\d{2})"
_FORMS = (
    re.compile(
        rf"(?<!\d){_DAY}(?:st|nd|rd|th|\.)?[ \u00a0]*(?:of[ ]+|de[ ]+|-)?(?P<month>{_MONTH})\b\.?"
        rf"(?:,?[ \u00a0-]*(?:de[ ]+)?{_YEAR})?(?!\d)",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?P<month>{_MONTH})\.?[ \u00a0]*(?:the[ ]+)?{_DAY}(?:st|nd|rd|th)?\b"
        rf"(?:,?[ \u00a0]*{_YEAR})?(?!\d)",
        re.IGNORECASE,
    ),
)
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-/.])[ ]?(\d{1,2})\2[ ]?(\d{4}|\d{2})(?!\d)")
_TIME = re.compile(
    r"(?<![\d:.,])(?P<hour>\d{1,2})(?:[:.h](?P<minute>[0-5]\d)(?::[0-5]\d)?)?"
    r"[ \u00a0]*(?P<half>[ap]\.?[ ]?m\b\.?)?(?P<clock>[ ]?(?:uhr|o['\u2019]clock)\b)?(?![\d:])",
    re.IGNORECASE,
)
_NAMED_TIME = re.compile(r"\b(noon|midday|midnight)\b", re.IGNORECASE)
_CENTURY_ENDS = 69
"""Two-digit years from here on are of the last century, as in POSIX."""

ORDERS = ("dmy", "mdy")
"""How days written in digits can be meant."""


class Day(NamedTuple):
    """A day, perhaps of no particular year."""

    year: int | None
    """Four digits, ``None`` where none is named."""

    month: int
    """1 to 12."""

    day: int
    """1 to 31."""


class Found(NamedTuple):
    """Something in a text, and where."""

    start: int
    """First character."""

    end: int
    """One past the last character."""

    value: str
    """As an answer would write it."""


def _iso(day: Day) -> str:
    return f"{day.year}-{day.month:02}-{day.day:02}"


WRITINGS: MappingProxyType[str, Callable[[Day], str]] = MappingProxyType(
    {
        "iso": _iso,
        "year_first": lambda day: f"{day.year}/{day.month:02}/{day.day:02}",
        "basic": lambda day: f"{day.year}{day.month:02}{day.day:02}",
        "dots": lambda day: f"{day.day:02}.{day.month:02}.{day.year}",
        "slashes": lambda day: f"{day.day:02}/{day.month:02}/{day.year}",
        "month_first": lambda day: f"{day.month:02}/{day.day:02}/{day.year}",
        "month_day": lambda day: f"{day.month:02}-{day.day:02}",
    }
)
"""How answers write a day, by name."""

CLOCKS: MappingProxyType[str, Callable[[int, int], str]] = MappingProxyType(
    {
        "minutes": lambda hour, minute: f"{hour:02}:{minute:02}",
        "short": lambda hour, minute: f"{hour}:{minute:02}",
        "seconds": lambda hour, minute: f"{hour:02}:{minute:02}:00",
    }
)
"""How answers write a time of day, by name."""

_WRITTEN = re.compile(r"\d{4}[-/]\d\d[-/]\d\d|\d{8}|\d\d[./]\d\d[./]\d{4}|\d\d-\d\d")
_CLOCKED = re.compile(r"\d{1,2}:\d\d(?::\d\d)?")


def looks_written(value: str) -> bool:
    """Whether a value of an answer may be a day or a time of day."""
    return bool(_WRITTEN.fullmatch(value) or _CLOCKED.fullmatch(value))


def read_day(text: str, order: str, writing: str) -> str | None:
    """Return the day that ``text`` names, or ``None`` if it names none or not just one."""
    found = {day for _, _, day in _days(text, order)}
    if len(found) != 1:
        return None
    (day,) = found
    return None if day.year is None and writing != "month_day" else WRITINGS[writing](day)


def read_time(text: str, clock: str) -> str | None:
    """Return the time of day that ``text`` names, or ``None``."""
    found = {(hour, minute) for _, _, hour, minute in _times(text)}
    if len(found) != 1:
        return None
    ((hour, minute),) = found
    return CLOCKS[clock](hour, minute)


def written_moments(text: str) -> list[Found]:
    """Return every day and time of day in a text, in every way an answer may write it."""
    found = [
        Found(start, end, write(day))
        for order in ORDERS
        for start, end, day in _days(text, order)
        for name, write in WRITINGS.items()
        if day.year is not None or name == "month_day"
    ]
    found += [
        Found(start, end, write(hour, minute))
        for start, end, hour, minute in _times(text)
        for write in CLOCKS.values()
    ]
    return sorted(set(found))


def _days(text: str, order: str) -> Iterator[tuple[int, int, Day]]:
    for form in _FORMS:
        for match in form.finditer(text):
            year = match["year"]
            day = Day(
                None if year is None else _year(year),
                _MONTH_OF[match["month"].lower()],
                int(match["day"]),
            )
            if _exists(day):
                yield match.start(), match.end(), day
    for match in _YEAR_FIRST.finditer(text):
        day = Day(int(match[1]), int(match[3]), int(match[4]))
        if _exists(day):
            yield match.start(), match.end(), day
    for match in _YEAR_LAST.finditer(text):
        left, right, year = int(match[1]), int(match[3]), _year(match[4])
        day = Day(year, right, left) if order == "dmy" else Day(year, left, right)
        if _exists(day):
            yield match.start(), match.end(), day


def _times(text: str) -> Iterator[tuple[int, int, int, int]]:
    for match in _TIME.finditer(text):
        hour, minute = int(match["hour"]), int(match["minute"] or 0)
        half = (match["half"] or "").lower()
        if not (match["minute"] or half or match["clock"]):
            continue
        if half:
            if not 1 <= hour <= 12:
                continue
            hour = hour % 12 + (12 if half.startswith("p") else 0)
        if hour < 24:
            yield match.start(), match.end(), hour, minute
    for match in _NAMED_TIME.finditer(text):
        yield match.start(), match.end(), 0 if match[1].lower() == "midnight" else 12, 0


def _year(digits: str) -> int:
    number = int(digits.lstrip("'\u2019"))
    if number >= 100:
        return number
    return number + (1900 if number >= _CENTURY_ENDS else 2000)


def _exists(day: Day) -> bool:
    try:
        date(day.year or 2000, day.month, day.day)
    except ValueError:
        return False
    return True
