"""A sidecar that is killed under load: what was answered is in the ledger, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

PATIENCE = 30.0
CLIENTS = 24
ASKED = "Label this ticket: the app crashes when I open it."
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))


@asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            message = {"role": "assistant", "content": "It is done."}
            return web.json_response(
                {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for delta, end in (({"content": "It is done."}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": end}
            await response.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def sessions(path: Path) -> list[str]:
    with Database(path) as database:
        return [row[0] for row in database.read("SELECT session FROM ledger")]


async def ask_until_killed(url: str, prefix: str, answered: set[str], kill: Any) -> None:
    """Ask from many clients, and kill the sidecar in the middle of it."""

    async def ask(client: int, session: aiohttp.ClientSession) -> None:
        number = 0
        with suppress(aiohttp.ClientError, OSError):
            while True:
                number += 1
                name = f"{prefix}-{client}-{number}"
                body = {
                    "model": "big-one",
                    "stream": number % 2 == 0,
                    "messages": [{"role": "user", "content": f"Say that it is done, {name}."}],
                }
                async with session.post(
                    f"{url}/v1/chat/completions",
                    json=body,
                    headers={"x-hermes-session-id": name},
                ) as response:
                    text = await response.read()
                    assert response.status == 200 and b"It is done." in text
                    answered.add(name)

    async with aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(ask(client, session)) for client in range(CLIENTS)]
        await kill()
        await asyncio.gather(*asking)


async def test_every_answered_call_is_in_the_ledger_after_a_kill_and_none_twice(
    tmp_path: Path, serving: Any
) -> None:
    home, chance = tmp_path / "home", random.Random(11)
    path = home / "apprentice.db"
    answered: set[str] = set()
    waiting = 0
    async with upstream() as base:
        for turn in range(4):
            async with serving(home, base) as (running, url):
                more = chance.randint(50, 250)
                before = len(answered)

                async def kill() -> None:
                    async with asyncio.timeout(PATIENCE):
                        while len(answered) < before + more:  # noqa: B023
                            await asyncio.sleep(chance.uniform(0, 0.02))
                    running.kill()
                    await running.wait()

                await ask_until_killed(url, f"s{turn}", answered, kill)
            waiting += len(answered.difference(sessions(path)))
        # Else the kills hit no moment at which there was something to lose.
        assert waiting > 0
        async with serving(home, base) as (running, url):
            deadline = time.monotonic() + PATIENCE
            while not answered <= set(sessions(path)):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            running.terminate()
            assert await running.wait() == 0
    found = sessions(path)
    assert answered <= set(found)
    assert len(found) == len(set(found))
    assert not (home / "spool").exists()
    with Database(path) as database:
        assert database.read("SELECT * FROM spools") == []


def placed(settings: Settings, base: str) -> Settings:
    put_in_stage(settings.database_path, "label-ticket")
    return settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=base, api_key_env=""),
            "server": ServerSettings(port=0),
            "rollout": settings.rollout.model_copy(update={"audit_share": 0.0}),
        }
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", [ASKED, "Something else."])
async def test_an_answer_ends_only_after_its_call_is_kept(
    settings: Settings, stream: bool, text: str
) -> None:
    loaded = Loaded(
        slug="label-ticket", version=1, shape=SHAPE, runtime=FakeRuntime({ASKED: "bug"})
    )
    source = FakeSource(FakeMatcher({ASKED: "label-ticket"}), loaded)
    kept_at_the_end: list[list[str]] = []
    async with upstream() as base, running_sidecar(placed(settings, base), source=source) as found:
        data = json.dumps(
            {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
        ).encode()
        sent: list[Any] = [{"type": "http.request", "body": data}]

        async def receive() -> Any:
            if sent:
                return sent.pop()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                lines = [
                    json.loads(line)["session"]
                    for file in settings.spool_dir.iterdir()
                    for line in file.read_text().splitlines()
                ]
                kept_at_the_end.append(lines)

        headers = [(b"host", b"127.0.0.1"), (b"x-hermes-session-id", b"s-1")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "headers": headers,
        }
        await found.app(scope, receive, send)
        assert kept_at_the_end == [["s-1"]]
        assert await found.parts.recorder.write()
    assert sessions(settings.database_path) == ["s-1"]


async def test_a_spool_that_cannot_be_written_costs_no_answer_and_shows_in_the_health(
    settings: Settings,
) -> None:
    settings.home.mkdir(parents=True)
    settings.spool_dir.write_text("in the way")
    async with upstream() as base:
        async with (
            running_sidecar(placed(settings, base), source=FakeSource(None)) as found,
            aiohttp.ClientSession() as session,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
            async with session.post(f"{found.url}/v1/chat/completions", json=body) as response:
                assert response.status == 200
            assert await found.parts.recorder.write()
            async with session.get(f"{found.url}/healthz") as response:
                problems = (await response.json())["problems"]
    assert str(settings.spool_dir) in problems["spool"]
    assert len(sessions(settings.database_path)) == 1


async def test_what_is_not_written_when_the_sidecar_stops_is_written_by_the_next(
    settings: Settings,
) -> None:
    async with upstream() as base:
        ready = placed(settings, base)
        async with running_sidecar(ready, source=FakeSource(None)) as found:
            store = await found.parts.recorder._store.database()
            await store.read("PRAGMA busy_timeout=50")
            other = sqlite3.connect(settings.database_path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{found.url}/v1/chat/completions", json=body) as response:
                    assert response.status == 200
        other.execute("ROLLBACK")
        other.close()
        assert sessions(settings.database_path) == []
        async with running_sidecar(ready, source=FakeSource(None)):
            async with asyncio.timeout(PATIENCE):
                while not sessions(settings.database_path):
                    await asyncio.sleep(0.02)
    assert len(sessions(settings.database_path)) == 1
    assert not settings.spool_dir.exists()
