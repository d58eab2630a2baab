"""Notice that something keeps failing, and leave it alone for a while.

Knows nothing about what fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEASE = 600.0
"""Seconds until a caller that was let through to try, and never said how it went, is given up."""


class Breaker:
    """Open after several failures in a row; one success closes it.

    While it is open, one caller at a time is let through to try, at the earliest ``rest``
    seconds after the last failure. Where ``longest`` is given, the rest doubles with each
    failed try, up to that.
    """

    def __init__(
        self,
        *,
        failures: int,
        rest: float,
        longest: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._shortest = rest
        self._longest = longest or rest
        self._clock = clock
        self._failures = 0
        self._rest = rest
        self._next_try = 0.0
        self._trying = False
        self.reason = ""
        """What went wrong last, in the words of whoever said so."""

    @property
    def open(self) -> bool:
        """Whether it kept failing, last time it was tried."""
        return self._failures >= self._limit

    @property
    def rests_for(self) -> float:
        """Seconds until it may be tried again; 0 when it may be now, or is being tried."""
        if not self.open or self._trying:
            return 0.0
        return max(0.0, self._next_try - self._clock())

    def allows(self) -> bool:
        """Whether to try now; whoever tries while it is open must say how it went."""
        if not self.open:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + LEASE
        self._trying = True
        return True

    def succeeded(self) -> None:
        """Record that it worked."""
        self._failures = 0
        self._trying = False
        self.reason = ""

    def failed(self, reason: str = "", *, began_closed: bool = False) -> None:
        """Record that it failed.

        Args:
            reason: What went wrong, for people.
            began_closed: Whether the attempt began before it opened: such a failure says
                nothing new, and must not cut the present try short.
        """
        if self.open:
            if began_closed:
                return
            self._rest = min(2 * self._rest, self._longest)
            self._trying = False
        else:
            self._failures += 1
            self._rest = self._shortest
        self.reason = reason
        self._next_try = self._clock() + self._rest

    def gave_up(self) -> None:
        """Record that a try ended without showing whether it works: another may try."""
        self._next_try = 0.0
        self._trying = False
