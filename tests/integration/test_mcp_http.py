"""The server over streamable HTTP: real clients, strangers, many sessions."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from hermes_apprentice.interfaces.mcp_tools import TOOLS

OTHER = os.environ.get("APPRENTICE_MCP_PYTHON", "")
"""An interpreter with another MCP SDK, and with our dependencies."""

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 40
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture(params=[sys.executable, OTHER], ids=["this SDK", "another SDK"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of a running server."""
    if not request.param:
        pytest.skip("APPRENTICE_MCP_PYTHON names no interpreter")
    process = subprocess.Popen(
        [request.param, "-m", "hermes_apprentice.interfaces.mcp_tools", "--http", "0"],
        env={
            **os.environ,
            "APPRENTICE_HOME": str(tmp_path / "apprentice"),
            "PYTHONPATH": str(ROOT),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        found = re.match(r"Listening on (\S+)", process.stderr.readline())
        assert found is not None
        yield found.group(1), process.pid
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert out == "", "standard output says nothing"
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def session(url: str) -> Any:
    async with (
        streamable_http_client(url) as (reading, writing, _),
        ClientSession(reading, writing) as client,
    ):
        await client.initialize()
        listed = await client.list_tools()
        answer = await client.call_tool("budget_status", {})
        return [tool.name for tool in listed.tools], answer


async def test_a_client_lists_and_calls(server: tuple[str, int]) -> None:
    names, answer = await session(server[0])
    assert names == [tool.name for tool in TOOLS]
    assert answer.structuredContent["spent_dollars"] == 0


async def test_progress_arrives_over_http_too(server: tuple[str, int]) -> None:
    seen: list[float] = []

    async def progress(share: float, total: float | None, what: str | None) -> None:
        seen.append(share)

    async with (
        streamable_http_client(server[0]) as (reading, writing, _),
        ClientSession(reading, writing) as client,
    ):
        await client.initialize()
        await client.call_tool("explain_route", {"text": "hi"}, progress_callback=progress)
    assert len(seen) > 1


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8770"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
async def test_strangers_are_refused(server: tuple[str, int], headers: dict[str, str]) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(server[0], json=HELLO, headers={**HEADERS, **headers})
    assert answer.status_code in (403, 421)


async def test_a_page_of_this_machine_is_let_in(server: tuple[str, int]) -> None:
    url = server[0]
    origin = url.removesuffix("/mcp")
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, json=HELLO, headers={**HEADERS, "origin": origin})
    assert answer.status_code == 200


def test_it_listens_on_loopback_only(server: tuple[str, int]) -> None:
    port = int(server[0].rsplit(":", 1)[1].split("/")[0])
    listening = [
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == port
    ]
    assert [address.split(":")[0] for address in listening] == ["0100007F"]


async def test_sessions_leave_nothing_behind(server: tuple[str, int]) -> None:
    url, pid = server

    def held() -> tuple[int, int, int]:
        status = Path(f"/proc/{pid}/status").read_text()
        threads = int(re.search(r"Threads:\s+(\d+)", status).group(1))  # type: ignore[union-attr]
        memory = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))  # type: ignore[union-attr]
        return len(os.listdir(f"/proc/{pid}/fd")), threads, memory

    for _ in range(10):
        await session(url)
    files, threads, memory = held()
    for _ in range(SESSIONS // 4):
        await asyncio.gather(*(session(url) for _ in range(4)))
    after = held()
    assert after[0] <= files + 4  # connections that are being closed
    assert after[1] <= threads + 4  # the pool grows with what is done at once
    assert after[2] - memory < 8_000, "kB"


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "hermes_apprentice.interfaces.mcp_tools",
             "--http", str(taken.getsockname()[1])],
            env={**os.environ, "APPRENTICE_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot be used" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["70000", "-1", "eighty"])
def test_what_is_no_port_is_said_so(port: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hermes_apprentice.interfaces.mcp_tools", f"--http={port}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "is no port" in done.stderr and "Traceback" not in done.stderr
