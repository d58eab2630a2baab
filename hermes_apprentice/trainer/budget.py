"""How much work a training may still take.

Time is that of the thread that does the work, so that a busy machine does not change what is
learned; on an idle one it is as long by the clock. Knows nothing about what the work is.
"""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """Seconds of work, counted from when this was made."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Start counting.

        Args:
            seconds: How many there are.
            clock: Gives the working thread's own time, in seconds.
        """
        self._seconds = seconds
        self._clock = clock
        self._began = clock()
        self._spent = 0.0

    @property
    def left(self) -> float:
        """Seconds that are left; negative when more were taken."""
        return self._seconds - self.used

    @property
    def used(self) -> float:
        """Seconds that were taken, here and elsewhere."""
        return self._clock() - self._began + self._spent

    def spend(self, seconds: float) -> None:
        """Count work that another process did meanwhile."""
        self._spent += seconds
