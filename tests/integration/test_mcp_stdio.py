"""The server as a process, spoken to in plain JSON-RPC: any SDK behind it is tested alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.interfaces.mcp_tools import TOOLS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
HEAVY = ("numpy", "onnxruntime", "sklearn", "presidio_analyzer", "hermes_apprentice.pipeline",
         "hermes_apprentice.router", "aiohttp", "cryptography", "typer")  # fmt: skip

OTHER = os.environ.get("APPRENTICE_MCP_PYTHON", "")
"""An interpreter with another MCP SDK, and with our dependencies."""


class Server:
    """The running process."""

    def __init__(self, python: str, home: Path, *arguments: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [python, "-m", "hermes_apprentice.interfaces.mcp_tools", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(home),
                "APPRENTICE_HOME": str(home / "apprentice"),
                "PYTHONPATH": str(ROOT),
            },
            cwd=home,
        )
        self._last = 0

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the response, and the notifications before it."""
        assert self.process.stdout is not None
        self._last += 1
        self.send({"id": self._last, "method": method, "params": params})
        before = []
        while line := self.process.stdout.readline():
            message = json.loads(line)
            if message.get("id") == self._last:
                return message, before
            before.append(message)
        raise AssertionError(self.process.stderr and self.process.stderr.read().decode())

    def begin(self) -> dict[str, Any]:
        hello, _ = self.ask(
            "initialize",
            protocolVersion="2025-06-18",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
        self.send({"method": "notifications/initialized"})
        return hello["result"]  # type: ignore[no-any-return]

    def end(self) -> tuple[int, str]:
        """Close its input, and return its exit code and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()


@pytest.fixture(params=[sys.executable, OTHER], ids=["this SDK", "another SDK"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if not request.param:
        pytest.skip("APPRENTICE_MCP_PYTHON names no interpreter")
    running = Server(request.param, tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.communicate(timeout=PATIENCE)


def test_a_session_from_beginning_to_end(server: Server) -> None:
    hello = server.begin()
    assert hello["serverInfo"]["name"] == "apprentice"
    offers = {key for key, value in hello["capabilities"].items() if value}
    assert offers == {"tools"}

    listed, _ = server.ask("tools/list")
    tools = listed["result"]["tools"]
    assert [tool["name"] for tool in tools] == [tool.name for tool in TOOLS]
    assert all(tool["inputSchema"]["additionalProperties"] is False for tool in tools)

    answer, told = server.ask("tools/call", name="budget_status", arguments={})
    result = answer["result"]
    assert result["structuredContent"]["ceiling_dollars"] == 0
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    assert told == []

    refused, _ = server.ask("tools/call", name="roi", arguments={"days": -1})
    assert refused["result"]["isError"] and "days" in refused["result"]["content"][0]["text"]

    unknown, _ = server.ask("tools/call", name="format_disk", arguments={})
    assert unknown["error"]["code"] == -32602
    assert "known: list_candidates" in unknown["error"]["message"]

    answer, told = server.ask(
        "tools/call", name="explain_route", arguments={"text": "hi"}, _meta={"progressToken": "p"}
    )
    assert answer["result"]["structuredContent"]["answered_by"] == "upstream"
    shares = [message["params"]["progress"] for message in told]
    assert {message["method"] for message in told} == {"notifications/progress"}
    assert {message["params"]["progressToken"] for message in told} == {"p"}
    assert len(shares) > 1 and shares == sorted(set(shares))

    nothing, _ = server.ask("resources/list")
    assert nothing["error"]["code"] == -32601
    assert server.end() == (0, "")


def test_a_line_that_is_no_message_does_not_end_the_session(server: Server) -> None:
    server.begin()
    assert server.process.stdin is not None
    server.process.stdin.write(b"hello\n\xff\xfe\n{}\n")
    server.process.stdin.flush()
    answer, _ = server.ask("tools/call", name="budget_status", arguments={})
    assert "result" in answer


def test_nothing_heavy_is_loaded_before_a_tool_needs_it() -> None:
    code = (
        "import sys, hermes_apprentice.interfaces.mcp_tools, hermes_apprentice.interfaces.mcp_sdk\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_a_library_prints_does_not_get_into_the_protocol(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from hermes_apprentice.interfaces import mcp_tools\n"
        "from hermes_apprentice.interfaces.mcp_catalogue import Arguments, Tool\n"
        "def loud(arguments, report):\n"
        "    print('noise'); os.write(1, b'more noise'); assert sys.stdin.read() == ''\n"
        "    return {'ok': True}\n"
        "tool = Tool(name='loud', description='d', arguments=Arguments, work=loud)\n"
        "mcp_tools.offered = lambda read_only: (tool,)\n"
        "sys.exit(mcp_tools.main([]))\n"
    )
    (tmp_path / "loud.py").write_text(code)
    running = Server(sys.executable, tmp_path)
    running.process.kill()
    running.process.communicate(timeout=PATIENCE)
    running.process = subprocess.Popen(
        [sys.executable, str(tmp_path / "loud.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "APPRENTICE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    running.begin()
    answer, _ = running.ask("tools/call", name="loud", arguments={})
    assert answer["result"]["structuredContent"] == {"ok": True}
    code_, errors = running.end()
    assert code_ == 0
    assert "noise" in errors and "more noise" in errors


def test_a_wrong_setting_is_one_line_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "apprentice").mkdir()
    (tmp_path / "apprentice" / "settings.toml").write_text("[mcp]\nread_only = 'perhaps'\n")
    code, errors = Server(sys.executable, tmp_path).end()
    assert code == 2
    assert "mcp.read_only" in errors and "Traceback" not in errors


def test_read_only_can_be_set_for_good_or_for_one_server(tmp_path: Path) -> None:
    names = []
    (tmp_path / "apprentice").mkdir()
    settings = tmp_path / "apprentice" / "settings.toml"
    for text, arguments in (("", ["--read-only"]), ("[mcp]\nread_only = true\n", [])):
        settings.write_text(text)
        running = Server(sys.executable, tmp_path, *arguments)
        running.begin()
        listed, _ = running.ask("tools/list")
        names.append([tool["name"] for tool in listed["result"]["tools"]])
        assert running.end()[0] == 0
    assert names[0] == names[1] == [tool.name for tool in TOOLS if tool.reads]


def test_an_interrupt_ends_a_server_that_waits_for_input(tmp_path: Path) -> None:
    running = Server(sys.executable, tmp_path)
    running.begin()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(PATIENCE) == -signal.SIGINT
    running.end()
