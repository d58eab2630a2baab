"""The MCP server that Hermes' agent talks to. Reading only: nothing here decides or spends.

The only module that imports ``mcp``; SDK 1.26 and 2.x name their server class differently.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import TypeAdapter

from hermes_apprentice.ledger.roi import roi as account
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.settings import load_settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore

_DAY = 86_400.0


def list_candidates() -> Any:
    """List the patterns proposed for training, with evidence and forecast."""
    with Database(load_settings().database_path) as database, database.transaction() as connection:
        return _plain(PatternStore(connection).candidates())


def list_specialists() -> Any:
    """List the specialists with their step, stage and share of traffic."""
    settings = load_settings()
    with Database(settings.database_path) as database:
        return _plain(open_pipeline(settings, database).specialists())


def roi(days: float = 30) -> Any:
    """Tell what specialists saved and cost in the last days; amounts in micro-dollars."""
    now = time.time()
    with Database(load_settings().database_path) as database:
        return _plain(account(database, now - days * _DAY, now))


TOOLS = (list_candidates, list_specialists, roi)
"""What the server offers."""


def build_server() -> Any:
    """Return the server with its tools, from whichever SDK is installed."""
    try:
        from mcp.server.fastmcp import FastMCP as Server
    except ImportError:  # SDK 2.x
        from mcp.server import MCPServer as Server  # type: ignore[attr-defined,no-redef]
    server = Server("apprentice")
    for tool in TOOLS:
        server.add_tool(tool)
    return server


def main() -> None:
    """Serve on standard input and output until it closes."""
    build_server().run()


def _plain(value: Any) -> Any:
    return TypeAdapter(Any).dump_python(value, mode="json")


if __name__ == "__main__":
    main()
