"""Run a vLLM as a child: start it, watch it, start it again when it fails.

It listens on loopback only and takes a key that is new at every start, because whoever may load
adapters may load any folder. It lives in an environment of its own, in a group of processes of its
own, and ends with its parent, however that ends. Knows nothing about adapters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from hermes_apprentice.errors import ApprenticeError, ConfigError, NotReadyError, ServingError
from hermes_apprentice.serving.model_server import ModelServer
from hermes_apprentice.settings import Settings, VllmSettings, child_environment
from hermes_apprentice.storage.files import write_atomically

BASE_NAME = "apprentice-base"
"""What our vLLM calls the base without an adapter."""

ENVIRONMENT_DIR = ".venv-vllm"
"""Name of the folder in which vLLM's environment is looked for."""

FIRST_PAUSE = 1.0
"""Seconds before the first restart; doubled with every failure that follows."""

LONGEST_PAUSE = 60.0
"""Longest pause between two starts, in seconds."""

STABLE_SECONDS = 120.0
"""A server that was up this long failed for a new reason: pauses begin anew."""

LOOK_SECONDS = 1.0
"""Between two looks at a running server."""

MISSED_LOOKS = 30
"""Looks without an answer after which a running server is ended."""

GRACE_SECONDS = 8.0
"""Until a server that was asked to end is killed."""

_MAX_LOG = 20_000_000
_FIND = "from importlib.util import find_spec; import sys; sys.exit(find_spec('vllm') is None)"
_LAUNCH = (
    "import ctypes, os, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM) if sys.platform == 'linux' else None; "
    "os.getppid() == int(sys.argv[1]) or sys.exit('the parent is gone'); "
    "os.execv(sys.executable, [sys.executable, '-m', 'vllm.entrypoints.openai.api_server',"
    " *sys.argv[2:]])"
)

_log = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where a server listens."""

    url: str
    """The OpenAI endpoint."""

    key: str
    """What it takes as a bearer token."""


class VllmChild:
    """One vLLM that is kept running."""

    def __init__(self, settings: Settings, first_pause: float = FIRST_PAUSE) -> None:
        """Hold the settings.

        Raises:
            ConfigError: There is no vLLM, or no base model is set.
        """
        self.pid: int | None = None
        self._settings = settings
        self._first_pause = first_pause
        if not settings.vllm.base_model:
            raise ConfigError(
                "vllm.base_model is not set: name the base model of your generators, a folder or "
                "a name that vLLM can fetch"
            )
        self._python = vllm_python(settings.vllm)

    async def run(
        self, up: Callable[[Address], Awaitable[None]], down: Callable[[str], Awaitable[None]]
    ) -> None:
        """Keep it running until cancelled; it is ended then.

        Args:
            up: Called when it takes requests.
            down: Called with the reason when it does not any more, or did not start.
        """
        pause = self._first_pause
        while True:
            began = time.monotonic()
            try:
                reason = await self._live(up)
            except (ApprenticeError, OSError) as error:
                reason = str(error)
            await down(reason)
            if time.monotonic() - began > STABLE_SECONDS:
                pause = self._first_pause
            _log.error("vLLM ended: %s; it is started again in %.0f s", reason, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _live(self, up: Callable[[Address], Awaitable[None]]) -> str:
        """Start it and return why it ended."""
        port = self._settings.vllm.port or _free_port()
        address = Address(f"http://127.0.0.1:{port}/v1", secrets.token_urlsafe(32))
        with _opened_log(self._settings.vllm_log) as log:
            process = self._start(address, port, log)
        self.pid = process.pid
        note = self._settings.vllm_note
        try:
            async with ModelServer(*address) as server:
                async with asyncio.timeout(self._settings.vllm.start_seconds):
                    while not await _answers(server):
                        if process.poll() is not None:
                            return self._how_it_ended(process)
                        await asyncio.sleep(LOOK_SECONDS / 4)
                write_atomically(
                    note, json.dumps({"pid": process.pid, **address._asdict()}).encode()
                )
                await up(address)
                missed = 0
                while missed < MISSED_LOOKS:
                    if process.poll() is not None:
                        return self._how_it_ended(process)
                    await asyncio.sleep(LOOK_SECONDS)
                    missed = 0 if await _answers(server) else missed + 1
            return "it answered no more and was ended"
        except TimeoutError:
            return f"it did not start within {self._settings.vllm.start_seconds:.0f} s"
        finally:
            note.unlink(missing_ok=True)
            self.pid = None
            # Not in a thread: whoever cancels this must find it ended.
            _end(process)

    def _start(self, address: Address, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        settings = self._settings
        changes = {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_API_KEY": address.key,
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }
        # Keys of endpoints are none of its business.
        for tier in (settings.upstream, *settings.upstream.fallbacks):
            if tier.api_key_env:
                changes[tier.api_key_env] = ""
        command = [str(self._python), "-c", _LAUNCH, str(os.getpid())]
        try:
            return subprocess.Popen(
                [*command, *arguments(settings.vllm, port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=settings.home,
                env=child_environment(**changes),
                start_new_session=True,
            )
        except OSError as exc:
            raise ServingError(f"{self._python} cannot be run: {exc.strerror}") from exc

    def _how_it_ended(self, process: subprocess.Popen[bytes]) -> str:
        return f"exit status {process.returncode}; see {self._settings.vllm_log}"


def run_service(settings: Settings, say: Callable[[str], None]) -> None:
    """Keep a vLLM running until SIGTERM or SIGINT, for a sidecar that finds it by its note.

    Raises:
        ConfigError: There is no vLLM, no base model is set, or the sidecar would not look here.
    """
    if settings.vllm.server != "service":
        raise ConfigError(
            f'vllm.server is "{settings.vllm.server}", so the sidecar would not use this vLLM; '
            'set it to "service" in settings.toml'
        )
    child = VllmChild(settings)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_signal(child, say))


async def _until_signal(child: VllmChild, say: Callable[[str], None]) -> None:
    async def up(address: Address) -> None:
        say(f"vLLM listens on {address.url}")

    async def down(reason: str) -> None:
        say(f"vLLM is down: {reason}")

    task = asyncio.create_task(child.run(up, down))
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    await task


def arguments(settings: VllmSettings, port: int) -> Sequence[str]:
    """Return vLLM's arguments."""
    return (
        *("--model", settings.base_model),
        *("--served-model-name", BASE_NAME),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--enable-lora", "--max-loras", str(settings.max_loras)),
        # Unloaded adapters stay in this cache until they are pushed out; loaded ones must not be.
        *("--max-cpu-loras", str(2 * settings.max_loras)),
        *("--max-lora-rank", str(settings.max_lora_rank)),
        *("--max-model-len", str(settings.max_context)),
        *("--gpu-memory-utilization", str(settings.memory_share)),
        # Every adapter is asked with the template that it was trained with.
        "--trust-request-chat-template",
        *("--uvicorn-log-level", "warning"),
        *settings.extra_args,
    )


def vllm_python(settings: VllmSettings) -> Path:
    """Return the interpreter that has vLLM.

    Raises:
        ConfigError: There is none.
    """
    if settings.python:
        path = Path(settings.python).expanduser()
        if not has_vllm(path):
            raise ConfigError(f"vllm.python is {path}, which does not run or lacks vLLM")
        return path
    for path in _usual_places():
        if has_vllm(path):
            return path
    raise ConfigError(
        f"there is no vLLM: make an environment called {ENVIRONMENT_DIR} with it, or set "
        "vllm.python (see docs/operating.md)"
    )


def has_vllm(python: Path) -> bool:
    """Whether an interpreter runs and finds vLLM, which is not imported."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _FIND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def read_note(path: Path) -> Address:
    """Return where the vLLM that runs as a service listens.

    Raises:
        NotReadyError: It does not run.
    """
    try:
        note = json.loads(path.read_bytes())
        return Address(str(note["url"]), str(note["key"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NotReadyError(
            "our vLLM does not run yet; see systemctl --user status apprentice-vllm, or run: "
            "apprentice vllm"
        ) from exc


def _usual_places() -> Iterator[Path]:
    checkout = Path(__file__).resolve().parents[2]
    for parent in dict.fromkeys((checkout, Path(sys.prefix).parent)):
        yield parent / ENVIRONMENT_DIR / "bin" / "python"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _answers(server: ModelServer) -> bool:
    """Whether it takes our key and serves a base; another process on its port would not."""
    try:
        return bool(await server.names())
    except ServingError:
        return False


def _opened_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > _MAX_LOG:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started; its group has its own number, so nobody else is hit."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    # Also when the first process is gone: the engine is one that it started.
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
