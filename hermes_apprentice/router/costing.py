"""What a call costs, and what it would have cost.

Upstream calls are charged by the upstream's own counts. For a specialist's
answer, and where the upstream counted nothing, tokens are estimated: from the
length of the request, calibrated on what this upstream counted before. A model
without a price has no cost, which is not the same as a cost of zero.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hermes_apprentice.domain.money import Price, Usage, cost, estimate_tokens

PriceOf = Callable[[str], Price | None]
"""Looks up what a model costs."""

MODELS = 64
"""Most models whose calibration is kept; names come from clients."""

_WEIGHT = 0.1
"""Of the newest observation."""


@dataclass(slots=True)
class _Calibration:
    tokens_per_byte: float
    cached_share: float | None = None


class Costing:
    """Prices calls, and learns how long this upstream's tokens are."""

    def __init__(self, price_of: PriceOf) -> None:
        self._price_of = price_of
        self._seen: OrderedDict[str, _Calibration] = OrderedDict()

    def charge(self, model: str, usage: Usage) -> int | None:
        """Return the price of a call in micro-dollars, ``None`` if it is not known."""
        price = self._price_of(model)
        return None if price is None else cost(usage, price)

    def priced(self, model: str) -> bool:
        """Whether a model has a price."""
        return self._price_of(model) is not None

    def observe(self, model: str, request_bytes: int, usage: Usage, *, first: bool) -> None:
        """Learn from a call that the upstream counted.

        Args:
            model: Its name upstream.
            request_bytes: Length of the request's body.
            usage: What was counted.
            first: Whether it was the first call of a turn; only those say how much of a
                specialist's request the upstream would have read from its cache.
        """
        if request_bytes <= 0 or usage.prompt_tokens <= 0:
            return
        rate = usage.prompt_tokens / request_bytes
        known = self._seen.get(model)
        if known is None:
            known = self._seen[model] = _Calibration(rate)
            if len(self._seen) > MODELS:
                self._seen.popitem(last=False)
        known.tokens_per_byte += _WEIGHT * (rate - known.tokens_per_byte)
        if first:
            share = min(usage.cached_tokens, usage.prompt_tokens) / usage.prompt_tokens
            before = share if known.cached_share is None else known.cached_share
            known.cached_share = before + _WEIGHT * (share - before)

    def estimate(self, model: str, request_bytes: int, answer_tokens: int) -> Usage:
        """Return what the upstream would have counted for a request and an answer."""
        known = self._seen.get(model)
        if known is None:
            prompt, cached = estimate_tokens(request_bytes), 0
        else:
            prompt = max(1, round(known.tokens_per_byte * request_bytes))
            cached = round((known.cached_share or 0.0) * prompt)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=answer_tokens,
            cached_tokens=cached,
            estimated=True,
        )
