"""The sidecar under 64 streaming clients while one thing after the other breaks around it.

Three processes: a fake upstream that streams an answer whose bytes follow from the request, the
sidecar with a real signed registry in front of it, and this one, which breaks and repairs. For each
fault it is counted what the clients got (every byte is compared), whether ``/healthz`` told of the
fault, whether anything that cannot be verified answered, and how long after the repair a
specialist answered again, without a restart. At the end the sidecar is told to stop while all
clients are in the middle of an answer, and another one is killed again and again under load.

Run: ``python benchmarks/router_faults.py --json`` (about ten minutes; ``--short`` for one and a
half). A full disk needs the right to mount a small file system, and is left out without it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import count, cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import _placed
import aiohttp
import platformdirs
import uvloop
from aiohttp import web
from router_overhead import child, child_with_pipe

from hermes_apprentice.domain.specialist import Abstain, Answer, Stage
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.registry.sealed import FILES
from hermes_apprentice.settings import ModelSettings, ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.tenants import TenantStore

CLIENTS = 64
PIECES = 12
PAUSE = 0.02
PATIENCE = 60.0
ROOM = 400
"""Calls that wait for the ledger at most, so few that a locked database fills it in seconds."""

TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]
PLANTED = "planted-secret-4711"
"""Stands in every request and in the errors of the raising specialist; no log may hold it."""


def text_of(request: str) -> str:
    """Return what the fake upstream answers to a text."""
    if request == _placed.KNOWN:
        return "bug"
    digest = hashlib.sha256(request.encode()).hexdigest()
    return " ".join(digest[place : place + 4] for place in range(0, 4 * PIECES, 4))


def pieces_of(request: str) -> list[bytes]:
    """Return the events of the fake upstream's answer."""
    found = []
    for word in text_of(request).split(" "):
        choice = {"index": 0, "delta": {"content": f"{word} ü"}, "finish_reason": None}
        found.append({"id": "chatcmpl-1", "choices": [choice], "x_unknown": 1.50})
    if request == _placed.KNOWN:
        found[0]["choices"][0]["delta"]["content"] = "bug"  # type: ignore[index]
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 300, "completion_tokens": 12, "total_tokens": 312}
    found.append({"id": "chatcmpl-1", "choices": [last], "usage": usage})
    events = [b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in found]
    return [*events, b"data: [DONE]\n\n"]


def run_upstream(ready: Connection) -> None:
    """Serve until terminated."""

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        if not body.get("stream"):
            message = {"role": "assistant", "content": text_of(text)}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({"id": "chatcmpl-1", "choices": choices})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, piece in enumerate(pieces_of(text)):
            if "RESET" in text and number == 3:
                assert request.transport is not None
                request.transport.abort()
                break
            await response.write(piece)
            await asyncio.sleep(PAUSE)
        return response

    async def serve() -> None:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_post("/v1/chat/completions", chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
        ready.send(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner() as runner:
        runner.run(serve())


class Moody:
    """A specialist's runtime that can be told to misbehave."""

    mood = "well"

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def answer(self, request: str, encoding: Any = None) -> Answer | Abstain:
        """Answer, raise, hang or talk rubbish."""
        if Moody.mood == "raising":
            raise ValueError(f"cannot read {request} {PLANTED}")
        if Moody.mood == "hanging":
            await asyncio.Event().wait()
        if Moody.mood == "rubbish":
            rubbish = (None, Answer(text="\x00no label", confidence=9.0), {"text": "bug"}, 7)
            return random.choice(rubbish)  # type: ignore[return-value]
        found: Answer | Abstain = await self._inner.answer(request, encoding)
        return found

    def close(self) -> None:
        """Give back what is held."""
        self._inner.close()


class MoodySource:
    """The registry, with runtimes that can be told to misbehave."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def stamp(self, wanted: Mapping[str, int]) -> object:
        """Return what the registry says."""
        return self._inner.stamp(wanted)

    def load(self, wanted: Mapping[str, int]) -> Any:
        """Load, and wrap what was loaded."""
        loading = self._inner.load(wanted)
        wrapped = {
            slug: replace(loaded, runtime=Moody(loaded.runtime))
            for slug, loaded in loading.specialists.items()
        }
        return replace(loading, specialists=wrapped)


def copied_models(folder: Path) -> Path:
    """Copy the embedder to a place where it may disappear; returns the folder."""
    kept = platformdirs.user_cache_path("hermes-apprentice") / "models"
    if kept.is_dir():
        shutil.copytree(kept, folder)
    return folder


def settings_for(home: str, upstream: str, models: Path) -> Settings:
    """Return the settings of a sidecar in front of the fake upstream."""
    return Settings(
        home=Path(home) / "apprentice",
        hermes_home=Path(home) / "hermes",
        upstream=UpstreamSettings(base_url=upstream, api_key_env="", connect_timeout=2),
        server=ServerSettings(port=0),
        models=ModelSettings(embedder=_placed.EMBEDDER, folder=models),
    )


def run_moody(ready: Connection, settings: Settings, log: str, rest: float) -> None:
    """Serve until terminated; takes moods from the pipe."""
    import logging
    from functools import partial

    from hermes_apprentice.router import server, specialists
    from hermes_apprentice.router.loading import RegistrySource
    from hermes_apprentice.router.recorder import Recorder
    from hermes_apprentice.router.server import running_sidecar

    logging.basicConfig(filename=log, level=logging.INFO)
    specialists.REST_SECONDS = rest
    vars(server)["Recorder"] = partial(Recorder, limit=ROOM)

    async def serve() -> None:
        own = RegistrySource(settings)
        async with running_sidecar(settings, source=MoodySource(own)) as sidecar:
            loop, stop = asyncio.get_running_loop(), asyncio.Event()

            def listen() -> None:
                Moody.mood = ready.recv()
                ready.send(Moody.mood)

            loop.add_signal_handler(signal.SIGTERM, stop.set)
            loop.add_reader(ready.fileno(), listen)
            ready.send(sidecar.url)
            await stop.wait()
            loop.remove_reader(ready.fileno())
        own.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


class Clients:
    """Streaming clients that never rest, and compare every byte."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.routes: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.times: list[float] = []
        self.resetting = False
        self.trusted = True
        """Whether a specialist may answer."""
        self._url = url
        self._session = session
        self._number = 0

    def forget(self) -> None:
        """Start counting anew."""
        self.routes, self.wrong, self.times = Counter(), Counter(), []

    async def run(self, over: asyncio.Event) -> None:
        """Ask until it is over."""
        while not over.is_set():
            await self.ask()

    async def ask(self, *, known: bool | None = None) -> str:
        """Ask once; returns the route, or what was wrong."""
        self._number += 1
        known = self._number % 2 == 0 if known is None else known
        text = _placed.KNOWN if known else f"{_placed.OTHER} {PLANTED} {self._number}"
        reset = self.resetting and self._number % 3 == 0
        if reset:
            text = f"{_placed.OTHER} RESET {self._number}"
        messages = [{"role": "user", "content": text}]
        body = {"model": "fake-big", "messages": messages, "tools": TOOLS, "stream": True}
        headers = {"x-hermes-session-id": f"s-{self._number}", "x-hermes-api-call": "1"}
        began, trusted = time.perf_counter(), self.trusted
        try:
            async with asyncio.timeout(PATIENCE):
                async with self._session.post(
                    f"{self._url}/v1/chat/completions", json=body, headers=headers
                ) as response:
                    route = response.headers.get("x-apprentice-route", "none")
                    data = await response.read()
                    found = self._judge(response.status, route, data, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found = type(error).__name__
            if reset and found == "ClientPayloadError":
                self.routes["broken_as_it_was"] += 1
                return found
        else:
            if reset and found == "status 502":
                # On a busy machine the reset overtakes the first piece, and there is no answer.
                found = "refused_as_nothing_had_come"
                self.routes[found] += 1
                return found
            if reset:
                found = "a broken answer was made to look whole"
            elif found == "specialist" and not (trusted or self.trusted):
                found = "answered by what cannot be verified"
        self.times.append(time.perf_counter() - began)
        if found in ("specialist", "upstream", "fallback"):
            self.routes[found] += 1
        else:
            self.wrong[found] += 1
        return found

    def _judge(self, status: int, route: str, data: bytes, text: str) -> str:
        if status != 200:
            return f"status {status}"
        if route == "specialist":
            events = [line[6:] for line in data.split(b"\n\n") if line.startswith(b"data: {")]
            parts = [json.loads(event)["choices"][0]["delta"].get("content") for event in events]
            said = "".join(part or "" for part in parts)
            whole = data.endswith(b"data: [DONE]\n\n") and said == "bug"
            return "specialist" if whole and text == _placed.KNOWN else "a wrong answer of ours"
        return route if data == b"".join(pieces_of(text)) else "other bytes than the upstream's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that breaks."""

    name: str
    """What it is called."""

    begin: Callable[[], Any]
    """Breaks it; what it returns is handed to ``end``."""

    end: Callable[[Any], None]
    """Repairs it."""

    told: str | None = None
    """A part of ``/healthz`` that must name the problem; empty takes any."""

    seconds: float = 2.0
    """How long it lasts, at least until it was told."""

    counted: str = ""
    """A figure of ``/metrics`` that must have grown before it is repaired."""

    unverified: bool = False
    """Whether no specialist may answer once the problem was told."""


def flip(path: Path) -> bytes:
    """Change a byte of a file; returns what it was."""
    before = path.read_bytes()
    data = bytearray(before)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return before


def faults(settings: Settings, mood: Callable[[str], None], short: bool) -> list[Fault]:
    """Return all faults that this machine can play."""
    seconds = 1.0 if short else 15.0
    registry, path = settings.registry_dir, settings.database_path
    aside = registry.with_name("registry.aside")
    ballast = settings.home / "ballast"
    models = settings.models_dir

    def weights() -> Path:
        return next((registry / _placed.SLUG / "1" / FILES).rglob("*.npz"))

    def matcher() -> Path:
        return registry / MATCHER_FOLDER / "1" / FILES / "matcher.npz"

    def write_back(file: Path) -> Callable[[bytes], None]:
        return lambda before: file.write_bytes(before) and None

    def lock() -> sqlite3.Connection:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        other.execute("BEGIN IMMEDIATE")
        return other

    def unlock(other: sqlite3.Connection) -> None:
        other.execute("ROLLBACK")
        other.close()

    def damage() -> bytes:
        keep = path.with_name("copy.db")
        with Database(path) as database:
            database.copy_to(keep).close()
        before = keep.read_bytes()
        keep.unlink()
        with path.open("r+b") as stream:
            stream.write(os.urandom(path.stat().st_size))
        return before

    def restore(before: bytes) -> None:
        fresh = path.with_name("fresh.db")
        fresh.write_bytes(before)
        for ending in ("-wal", "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        os.replace(fresh, path)

    def hide_models() -> None:
        os.replace(models, models.with_name("models.aside"))
        reset_rollout(settings, Stage.CANARY, 0.5)

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(65_536))
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as stream:
            while True:
                stream.write(bytes(512))

    def loop() -> tuple[threading.Event, threading.Thread]:
        over = threading.Event()

        def turn() -> None:
            stages = cycle((Stage.SHADOW, Stage.RETIRED, Stage.CANARY, Stage.LIVE))
            while not over.wait(0.05):
                reset_rollout(settings, next(stages), 0.5)

        thread = threading.Thread(target=turn)
        thread.start()
        return over, thread

    def stop(running: tuple[threading.Event, threading.Thread]) -> None:
        running[0].set()
        running[1].join()

    def moody(name: str, told: str) -> Fault:
        return Fault(
            name=f"specialist_{name}",
            begin=lambda: mood(name),
            end=lambda _: mood("well"),
            told=told,
            seconds=seconds,
        )

    gone = "registry_gone"
    found = [
        Fault(name="nothing", begin=lambda: None, end=lambda _: None, seconds=seconds),
        Fault(
            name="registry_corrupted",
            begin=lambda: flip(weights()),
            end=lambda before: weights().write_bytes(before) and None,
            told=_placed.SLUG,
            seconds=seconds,
            unverified=True,
        ),
        Fault(
            name=gone,
            begin=lambda: os.replace(registry, aside),
            end=lambda _: (
                (shutil.rmtree(registry, ignore_errors=True), os.replace(aside, registry)) and None
            ),
            told="",
            seconds=seconds,
            unverified=True,
        ),
        Fault(
            name="matcher_tampered",
            begin=lambda: flip(next((registry / MATCHER_FOLDER / "1" / FILES).iterdir())),
            end=write_back(next((registry / MATCHER_FOLDER / "1" / FILES).iterdir())),
            told="matcher",
            seconds=seconds,
            unverified=True,
        ),
        Fault(
            name="database_locked",
            begin=lock,
            end=unlock,
            told="ledger",
            seconds=1.0 if short else 30.0,
        ),
        Fault(
            name="ledger_full",
            begin=lock,
            end=unlock,
            told="ledger",
            counted="apprentice_ledger_dropped_total",
            seconds=seconds,
        ),
        Fault(
            name="embedder_gone",
            begin=hide_models,
            end=lambda _: os.replace(models.with_name("models.aside"), models),
            seconds=seconds,
        ),
        Fault(name="database_damaged", begin=damage, end=restore, told="", seconds=seconds),
        moody("raising", _placed.SLUG),
        moody("hanging", _placed.SLUG),
        moody("rubbish", _placed.SLUG),
        Fault(name="promoted_and_demoted", begin=loop, end=stop, seconds=seconds),
        Fault(name="upstream_resets", begin=lambda: None, end=lambda _: None, seconds=seconds),
    ]
    if os.path.ismount(settings.home.parent):
        found.append(
            Fault(
                name="disk_full",
                begin=fill,
                end=lambda _: ballast.unlink(),
                told="ledger",
                seconds=seconds,
            )
        )
    return found


def reset_rollout(settings: Settings, stage: Stage = Stage.LIVE, share: float = 1.0) -> None:
    """Do what an operator does: put the specialist into a stage, judged anew."""
    now = time.time()
    rollout = replace(_placed.rollout(_placed.SLUG, stage), share=share, judged_from=now)
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_rollout(connection, rollout, now)


async def problems_of(url: str, session: aiohttp.ClientSession) -> dict[str, str]:
    """Return what ``/healthz`` says."""
    async with session.get(f"{url}/healthz") as response:
        found: dict[str, str] = (await response.json())["problems"]
        return found


async def counted_of(url: str, session: aiohttp.ClientSession, name: str) -> int:
    """Return a figure of ``/metrics``; 0 for one that is not there."""
    async with session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next((int(float(line.split()[1])) for line in lines if line.startswith(f"{name} ")), 0)


async def play(
    fault: Fault, settings: Settings, clients: Clients, url: str, session: aiohttp.ClientSession
) -> dict[str, Any]:
    """Break, look, repair, and wait until all is well."""
    clients.forget()
    clients.resetting = fault.name == "upstream_resets"
    loop = asyncio.get_running_loop()
    held = await loop.run_in_executor(None, fault.begin)
    began, told, counted = time.monotonic(), "", 0
    while (spent := time.monotonic() - began) < fault.seconds or (
        spent < PATIENCE
        and ((fault.told is not None and not told) or (fault.counted and not counted))
    ):
        if fault.counted:
            counted = await counted_of(url, session, fault.counted)
        problems = await problems_of(url, session)
        if fault.told == "" and problems:
            told = next(iter(problems.values()))
        elif fault.told:
            told = problems.get(fault.told, told)
        if told and fault.unverified:
            clients.trusted = False
        await asyncio.sleep(0.1)
    clients.trusted = True
    clients.resetting = False
    await loop.run_in_executor(None, fault.end, held)
    await loop.run_in_executor(None, reset_rollout, settings)
    repaired = time.monotonic()
    recovered = None
    while time.monotonic() < repaired + PATIENCE:
        route = await clients.ask(known=True)
        if route == "specialist" and not await problems_of(url, session):
            recovered = round(time.monotonic() - repaired, 2)
            break
        await asyncio.sleep(0.1)
    cuts = statistics.quantiles(clients.times, n=100)
    return {
        "seconds": round(repaired - began, 1),
        "answered": dict(clients.routes),
        "wrong": dict(clients.wrong),
        "p50_ms": round(cuts[49] * 1_000, 1),
        "p99_ms": round(cuts[98] * 1_000, 1),
        "told": told,
        "counted": counted,
        "recovered_after_s": recovered,
    }


@asynccontextmanager
async def streaming(url: str) -> AsyncIterator[tuple[Clients, aiohttp.ClientSession]]:
    """Run all clients for as long as the block lasts; their last answers are waited for."""
    over = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        clients = Clients(url, session)
        running = [asyncio.create_task(clients.run(over)) for _ in range(CLIENTS)]
        try:
            yield clients, session
        finally:
            over.set()
            await asyncio.gather(*running)


async def drill(
    url: str, settings: Settings, mood: Callable[[str], None], short: bool, only: str | None
) -> dict[str, Any]:
    """Play all faults, one after the other."""
    figures: dict[str, Any] = {}
    async with streaming(url) as (clients, session):
        for fault in faults(settings, mood, short):
            if only in (None, fault.name):
                figures[fault.name] = await play(fault, settings, clients, url, session)
                print(fault.name, figures[fault.name], file=sys.stderr, flush=True)
    return figures


async def start_badly(url: str, settings: Settings, repair: Callable[[], None]) -> dict[str, Any]:
    """Look at a sidecar that was started without its embedder, then put that back."""
    fault = Fault(
        name="started_without_embedder",
        begin=lambda: None,
        end=lambda _: repair(),
        told="embedder",
    )
    async with streaming(url) as (clients, session):
        found = await play(fault, settings, clients, url, session)
    print(fault.name, found, file=sys.stderr, flush=True)
    return found


async def stop_in_the_middle(url: str, pid: int) -> dict[str, Any]:
    """Tell a sidecar to stop while every client is in the middle of an answer."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        clients = Clients(url, session)
        asking = [asyncio.create_task(clients.ask(known=False)) for _ in range(CLIENTS)]
        await asyncio.sleep(5 * PAUSE)
        running = sum(not task.done() for task in asking)
        os.kill(pid, signal.SIGTERM)
        await asyncio.gather(*asking)
    return {
        "running": running,
        "answered": dict(clients.routes),
        "wrong": dict(clients.wrong),
    }


PROGRAM = """
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import load_settings
serve(load_settings(), ready=lambda url: print(url, flush=True))
"""


@contextmanager
def process(home: Path, upstream: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a sidecar as it is served, without specialists."""
    (home / "settings.toml").write_text(
        f'[server]\nport = 0\n[upstream]\nbase_url = "{upstream}"\napi_key_env = ""\n'
    )
    environment = {**os.environ, "APPRENTICE_HOME": str(home), "HERMES_HOME": str(home / "hermes")}
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    try:
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait(PATIENCE)
        running.stdout.close()


async def load_until_killed(
    url: str, key: str, running: subprocess.Popen[str], after: float, turn: int
) -> set[str]:
    """Ask from many clients, kill the sidecar, and return the names of the answered calls."""
    answered: set[str] = set()
    body = {"model": "fake-big", "messages": [{"role": "user", "content": "hello"}]}
    numbers = count()

    async def ask(session: aiohttp.ClientSession) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            while True:
                name = f"s-{turn}-{next(numbers)}"
                headers = {"authorization": f"Bearer {key}", "x-hermes-session-id": name}
                async with session.post(
                    f"{url}/v1/chat/completions", json=body, headers=headers
                ) as response:
                    await response.read()
                    if response.status == 200:
                        answered.add(name)

    async with aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(ask(session)) for _ in range(CLIENTS)]
        await asyncio.sleep(after)
        running.kill()
        await asyncio.gather(*asking)
    return answered


def kills(upstream: str, home: Path, times: int, seed: int) -> dict[str, Any]:
    """Kill a sidecar under load at random moments; what the database says must hold each time."""
    home.mkdir(parents=True)
    path, chance = home / "apprentice.db", random.Random(seed)
    with Database(path) as database:
        limits = Limits(daily_requests=10_000_000)
        key = TenantStore(database).create("ann", limits, time.time()).text
        with database.transaction() as connection:
            save_rollout(connection, _placed.rollout("kept", Stage.CANARY), 1.0)
    broken: Counter[str] = Counter()
    answered: set[str] = set()
    rows = used = 0
    waiting: list[int] = []
    for turn in range(times):
        with process(home, upstream) as (running, url):
            after = chance.uniform(0.02, 1.5)
            fresh = asyncio.run(load_until_killed(url, key, running, after, turn))
        answered |= fresh
        with Database(path) as database:
            checked = database.read("PRAGMA integrity_check")[0][0]
            names = [row[0] for row in database.read("SELECT session FROM ledger")]
            stage = database.read("SELECT stage, share FROM rollouts WHERE slug = 'kept'")[0]
            counted = database.read("SELECT COALESCE(MAX(requests), 0) FROM tenant_usage")[0][0]
        broken["integrity"] += checked != "ok"
        broken["rollout"] += (stage[0], stage[1]) != (Stage.CANARY, 1.0)
        broken["forgotten"] += len(names) < rows or counted < used
        waiting.append(len(fresh.difference(names)))
        rows, used = len(names), counted
    with process(home, upstream) as (running, _):
        deadline = time.monotonic() + PATIENCE
        while any((home / "spool").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        running.terminate()
        running.wait(PATIENCE)
    with Database(path) as database:
        names = [row[0] for row in database.read("SELECT session FROM ledger")]
    return {
        "kills": times,
        "answered": len(answered),
        "ledger_rows": len(names),
        "quota_counted": used,
        "broken": {name: number for name, number in broken.items() if number},
        "not_yet_written_at_a_kill_most": max(waiting),
        "missing_after_the_next_start": len(answered.difference(names)),
        "twice": len(names) - len(set(names)),
    }


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Give a folder on a small file system of its own where that can be mounted."""
    with tempfile.TemporaryDirectory() as name:
        options = ["-o", f"size={megabytes}m", "tmpfs", name]
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", *options], capture_output=True, check=False
            )
            mounted = done.returncode == 0
        except OSError:
            mounted = False
        try:
            yield Path(name)
        finally:
            if mounted:
                subprocess.run(["umount", name], check=False)


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--only", help="play this fault only")
    parser.add_argument("--seed", type=int, default=1, help="when the kills happen")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    with small_disk(48) as disk, tempfile.TemporaryDirectory() as place:
        log = Path(place) / "sidecar.log"
        with child(run_upstream) as (upstream, _):
            models = copied_models(Path(place) / "models")
            settings = settings_for(str(disk), upstream, models)
            _placed.place(settings, patterns=3 if arguments.short else 20)
            rest = 2.0 if arguments.short else 30.0
            with child_with_pipe(run_moody, settings, str(log), rest) as (pipe, pid):
                url = pipe.recv()

                def mood(name: str) -> None:
                    pipe.send(name)
                    pipe.recv()

                figures = asyncio.run(drill(url, settings, mood, arguments.short, arguments.only))
                if arguments.only is None and "disk_full" not in figures:
                    figures["disk_full"] = {"skipped": "a small file system cannot be mounted"}
                if arguments.only is None:
                    figures["told_to_stop"] = asyncio.run(stop_in_the_middle(url, pid))
            if arguments.only in (None, "started_without_embedder"):
                aside = models.rename(models.with_name("models.aside"))
                with child_with_pipe(run_moody, settings, str(log), rest) as (pipe, _):
                    figures["started_without_embedder"] = asyncio.run(
                        start_badly(pipe.recv(), settings, lambda: os.replace(aside, models))
                    )
            if arguments.only in (None, "killed"):
                home = Path(place) / "killed"
                figures["killed"] = kills(
                    upstream, home, 3 if arguments.short else 50, arguments.seed
                )
        figures["log"] = {
            "lines": len(log.read_text().splitlines()),
            "planted_texts": log.read_text().count(PLANTED) + log.read_text().count("app crashes"),
        }
    if not arguments.json:
        for name, found in figures.items():
            print(name, found)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
