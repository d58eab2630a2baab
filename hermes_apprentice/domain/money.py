"""Money, in whole micro-dollars, and what a call costs.

No float ever holds an amount. Where a price table comes from is the ledger's business.
"""

from __future__ import annotations

from dataclasses import dataclass

MICRO = 1_000_000
"""Micro-dollars per dollar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one call, as the upstream counted them."""

    prompt_tokens: int
    """Tokens of the request, the cached ones included."""

    completion_tokens: int
    """Tokens of the answer."""

    cached_tokens: int = 0
    """Tokens of the request that were read from the upstream's cache."""

    estimated: bool = False
    """Whether the counts are ours, because no upstream counted them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs, in micro-dollars per million tokens."""

    model: str
    """The model's name as the upstream knows it."""

    input: int
    """Per million prompt tokens that are not cached."""

    cached_input: int
    """Per million cached prompt tokens."""

    output: int
    """Per million completion tokens."""

    source: str
    """Where the price was read."""

    as_of: str
    """The day it was read, ISO 8601."""


def cost(usage: Usage, price: Price) -> int:
    """Return the cost of a call in micro-dollars, rounded half up."""
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    total = (
        (usage.prompt_tokens - cached) * price.input
        + cached * price.cached_input
        + usage.completion_tokens * price.output
    )
    return (total + MICRO // 2) // MICRO


def dollars(micro: int, digits: int = 2) -> str:
    """Write an amount for a person: ``$1.23``, ``-$0.40``."""
    sign = "-" if micro < 0 else ""
    return f"{sign}${abs(micro) / MICRO:,.{digits}f}"


def estimate_tokens(chars: int) -> int:
    """Return a rough token count for English text: four characters each."""
    return max(1, -(-chars // 4)) if chars else 0
