"""A real MCP client and our server, connected in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcp.shared.memory import create_connected_server_and_client_session

from hermes_apprentice.interfaces.mcp_tools import TOOLS, build_server


async def test_the_agent_sees_tools_that_read_and_none_that_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(tmp_path))
    server = build_server()
    async with create_connected_server_and_client_session(server._mcp_server) as client:
        listed = await client.list_tools()
        assert {tool.name for tool in listed.tools} == {tool.__name__ for tool in TOOLS}
        assert all(tool.description for tool in listed.tools)
        answer = await client.call_tool("roi", {"days": 7})
        assert not answer.isError
        assert answer.structuredContent is not None or answer.content
        text = json.dumps([item.model_dump(mode="json") for item in answer.content])
        assert "requests" in text
