"""The MCP server that Hermes' agent talks to: ``apprentice-mcp``.

Tools that read, and tools that ask the operator. Started for every session of
Hermes, so nothing heavy is imported before a tool needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.interfaces.mcp_acting import ACTING
from hermes_apprentice.interfaces.mcp_catalogue import Tool
from hermes_apprentice.interfaces.mcp_reading import READING
from hermes_apprentice.settings import load_settings

TOOLS = (*READING, *ACTING)
"""Everything that can be offered."""


def offered(read_only: bool) -> tuple[Tool, ...]:
    """Return the tools to offer."""
    return READING if read_only else TOOLS


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve on standard input and output, or over HTTP on this machine."""
    parser = argparse.ArgumentParser(prog="apprentice-mcp", description=main.__doc__)
    parser.add_argument(
        "--http",
        type=_port,
        metavar="PORT",
        help="serve at http://127.0.0.1:PORT/mcp; 0: a free one",
    )
    parser.add_argument("--read-only", action="store_true", help="offer only tools that read")
    options = parser.parse_args(arguments)
    try:
        from hermes_apprentice.interfaces.mcp_sdk import serve_http, serve_stdio

        tools = offered(options.read_only or load_settings().mcp.read_only)
        if options.http is None:
            serve_stdio(tools)
        else:
            serve_http(tools, options.http)
    except ApprenticeError as error:
        print(f"apprentice-mcp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no port from 0 to 65535")


if __name__ == "__main__":
    sys.exit(main())
