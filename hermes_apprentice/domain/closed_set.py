"""Whether values that were seen are all there are.

Pure counting; knows nothing about where the values come from.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

T = TypeVar("T")

MAX_VALUES = 200
"""Most values of a closed set."""

MAX_UNSEEN = 0.15
"""Largest probability that the next value is a new one."""


def is_closed(counts: Counter[T]) -> bool:
    """Whether the counted values look like a closed set.

    Values must recur, and the probability that the next one is new must be
    small. It is estimated as singletons over count (Good and Turing; Good, The
    population frequencies of species, 1953).
    """
    total = counts.total()
    singletons = sum(count == 1 for count in counts.values())
    return 0 < len(counts) <= min(MAX_VALUES, total / 2) and singletons <= MAX_UNSEEN * total


def by_frequency(counts: Counter[T]) -> list[tuple[T, int]]:
    """Return values and counts, most frequent first, ties in a fixed order."""
    return sorted(counts.items(), key=lambda item: (-item[1], repr(item[0])))
