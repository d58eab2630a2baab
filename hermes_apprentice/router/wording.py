"""Numbers, times and amounts as a page says them. What is not known has words, never a zero."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hermes_apprentice.domain.money import dollars
from hermes_apprentice.router.markup import Markup, tag

NO_PRICE = "no price"
NOT_YET = "not measured yet"


def count(number: int, one: str = "", many: str = "") -> str:
    """Write a count, with the thing that is counted if it is named."""
    if not one:
        return f"{number:,}"
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def share(value: float, digits: int = 0) -> str:
    """Write a share of 0 to 1; what is neither is not rounded to nothing or to all."""
    low = 0.5 * 10.0 ** -(digits + 2)
    if 0 < value < low:
        return f"under {10.0**-digits:g}%"
    if 1 - low < value < 1:
        return f"over {100 - 10.0**-digits:g}%"
    return f"{value:.{digits}%}"


def money(micro: int) -> str:
    """Write an amount; one below a cent keeps the digits that matter."""
    return dollars(micro, 4 if 0 < abs(micro) < 10_000 else 2)


def milliseconds(value: float) -> str:
    """Write a duration."""
    if value >= 1_000:
        return f"{value / 1_000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def evidence(value: float) -> str:
    """Write an e-value; one that is far beyond any threshold is not spelled out."""
    if value >= 10_000 or math.isinf(value):
        return "over 10,000"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def span(seconds: float) -> str:
    """Write a length of time in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment(at: float, now: float) -> Markup:
    """Say how long ago something was, or in what time it comes, with the date beside it."""
    when = datetime.fromtimestamp(at, UTC)
    words = f"{span(now - at)} ago" if at <= now else f"in {span(at - now)}"
    return tag("time", words, datetime=when.isoformat(), title=f"{when:%Y-%m-%d %H:%M} UTC")


def clock(at: float) -> str:
    """Write a date and time."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
