"""Every platform that Hermes ships asks the handler that our plugin stands in front of."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.plugin.door import BusyDoor, stand_at

pytest.importorskip("hermes_cli", reason="hermes-agent is not installed here")

NOBODY_IS_THERE = {"api_server"}
"""Connections without a chat."""

ASKS_NOT = {"raft"}
"""Those that keep what arrives in a busy chat; the table in docs/operating.md names them."""


def modules() -> list[str]:
    found = []
    for folder in ("plugins.platforms", "gateway.platforms"):
        spec = importlib.util.find_spec(folder)
        assert spec is not None and spec.submodule_search_locations
        for place in spec.submodule_search_locations:
            root = Path(place)
            found += [f"{folder}.{path.parent.name}.adapter" for path in root.glob("*/adapter.py")]
            if folder.startswith("gateway"):
                found += [f"{folder}.{path.stem}" for path in root.glob("*.py")]
    return sorted(found)


def connections() -> dict[str, type[Any]]:
    """Return the adapters whose libraries are installed, by platform."""
    from gateway.platforms.base import BasePlatformAdapter

    found = {}
    for module in modules():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the platforms' own libraries
            try:
                loaded = importlib.import_module(module)
            except ImportError:
                continue
        for one in vars(loaded).values():
            if (
                inspect.isclass(one)
                and issubclass(one, BasePlatformAdapter)
                and one.__module__ == module
                and not inspect.isabstract(one)
            ):
                found[module.split(".")[2]] = one
    return found


def test_every_platform_reaches_the_common_code_for_busy_chats() -> None:
    from gateway.platforms.base import BasePlatformAdapter

    found = connections()
    assert {"telegram", "discord", "slack", "irc", "matrix", "signal"} <= set(found)
    for name, adapter in found.items():
        assert adapter.set_busy_session_handler is BasePlatformAdapter.set_busy_session_handler
        own = adapter.handle_message is not BasePlatformAdapter.handle_message
        if name not in ASKS_NOT | NOBODY_IS_THERE and own:
            source = inspect.getsource(adapter.handle_message)
            assert "super().handle_message(event)" in source, name
            assert "_active_sessions" not in source, name


def test_we_can_stand_at_every_connection() -> None:
    for name, adapter in connections().items():
        one = object.__new__(adapter)

        async def hermes_own(event: Any, session_key: str) -> bool:
            return False

        one._busy_session_handler = hermes_own
        assert stand_at(one, lambda event: True), name
        assert isinstance(one._busy_session_handler, BusyDoor)
