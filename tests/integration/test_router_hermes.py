"""The real Hermes command line through the sidecar."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

from hermes_apprentice.domain.routing import CallKind
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.router.calls import read_call
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.corrections import digest_of, read_corrections
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.tenants import TenantStore
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

HERMES = Path(sys.executable).with_name("hermes")
ASKED = "Label this ticket: the invoice shows the wrong street."
OTHER = "Tell me something about lighthouses."
PATIENCE = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here"),
]

CONFIG = """\
model:
  provider: apprentice
  default: fake-big
providers:
  apprentice:
    name: apprentice
    base_url: {url}/v1
    api_key: sk-invented
    request_timeout_seconds: 60
plugins:
  enabled: [{plugins}]
"""


class StreamingUpstream:
    """Streams one sentence, and keeps what it was sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1}
        for delta, finish in (
            ({"role": "assistant", "content": "Lighthouses "}, None),
            ({"content": "are tall."}, None),
            ({}, "stop"),
        ):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {**head, "model": "fake-big", "choices": [choice]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        usage = {"prompt_tokens": 9_000, "completion_tokens": 4, "total_tokens": 9_004}
        last = {**head, "model": "fake-big", "choices": [], "usage": usage}
        await response.write(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")
        return response


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[str, StreamingUpstream]]:
    found = StreamingUpstream()
    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/v1/chat/completions", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1", found
    await runner.cleanup()


async def hermes(home: Path, *arguments: str, **variables: str) -> str:
    """Run ``hermes`` and return what it prints."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")},
        "HERMES_HOME": str(home),
        "HOME": str(home.parent),
        "APPRENTICE_HOME": str(home.parent / "apprentice"),
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        HERMES,
        *arguments,
        env=environment,
        cwd=home.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, errors.decode()
    return out.decode()


def with_a_live_specialist(
    settings: Settings, url: str
) -> tuple[Settings, FakeSource, FakeRuntime]:
    """Settings for an upstream, and a specialist that answers one request."""
    placed = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=url, model="fake-big", api_key_env=""),
            "server": ServerSettings(port=0),
        }
    )
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
    runtime = FakeRuntime({ASKED: "billing"})
    loaded = Loaded(slug="label-ticket", version=4, shape=shape, runtime=runtime)
    put_in_stage(placed.database_path, "label-ticket", version=4)
    source = FakeSource(FakeMatcher({ASKED: "label-ticket"}), loaded)
    return placed, source, runtime


@pytest.mark.parametrize("plugins", ["", "apprentice"], ids=["without plugin", "with plugin"])
async def test_hermes_gets_streamed_answers_of_a_specialist_and_of_the_upstream(
    settings: Settings, upstream: tuple[str, StreamingUpstream], plugins: str
) -> None:
    url, answers = upstream
    placed, source, runtime = with_a_live_specialist(settings, url)
    home = placed.hermes_home
    home.mkdir(parents=True)
    async with running_sidecar(placed, source=source) as running:
        config = CONFIG.format(url=running.url, plugins=plugins)
        (home / "config.yaml").write_text(config, encoding="utf-8")
        answered = await hermes(home, "-z", ASKED)
        passed = await hermes(home, "-z", OTHER)
        assert await running.parts.recorder.write()
    assert "billing" in answered
    assert "Lighthouses are tall." in passed
    assert runtime.asked == [ASKED]
    assert [body["messages"][-1]["content"] for body in answers.bodies] == [OTHER]
    # What the real Hermes sends is a first call by its shape alone, too.
    untagged = read_call({}, answers.bodies[0])
    assert (untagged.kind, untagged.request) == (CallKind.FIRST, OTHER)
    assert untagged.stream and untagged.include_usage
    with Database(placed.database_path) as database:
        rows = [dict(row) for row in database.read("SELECT * FROM ledger ORDER BY entry_id")]
    assert [(row["route"], row["call_kind"]) for row in rows] == [
        ("specialist", "first"),
        ("upstream", "first"),
    ]
    assert rows[1]["prompt_tokens"] == 9_000
    tagged = [not row["session"].startswith("fp-") for row in rows]
    assert tagged == [bool(plugins)] * 2


async def test_hermes_comes_in_with_a_tenants_key_from_its_environment(
    settings: Settings, upstream: tuple[str, StreamingUpstream]
) -> None:
    url, answers = upstream
    placed = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=url, model="fake-big", api_key_env=""),
            "server": ServerSettings(port=0),
        }
    )
    with Database(placed.database_path) as database:
        key = TenantStore(database).create("ann", Limits(monthly_requests=1_000), time.time()).text
    home = placed.hermes_home
    home.mkdir(parents=True)
    async with running_sidecar(placed, source=FakeSource(None)) as running:
        config = CONFIG.format(url=running.url, plugins="apprentice")
        config = config.replace("api_key: sk-invented", "key_env: APPRENTICE_TENANT_KEY")
        (home / "config.yaml").write_text(config, encoding="utf-8")
        assert "Lighthouses are tall." in await hermes(home, "-z", OTHER, APPRENTICE_TENANT_KEY=key)
        assert await running.parts.recorder.write()
        assert not running.parts.metrics.refused
    assert len(answers.bodies) == 1
    with Database(placed.database_path) as database:
        rows = database.read("SELECT tenant, prompt_tokens FROM ledger")
    assert [tuple(row) for row in rows] == [("ann", 9_000)]


async def test_the_gateway_gets_streamed_answers_of_a_specialist_and_of_the_upstream(
    settings: Settings, upstream: tuple[str, StreamingUpstream], stage: ModuleType
) -> None:
    pytest.importorskip("telegram", reason="hermes-agent[messaging] is not installed")
    url, answers = upstream
    placed, source, runtime = with_a_live_specialist(settings, url)
    telegram = stage.FakeTelegram()
    async with (
        running_sidecar(placed, source=source) as running,
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
    ):
        config = stage.CONFIG.format(model="fake-big", upstream=f"{running.url}/v1", telegram=api)
        async with stage.gateway(placed.hermes_home, placed.home, telegram, config):
            await telegram.say(ASKED)
            await telegram.message("billing")
            await telegram.say(OTHER)
            await telegram.message("Lighthouses are tall")
        assert await running.parts.recorder.write()
    assert runtime.asked == [ASKED]
    texts = [body["messages"][-1]["content"] for body in answers.bodies if body.get("tools")]
    assert [OTHER in text for text in texts] == [True]
    with Database(placed.database_path) as database:
        rows = database.read("SELECT * FROM ledger WHERE call_kind = 'first' ORDER BY entry_id")
    assert [(row["route"], row["session"].startswith("fp-")) for row in rows] == [
        ("specialist", False),
        ("upstream", False),
    ]


async def test_a_specialist_hears_that_its_answer_was_turned_down(
    settings: Settings, upstream: tuple[str, StreamingUpstream]
) -> None:
    placed, source, _ = with_a_live_specialist(settings, upstream[0])
    home = placed.hermes_home
    home.mkdir(parents=True)
    async with running_sidecar(placed, source=source) as running:
        config = CONFIG.format(url=running.url, plugins="apprentice")
        (home / "config.yaml").write_text(config, encoding="utf-8")
        assert "billing" in await hermes(home, "chat", "-Q", "-q", ASKED)
        assert await running.parts.recorder.write()
        # Another process goes on with the session, and is told that this was wrong.
        await hermes(home, "chat", "-Q", "--continue", "-q", "That's wrong, it is a bug.")
    with Database(placed.database_path) as database:
        (heard,) = read_corrections(database)
        (first, *_) = database.read("SELECT session, at FROM ledger ORDER BY entry_id")
        assert (heard.kind, heard.slug, heard.version) == ("rejected", "label-ticket", 4)
        assert heard.session_id == first["session"]
        assert abs(heard.asked_at - first["at"]) < 30
        assert heard.request_digest == digest_of(ASKED)
        open_pipeline(placed, database).observe()
        told = {one.request: one.corrected for one in ExchangeStore(database).iterate()}
    assert told[ASKED] is True
