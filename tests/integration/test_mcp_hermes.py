"""The real Hermes connects to our server, and offers its tools to the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.interfaces.mcp_tools import TOOLS
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout

HERMES = Path(sys.executable).with_name("hermes")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here"),
]

CONFIG = """\
model:
  provider: custom
  default: fake-big
  base_url: {url}/v1
  api_key: sk-invented
  context_length: 131072
mcp_discovery_timeout: 60  # the default is 1.5 s: enough, unless the machine is busy
mcp_servers:
  apprentice:
    command: {python}
    args: [-m, hermes_apprentice.interfaces.mcp_tools]
    env: {{APPRENTICE_HOME: {home}}}
    enabled: true
"""


class Upstream(BaseHTTPRequestHandler):
    """Calls the tool that the server's ``wanted`` names, then says its result is fine."""

    server: FakeUpstream

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/chat/completions"):
            self.send_error(404)
            return
        self.server.bodies.append(body)
        last = body["messages"][-1]
        delta: dict[str, Any] = {"role": "assistant", "content": "That is all."}
        finish = "stop"
        names = [tool["function"]["name"] for tool in body.get("tools", ())]
        if last["role"] == "user" and self.server.wanted in names:
            function = {"name": self.server.wanted, "arguments": self.server.arguments}
            call = {"index": 0, "id": "call_1", "type": "function", "function": function}
            delta, finish = {"role": "assistant", "tool_calls": [call]}, "tool_calls"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake-big"}
        usage = {"prompt_tokens": 9_000, "completion_tokens": 4, "total_tokens": 9_004}
        for chunk in (
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {**head, "choices": [], "usage": usage},
        ):
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


class FakeUpstream(ThreadingHTTPServer):
    """A model endpoint that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Upstream)
        self.bodies: list[dict[str, Any]] = []
        self.wanted = "mcp__apprentice__roi"
        self.arguments = '{"days": 7}'


@pytest.fixture
def upstream(settings: Settings) -> Iterator[FakeUpstream]:
    """The endpoint, with a Hermes home that is configured for it."""
    server = FakeUpstream()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.hermes_home.mkdir(parents=True)
    (settings.hermes_home / "config.yaml").write_text(
        CONFIG.format(
            url=f"http://127.0.0.1:{server.server_port}",
            python=sys.executable,
            home=settings.home,
        )
    )
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def hermes(settings: Settings, *arguments: str, answers: str = "") -> str:
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    done = subprocess.run(
        [HERMES, *arguments],
        env={
            **kept,
            "HERMES_HOME": str(settings.hermes_home),
            "HOME": str(settings.home.parent),
            "NO_COLOR": "1",
            "COLUMNS": "160",
        },
        cwd=settings.home.parent,
        input=answers,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    return done.stdout + done.stderr


def test_hermes_finds_every_tool(settings: Settings, upstream: FakeUpstream) -> None:
    said = hermes(settings, "mcp", "test", "apprentice")
    assert f"{len(TOOLS)}" in said
    missing = [tool.name for tool in TOOLS if tool.name not in said]
    assert not missing, said


def test_hermes_adds_the_server_by_command_and_finds_nothing_wrong_with_it(
    settings: Settings, upstream: FakeUpstream
) -> None:
    (settings.hermes_home / "config.yaml").write_text("model: {provider: custom, default: m}\n")
    said = hermes(
        settings, "mcp", "add", "apprentice", "--command", sys.executable,
        "--env", f"APPRENTICE_HOME={settings.home}",
        "--args", "-m", "hermes_apprentice.interfaces.mcp_tools", answers="Y\n",
    )  # fmt: skip
    config = (settings.hermes_home / "config.yaml").read_text()
    assert "hermes_apprentice.interfaces.mcp_tools" in config, said
    assert "apprentice" in hermes(settings, "mcp", "list")


def test_a_one_shot_turn_is_offered_the_tools_and_uses_one(
    settings: Settings, upstream: FakeUpstream
) -> None:
    said = hermes(settings, "-z", "What did the specialists save?")
    assert "That is all." in said
    first, second = (body for body in upstream.bodies if "tools" in body)
    ours = [
        tool["function"]
        for tool in first["tools"]
        if tool["function"]["name"].startswith("mcp__apprentice__")
    ]
    # Ten tools, and none of those that Hermes adds for resources and prompts.
    assert {tool["name"] for tool in ours} == {f"mcp__apprentice__{tool.name}" for tool in TOOLS}
    assert len(json.dumps(ours)) / 4 <= 2_500, "tokens of the request, as Hermes words it"
    result = second["messages"][-1]
    assert result["role"] == "tool"
    assert "share_answered_by_specialists" in result["content"]


def test_an_agent_that_wants_a_specialist_gone_only_gets_the_operator_asked(
    settings: Settings, upstream: FakeUpstream
) -> None:
    rollout = Rollout(
        slug="label-ticket",
        version=1,
        stage=Stage.LIVE,
        share=1.0,
        held=False,
        step_started_at=1.0,
        reason="",
    )
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_rollout(connection, rollout, 1.0)
    upstream.wanted = "mcp__apprentice__demote"
    upstream.arguments = '{"name": "label-ticket", "reason": "A mail said so."}'
    assert "That is all." in hermes(settings, "-z", "Read my mail.")
    assert "demote label-ticket" in upstream.bodies[-1]["messages"][-1]["content"]
    with Database(settings.database_path) as database, database.transaction() as connection:
        assert find_rollout(connection, "label-ticket") == rollout
        (message,) = waiting_messages(connection)
    assert 'in its own words: "A mail said so."' in message.text


def test_hermes_connects_over_http(settings: Settings, upstream: FakeUpstream) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "hermes_apprentice.interfaces.mcp_tools", "--http", "0"],
        env={**os.environ, "APPRENTICE_HOME": str(settings.home)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        (settings.hermes_home / "config.yaml").write_text(
            json.dumps({"mcp_servers": {"apprentice": {"url": url, "enabled": True}}})
        )
        said = hermes(settings, "mcp", "test", "apprentice")
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert all(tool.name in said for tool in TOOLS), said
