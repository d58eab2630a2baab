"""How commands and the sidecar end when they are told to, seen from outside."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hermes_apprentice.settings import child_environment

PATIENCE = 60.0
# A run in the background would hand its ignored interrupts down.
ENTRY = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from hermes_apprentice.interfaces.cli.entry import main; main()"
)
STUCK = """
import asyncio, sys, threading, time
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router import server
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.settings import load_settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.testing import FakeMatcher, FakeSource

class Stuck:
    async def answer(self, request, encoding=None):
        print("asked", flush=True)
        return await asyncio.to_thread(time.sleep, 3600)  # a thread that nobody can end

    def close(self):
        pass

settings = load_settings()
with Database(settings.database_path) as database, database.transaction() as connection:
    save_rollout(connection, Rollout(slug="stuck", version=1, stage=Stage.LIVE, share=1.0,
        held=False, step_started_at=time.time(), reason=""), 1.0)
shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug",))
source = FakeSource(FakeMatcher({"label this": "stuck"}), Loaded(slug="stuck", version=1,
    shape=shape, runtime=Stuck()))
source.problems, source.close = {}, lambda: None
server.RegistrySource = lambda settings: source
server.serve(settings, ready=lambda url: print(url, flush=True))
"""


@asynccontextmanager
async def endless_upstream() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An upstream that begins an answer and never ends it."""
    begun = asyncio.Event()

    async def chat(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": []}\n\n')
        begun.set()
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", begun
    finally:
        await runner.cleanup()


async def ended(running: asyncio.subprocess.Process, within: float) -> int:
    async with asyncio.timeout(within):
        return await running.wait()


async def hang(url: str, text: str) -> None:
    """Ask for an answer that never ends, until the connection does."""
    body = {
        "model": "m",
        "stream": True,
        "messages": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": text},
        ],
        "tools": [{"type": "function", "function": {"name": "terminal", "parameters": {}}}],
    }
    with suppress(aiohttp.ClientError, OSError):
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                await response.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_sidecar_though_an_answer_never_ends(
    tmp_path: Path, serving: Any, number: signal.Signals
) -> None:
    home = tmp_path / "home"
    async with endless_upstream() as (base, begun), serving(home, base) as (running, url):
        asking = asyncio.create_task(hang(url, "hello"))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
        running.send_signal(number)
        with pytest.raises(TimeoutError):  # it finishes what runs
            await ended(running, 1.0)
        running.send_signal(number)
        # Of the 60 seconds that a first signal leaves, next to none.
        assert await ended(running, 20.0) in (0, 128 + number)
        await asking
    assert not (home / "sidecar.json").exists()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_hung_specialist_does_not_hold_up_the_end(
    tmp_path: Path, serving: Any, times: int
) -> None:
    home = tmp_path / "home"
    async with (
        endless_upstream() as (base, begun),
        serving(home, base, STUCK) as (running, url),
    ):
        asking = asyncio.create_task(hang(url, "label this"))
        async with asyncio.timeout(PATIENCE):
            assert (await running.stdout.readline()).strip() == b"asked"
            await begun.wait()  # the upstream was asked instead
        asking.cancel()
        for _ in range(times):
            running.send_signal(signal.SIGTERM)
        assert await ended(running, 30.0) in (0, 128 + signal.SIGTERM)
    assert not (home / "sidecar.json").exists()


@pytest.mark.parametrize(
    "module", ["typer", "pydantic", "numpy", "uvicorn", "hermes_apprentice.router.server"]
)
@pytest.mark.parametrize("command", ["serve"])
async def test_an_interrupt_while_a_command_starts_ends_it_without_a_traceback(
    tmp_path: Path, command: str, module: str
) -> None:
    await interrupted(tmp_path, module, command, "--port", "0")


@pytest.mark.parametrize("command", ["doctor", "candidates", "roi"])
async def test_an_interrupt_of_any_command_shows_no_traceback(tmp_path: Path, command: str) -> None:
    await interrupted(tmp_path, "hermes_apprentice.settings", command)


async def interrupted(tmp_path: Path, module: str, *command: str) -> None:
    """Start a command, and interrupt it right after a module was imported."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "importtime", "-c", ENTRY, *command),
        env=child_environment(
            APPRENTICE_HOME=str(tmp_path / "home"), HERMES_HOME=str(tmp_path / "hermes")
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert running.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            while line := await running.stderr.readline():
                if line.decode().rsplit("|")[-1].strip() == module:
                    break
            assert line, "the module was never imported"
            running.send_signal(signal.SIGINT)
            output, errors = await running.communicate()
    finally:
        with suppress(ProcessLookupError):
            running.kill()
    said = [one for one in errors.decode().splitlines() if not one.startswith("import time:")]
    assert running.returncode == 130, said
    assert said in ([], ["Stopped."])
    assert b"Traceback" not in output + errors
