"""Notice that something keeps failing, and leave it alone for a while.

Knows nothing about what fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Breaker:
    """Open after several failures in a row; one success closes it.

    While it is open, every ``rest`` seconds one caller is let through to try.
    """

    def __init__(
        self, *, failures: int, rest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    @property
    def open(self) -> bool:
        """Whether it kept failing, last time it was tried."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether to try now; while open, says yes to one caller per rest."""
        if not self.open:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + self._rest
        return True

    def succeeded(self) -> None:
        """Record that it worked."""
        self._failures = 0

    def failed(self) -> None:
        """Record that it failed."""
        self._failures += 1
        if self._failures == self._limit:
            self._next_try = self._clock() + self._rest
