"""Started by Hermes: the MCP server of Apprentice on standard input and output."""

from hermes_apprentice.interfaces.mcp_tools import main

if __name__ == "__main__":
    raise SystemExit(main())
