"""How often somebody may ask: a token bucket.

Tokens drip in at a steady rate up to a limit, and every request takes one. So no span of
``t`` seconds lets more than ``size + rate * t`` requests through. Knows no clock.
"""

from __future__ import annotations


class TokenBucket:
    """A bucket that starts full."""

    __slots__ = ("_at", "_rate", "_size", "_tokens")

    def __init__(self, *, per_minute: float, size: int) -> None:
        self._rate = per_minute / 60
        self._size = float(size)
        self._tokens = float(size)
        self._at: float | None = None

    def take(self, now: float) -> float:
        """Take a token at ``now`` seconds; returns 0, or the seconds until there is one."""
        if self._at is None or now < self._at:
            self._at = now  # a clock that was set back fills nothing
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
