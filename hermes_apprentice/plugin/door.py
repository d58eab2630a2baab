"""Hear what is said in a chat while the agent is at work there, on any platform of Hermes.

Hermes asks one handler per connection what to do with such a message; without
us it becomes a turn of the agent, or interrupts one. Ours stands in front of
Hermes' own: it takes what is said to Apprentice and hands on everything else.
Imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class BusyDoor:
    """Our handler in front of Hermes' own, on one connection."""

    def __init__(
        self,
        hear: Callable[[Any], bool],
        inner: Callable[[Any, str], Awaitable[bool]] | None,
    ) -> None:
        """Take what hears a message and tells whether it was ours, and Hermes' own handler."""
        self._hear = hear
        self.inner = inner

    async def __call__(self, event: Any, session_key: str) -> bool:
        """Tell Hermes whether the message is dealt with."""
        if self._hear(event):
            return True
        return bool(self.inner is not None and await self.inner(event, session_key))


def stand_at(adapter: Any, hear: Callable[[Any], bool]) -> bool:
    """Put our handler on a connection unless it is there; returns whether it can be there.

    Args:
        adapter: Hermes' connection to a platform.
        hear: Takes a message, and tells whether it was ours; never raises.
    """
    present = getattr(adapter, "_busy_session_handler", None)
    if isinstance(present, BusyDoor):
        return True
    put = getattr(adapter, "set_busy_session_handler", None)
    if not callable(put) or not callable(present):
        return False
    put(BusyDoor(hear, present))
    return isinstance(getattr(adapter, "_busy_session_handler", None), BusyDoor)
