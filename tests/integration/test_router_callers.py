"""Everything in the real Hermes that calls a model is told apart, with and without our plugin."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hermes_apprentice.domain.routing import CallKind
from hermes_apprentice.router.calls import read_call

HERMES = Path(sys.executable).with_name("hermes")
CALLERS = Path(__file__).parents[1] / "hermes_callers.py"
PATIENCE = 150.0

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
plugins:
  enabled: [apprentice]
delegation:
  max_spawn_depth: 2
"""

FIRST, CONTINUATION, SUBAGENT = CallKind.FIRST, CallKind.CONTINUATION, CallKind.SUBAGENT
EXPECTED = {
    "main_turn": [FIRST, CONTINUATION],
    "second_turn": [FIRST],
    "delegation": [FIRST, SUBAGENT, CONTINUATION],
    "orchestration": [FIRST, SUBAGENT, CONTINUATION],
    "developer": [FIRST, SUBAGENT, CONTINUATION],
    "cut_off": [FIRST, CONTINUATION],
    "review": [CallKind.REVIEW],
    "curator": [CallKind.REVIEW],
    "cron": [CallKind.CRON],
    "title": [CallKind.AUXILIARY],
    "compression": [CallKind.AUXILIARY],
    "auxiliary": [CallKind.AUXILIARY] * 3,
    "mcp_sampling": [CallKind.AUXILIARY],
}
"""What each caller of ``hermes_callers.py`` sends, in any order."""

ANSWERS = {
    "USE_TODO": ("todo", {"todos": []}),
    "DELEGATE": ("delegate_task", {"goal": "count to three"}),
    "ORCHESTRATE": ("delegate_task", {"goal": "count to three", "role": "orchestrator"}),
}


@dataclass
class Endpoint:
    """A model that uses tools when it is told to, and keeps what it was sent, by caller."""

    caller: str = ""
    seen: dict[str, list[tuple[dict[bytes, bytes], dict[str, Any]]]] = field(default_factory=dict)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def label(self, request: web.Request) -> web.Response:
        """Begin with another caller, once all that the last one sends has arrived."""
        async with self.arrived:
            wanted = len(EXPECTED.get(self.caller, ()))
            async with asyncio.timeout(30):
                await self.arrived.wait_for(lambda: len(self.seen.get(self.caller, ())) >= wanted)
            self.caller = request.match_info["name"]
        return web.Response()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        headers = {name.lower().encode(): text.encode() for name, text in request.headers.items()}
        async with self.arrived:
            self.seen.setdefault(self.caller, []).append((headers, body))
            self.arrived.notify_all()
        last = body["messages"][-1]
        text = last["content"] if last["role"] == "user" else ""
        delta: dict[str, Any] = {"role": "assistant", "content": "It is done."}
        finish: str | None = "stop"
        for word, (name, arguments) in ANSWERS.items():
            if word in text:
                function = {"name": name, "arguments": json.dumps(arguments)}
                call = {"index": 0, "id": "call_1", "type": "function", "function": function}
                delta, finish = {"role": "assistant", "tool_calls": [call]}, "tool_calls"
        if "BREAK_OFF" in text:
            finish = None
        head = {"id": "chatcmpl-1", "created": 1, "model": "fake-big"}
        if not body.get("stream"):
            choice = {"index": 0, "message": delta, "finish_reason": finish}
            answer = {**head, "object": "chat.completion", "choices": [choice]}
            return web.json_response(answer)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for part, end in ((delta, None), ({}, finish)):
            choice = {"index": 0, "delta": part, "finish_reason": end}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


async def test_every_caller_in_the_real_hermes_is_told_apart(tmp_path: Path) -> None:
    endpoint = Endpoint()
    app = web.Application(client_max_size=10_000_000)
    app.router.add_get("/label/{name}", endpoint.label)
    app.router.add_post("/v1/chat/completions", endpoint.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    home = tmp_path / "hermes"
    home.mkdir()
    (home / "config.yaml").write_text(CONFIG.format(url=url), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        CALLERS,
        url,
        env={
            **kept,
            "HERMES_HOME": str(home),
            "HOME": str(tmp_path),
            "APPRENTICE_HOME": str(tmp_path / "apprentice"),
        },
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await runner.cleanup()
    assert process.returncode == 0, said.decode()[-3_000:]
    tagged = {name: [read_call(*call).kind for call in calls] for name, calls in seen(endpoint)}
    bare = {
        name: [read_call(untagged(headers), body).kind for headers, body in calls]
        for name, calls in seen(endpoint)
    }
    expected = {name: sorted(kinds) for name, kinds in EXPECTED.items()}
    assert {name: sorted(kinds) for name, kinds in tagged.items()} == expected
    assert {name: sorted(kinds) for name, kinds in bare.items()} == expected
    sessions = {read_call(*call).session for call in endpoint.seen["main_turn"]}
    assert len(sessions) == 1  # a turn stays in its session, ...
    sessions = {
        read_call(untagged(headers), body).session for headers, body in endpoint.seen["main_turn"]
    }
    assert len(sessions) == 1  # ... also where Hermes does not name it


def seen(endpoint: Endpoint) -> list[tuple[str, list[tuple[dict[bytes, bytes], dict[str, Any]]]]]:
    return [(name, calls) for name, calls in endpoint.seen.items() if name]


def untagged(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in headers.items() if not name.startswith(b"x-hermes-")}
