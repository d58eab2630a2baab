"""How a span of a request becomes a value: as it stands, or after a simple normalisation.

Every reading is a pure function from text to a value, ``None`` where it does
not apply. Which one a field uses is learned from its examples. Knows nothing
about fields or models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import product
from types import MappingProxyType

from hermes_apprentice.domain.dates import CLOCKS, ORDERS, WRITINGS, read_day, read_time
from hermes_apprentice.domain.shape import JsonScalar

Reading = Callable[[str], JsonScalar]

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORTH = (
    {word: number for number, word in enumerate(_ONES)}
    | {word: 20 + 10 * number for number, word in enumerate(_TENS)}
    | {"a": 1, "an": 1, "once": 1, "twice": 2}
)
_TIMES = {
    "couple": 2,
    "pair": 2,
    "dozen": 12,
    "hundred": 100,
    "thousand": 1_000,
    "million": 1_000_000,
}

_JOINED = re.compile(r"(?<=\d)(?=[^\W\d_])")
"""Where a number and its unit are written as one word."""

_MINUS = re.compile(r"(?:[-\u2212]|\bminus[ ])$", re.IGNORECASE)

_SPACING: dict[str, Callable[[str], str]] = {
    "": lambda text: text,
    "single_spaced": lambda text: " ".join(text.split()),
    "unspaced": lambda text: "".join(text.split()),
    "bare": lambda text: "".join(filter(str.isalnum, text)),
    "digits": lambda text: "".join(filter(str.isdecimal, text)),
    "apart": lambda text: _JOINED.sub(" ", " ".join(text.split())),
}
_CASE: dict[str, Callable[[str], str]] = {
    "": lambda text: text,
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "capital": lambda text: text[:1].upper() + text[1:],
}


def spoken_number(text: str) -> int | None:
    """Return the number that English words name: ``twenty-five``, ``a hundred and ten``."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    if words[:3] == ["half", "a", "dozen"] and len(words) == 3:
        return 6
    total = current = 0
    known = False
    for word in words:
        if word in _WORTH:
            current += _WORTH[word]
        elif word in _TIMES:
            scale = _TIMES[word]
            current = max(1, current) * scale
            if scale >= 1_000:
                total, current = total + current, 0
        elif word in ("and", "of"):
            continue
        else:
            return None
        known = True
    return total + current if known else None


def _number(text: str, *, decimal_mark: str) -> float | int | None:
    found = re.search(r"\d[\d.,'\u2019\u00a0\u202f ]*", text)
    if found is None:
        return spoken_number(text)
    digits = found.group().rstrip(" .,'\u2019\u00a0\u202f")
    whole, mark, part = digits.rpartition(decimal_mark)
    if not mark:
        whole, part = digits, ""
    whole, part = (re.sub(r"\D", "", side) for side in (whole, part))
    if len(whole) > 300:
        return None
    value = float(f"{whole or 0}.{part}") if part else int(whole or 0)
    return -value if _MINUS.search(text[: found.start()]) else value


def _integer(text: str) -> int | None:
    found = re.search(r"\d[\d.,'\u2019\u00a0\u202f ]*", text)
    if found is None:
        return spoken_number(text)
    digits = re.sub(r"\D", "", found.group())
    if len(digits) > 300:
        return None
    return -int(digits) if _MINUS.search(text[: found.start()]) else int(digits)


def _share(text: str) -> float | None:
    """Read a percentage as a share of one."""
    value = _number(text, decimal_mark=".")
    # Rounded, for 7 / 100 is not the 0.07 that JSON gives.
    return None if value is None else round(value / 100, 12)


def _text_reading(case: str, spacing: str) -> Reading:
    recase, respace = _CASE[case], _SPACING[spacing]

    def read(text: str) -> JsonScalar:
        return recase(respace(text)) or None

    return read


def _as_text(read: Callable[[str], float | int | None]) -> Reading:
    def written(text: str) -> JsonScalar:
        value = read(text)
        return None if value is None else str(value)

    return written


def _point(text: str) -> float | int | None:
    return _number(text, decimal_mark=".")


def _comma(text: str) -> float | int | None:
    return _number(text, decimal_mark=",")


def _all_readings() -> dict[str, Reading]:
    readings: dict[str, Reading] = {}
    for spacing, case in product(_SPACING, _CASE):
        if not (spacing == "digits" and case):
            name = ".".join(part for part in (spacing, case) if part)
            readings[name or "as_is"] = _text_reading(case, spacing)
    readings["integer"] = _integer
    readings["number"] = _point
    readings["number.comma"] = _comma
    readings["number.share"] = _share
    readings["integer.text"] = _as_text(_integer)
    for order, writing in product(ORDERS, WRITINGS):
        readings[f"day.{order}.{writing}"] = partial(read_day, order=order, writing=writing)
    for clock in CLOCKS:
        readings[f"time.{clock}"] = partial(read_time, clock=clock)
    return readings


READINGS = MappingProxyType(_all_readings())
"""Every reading by name, the plainer ones first."""


def readings_for(value_type: str) -> tuple[str, ...]:
    """Return the names of the readings that give values of a field's type, plainer ones first."""
    if value_type == "integer":
        return ("integer",)
    if value_type == "number":
        return ("number", "number.comma", "number.share")
    if value_type == "boolean":
        return ()
    texts = (name for name in READINGS if not name.startswith(("integer", "number")))
    return (*texts, "integer.text")
