"""The sidecar under steady, mixed traffic for a long time: what grows, and what is left behind.

Three processes: two fake upstream endpoints, the sidecar with a specialist in front of them, and
this load generator, which sends requests at a fixed rate and waits for none of them before the
next. Mixed are: specialist and upstream, streamed and whole, compressed, tool loops, embeddings,
errors with and without ``Retry-After``, an endpoint that fails and is stood in for, an abstaining
specialist, health and lists, and clients that hang up in the middle. Memory, open files and tasks
of the sidecar are sampled; at the end every connection is closed and they are counted once more.

Run: ``python benchmarks/router_soak.py --json`` (30 minutes; ``--seconds 20`` for a look)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import os
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from aiohttp import web
from router_overhead import child, child_with_pipe, resident_mb

KNOWN, UNSURE, OTHER = "Label this: it crashes.", "Label this: hm.", "Tell me about lamps."
TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]
PATIENCE = 60.0
SAMPLES = 40
KEPT = 2
"""Files that stay open from the first call on: the spool, and the one to look at the database."""


def run_endpoints(ready: Connection) -> None:
    """Serve two endpoints until terminated: one that fails when told to, and one that works."""

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = str(body["messages"][-1].get("content"))
        if request.app["first"]:
            if "FAIL" in text:
                return web.json_response({"error": {"message": "broken"}}, status=500)
            if "LIMIT" in text:
                error = {"error": {"message": "slow down"}}
                return web.json_response(error, status=429, headers={"retry-after": "1"})
            if "WRONG" in text:
                return web.json_response({"error": {"message": "wrong"}}, status=400)
        usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
        head = {"id": "chatcmpl-1", "created": 1, "model": "fake-big", "usage": usage}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "bug"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({**head, "object": "chat.completion", "choices": choices})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for number in range(20):
                finish = "stop" if number == 19 else None
                choice = {"index": 0, "delta": {"content": "bug "}, "finish_reason": finish}
                await response.write(
                    b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
                )
                await asyncio.sleep(0.005)
            await response.write(b"data: [DONE]\n\n")
        return response

    async def other(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"object": "list", "data": []})

    async def serve() -> None:
        urls = []
        for first in (True, False):
            app = web.Application(client_max_size=10_000_000)
            app["first"] = first
            app.router.add_post("/v1/chat/completions", chat)
            app.router.add_route("*", "/{path:.*}", other)
            runner = web.AppRunner(app, access_log=None, keepalive_timeout=3)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        ready.send(urls)
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner() as runner:
        runner.run(serve())


def run_mixed_sidecar(ready: Connection, urls: list[str], home: str) -> None:
    """Serve until terminated; answers every message on the pipe with how many tasks there are."""
    from hermes_apprentice.domain.shape import Shape, ShapeKind
    from hermes_apprentice.router.server import running_sidecar
    from hermes_apprentice.router.specialists import Loaded
    from hermes_apprentice.settings import ServerSettings, Settings, TierSettings, UpstreamSettings
    from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

    settings = Settings(
        home=Path(home) / "apprentice",
        hermes_home=Path(home) / "hermes",
        upstream=UpstreamSettings(
            base_url=urls[0], name="one", fallbacks=(TierSettings(base_url=urls[1], name="two"),)
        ),
        server=ServerSettings(port=0),
    )
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
    runtime = FakeRuntime({KNOWN: "bug"})
    loaded = Loaded(slug="label", version=1, shape=shape, runtime=runtime)
    put_in_stage(settings.database_path, "label")
    matcher = FakeMatcher({KNOWN: "label", UNSURE: "label"})
    source = FakeSource(matcher, loaded)

    async def serve() -> None:
        async with running_sidecar(settings, source=source) as sidecar:

            def report() -> None:
                ready.recv()
                # The fakes remember every request, which is their growth and not the sidecar's.
                matcher.asked.clear()
                runtime.asked.clear()
                tasks = len(asyncio.all_tasks())
                ready.send((tasks, int(sidecar.parts.metrics.in_flight)))

            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, stop.set)
            loop.add_reader(ready.fileno(), report)
            ready.send(sidecar.url)
            await stop.wait()
            loop.remove_reader(ready.fileno())

    with contextlib.suppress(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())


def body(text: str, **changes: Any) -> dict[str, Any]:
    """Return a first call of a user's turn."""
    messages = [
        {"role": "system", "content": "You are an agent. " * 50},
        {"role": "user", "content": text},
    ]
    return {"model": "fake-big", "messages": messages, "tools": TOOLS, **changes}


class Load:
    """Sends requests, and counts what came back against what should have."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.wrong: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._url = url
        self._session = session
        self._number = itertools.count()
        tool = {"role": "tool", "tool_call_id": "1", "content": "3 files " * 200}
        loop = body(OTHER)
        loop["messages"] += [{"role": "assistant", "tool_calls": [{"id": "1"}]}, tool]
        self.kinds: list[tuple[str, Callable[[str], Awaitable[None]]]] = [
            ("specialist", self._chat(body(KNOWN), "specialist", 200)),
            ("specialist_stream", self._chat(body(KNOWN, stream=True), "specialist", 200)),
            ("abstained", self._chat(body(UNSURE), "fallback", 200)),
            ("upstream", self._chat(body(OTHER), "upstream", 200)),
            ("upstream_stream", self._chat(body(OTHER, stream=True), "upstream", 200)),
            ("compressed", self._chat(body(OTHER), "upstream", 200, packed=True)),
            ("tool_loop", self._chat(loop, "upstream", 200)),
            ("stood_in", self._chat(body("FAIL, please"), "upstream", 200)),
            ("limited", self._chat(body("LIMIT me", model="limited"), "upstream", 200)),
            ("error", self._chat(body("WRONG", model="wrong"), "upstream", None)),
            ("hang_up", self._hang_up),
            ("embeddings", self._post("/v1/embeddings", b'{"input": "a"}')),
            ("broken", self._post("/v1/chat/completions", b"{", 400)),
            ("models", self._get("/v1/models/any")),
            ("health", self._get("/healthz")),
            ("metrics", self._get("/metrics")),
        ]

    def _chat(
        self, value: dict[str, Any], route: str, status: int | None, *, packed: bool = False
    ) -> Callable[[str], Awaitable[None]]:
        data = json.dumps(value).encode()
        encoding = {"content-encoding": "gzip"} if packed else {}
        data = gzip.compress(data) if packed else data

        async def ask(name: str) -> None:
            headers = {
                "x-hermes-session-id": f"s-{next(self._number) % 500}",
                "x-hermes-api-call": "2" if name == "tool_loop" else "1",
                **encoding,
            }
            url = f"{self._url}/v1/chat/completions"
            async with self._session.post(url, data=data, headers=headers) as response:
                await response.read()
                found = (response.headers.get("x-apprentice-route"), response.status)
            # A resting first endpoint is not asked what it thinks of a request: 400 or 200.
            if found != (route, status) and (status is not None or found[0] != route):
                self.wrong[f"{name}: {found}"] += 1

        return ask

    async def _hang_up(self, name: str) -> None:
        url = f"{self._url}/v1/chat/completions"
        async with self._session.post(url, json=body(OTHER, stream=True)) as response:
            await response.content.readany()
            response.close()

    def _post(self, path: str, data: bytes, status: int = 200) -> Callable[[str], Awaitable[None]]:
        async def ask(name: str) -> None:
            async with self._session.post(self._url + path, data=data) as response:
                await response.read()
                if response.status != status:
                    self.wrong[f"{name}: {response.status}"] += 1

        return ask

    def _get(self, path: str) -> Callable[[str], Awaitable[None]]:
        async def ask(name: str) -> None:
            async with self._session.get(self._url + path) as response:
                await response.read()
                if response.status != 200:
                    self.wrong[f"{name}: {response.status}"] += 1

        return ask

    async def one(self, number: int) -> None:
        """Send the next request; whatever goes wrong is counted."""
        name, ask = self.kinds[number % len(self.kinds)]
        self.sent[name] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await ask(name)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.wrong[f"{name}: {type(error).__name__}"] += 1


def sample(pid: int, pipe: Connection) -> dict[str, float]:
    """Return what a process holds now."""
    pipe.send("how many tasks")
    tasks, in_flight = pipe.recv() if pipe.poll(PATIENCE) else (-1, -1)
    return {
        "memory_mb": resident_mb(pid),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "tasks": tasks,
        "in_flight": in_flight,
    }


async def soak(url: str, pid: int, pipe: Connection, seconds: float, rate: float) -> dict[str, Any]:
    """Send requests at a rate for some time, and return the figures."""
    idle = sample(pid, pipe)
    samples: list[dict[str, float]] = []
    connector = aiohttp.TCPConnector(limit=0)
    running: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(connector=connector) as session:
        load = Load(url, session)
        began, number, latest = time.monotonic(), 0, 0.0
        while (now := time.monotonic()) < began + seconds:
            task = asyncio.create_task(load.one(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            if now - latest > seconds / SAMPLES:
                latest = now
                samples.append(sample(pid, pipe))
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        elapsed = time.monotonic() - began
        await asyncio.gather(*running)
    deadline = time.monotonic() + PATIENCE
    # Kept connections to the endpoints end by themselves after a quarter of a minute.
    while (left := sample(pid, pipe))["files"] > idle["files"] + KEPT or left["in_flight"]:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    warm = samples[len(samples) // 5 :]
    half = len(warm) // 2
    middle = [
        sum(one["memory_mb"] for one in part) / len(part) for part in (warm[:half], warm[half:])
    ]
    return {
        "seconds": round(elapsed, 1),
        "requests": number,
        "requests_per_s": round(number / elapsed, 1),
        "wrong": dict(load.wrong),
        "sent": dict(load.sent),
        "memory_mb": [round(one["memory_mb"], 1) for one in (warm[0], warm[half], warm[-1])],
        "growth_mb": round(middle[1] - middle[0], 2),
        "series_mb": [round(one["memory_mb"], 1) for one in samples],
        "files_most": max(one["files"] for one in samples),
        "idle": idle,
        "left": left,
    }


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--seconds", type=float, default=1_800.0, help="length of the run")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, child(run_endpoints) as (urls, _):
        with child_with_pipe(run_mixed_sidecar, urls, home) as (pipe, pid):
            url = pipe.recv()
            figures = asyncio.run(soak(url, pid, pipe, arguments.seconds, arguments.rate))
        database = sqlite3.connect(Path(home) / "apprentice" / "apprentice.db")
        rows = database.execute("SELECT COUNT(*) FROM ledger WHERE route != 'audit'").fetchone()[0]
        figures["ledger_rows"] = rows
        database.close()
    if not arguments.json:
        for name, found in figures.items():
            print(name, found)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
