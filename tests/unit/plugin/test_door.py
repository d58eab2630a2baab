"""In front of Hermes' handler for busy chats: ours are taken, the rest is handed on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hermes_apprentice.plugin.door import BusyDoor, stand_at


class Connection:
    """As much of Hermes' connection to a platform as is asked for."""

    def __init__(self) -> None:
        self.passed: list[tuple[Any, str]] = []
        self._busy_session_handler: Any = self._hermes_own

    async def _hermes_own(self, event: Any, session_key: str) -> bool:
        self.passed.append((event, session_key))
        return event == "queued"

    def set_busy_session_handler(self, handler: Any) -> None:
        self._busy_session_handler = handler


def hears(event: Any) -> bool:
    return bool(event == "ours")


async def test_what_is_said_to_us_is_taken_and_the_rest_is_hermes() -> None:
    connection = Connection()
    assert stand_at(connection, hears)
    door = connection._busy_session_handler
    assert await door("ours", "s") is True
    assert await door("queued", "s") is True
    assert await door("other", "s") is False
    assert connection.passed == [("queued", "s"), ("other", "s")]


def test_we_stand_there_once_and_again_when_hermes_puts_its_own_back() -> None:
    connection = Connection()
    assert stand_at(connection, hears) and stand_at(connection, hears)
    assert not isinstance(connection._busy_session_handler.inner, BusyDoor)
    connection.set_busy_session_handler(connection._hermes_own)
    assert stand_at(connection, hears)
    assert isinstance(connection._busy_session_handler, BusyDoor)


@pytest.mark.parametrize(
    "connection",
    [
        SimpleNamespace(),
        SimpleNamespace(_busy_session_handler=None, set_busy_session_handler=print),
        SimpleNamespace(_busy_session_handler=print),
        SimpleNamespace(_busy_session_handler=print, set_busy_session_handler=lambda door: None),
    ],
)
def test_a_connection_of_an_unknown_kind_is_left_alone(connection: Any) -> None:
    assert not stand_at(connection, hears)
