"""The thread in which generators are served, whoever asks.

Owns the connection to the model server (a child, a service or somebody else's), what is loaded on
it, and an event loop of its own: requests come from the sidecar's loop or from the gate's thread,
and whatever happens here holds up neither. Knows nothing about patterns, stages or HTTP clients.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import ApprenticeError, ConfigError, NotReadyError, ServingError
from hermes_apprentice.inference.generator import GeneratorCard
from hermes_apprentice.serving.adapter import Adapter
from hermes_apprentice.serving.model_server import Completion, ModelServer
from hermes_apprentice.serving.residency import Residency
from hermes_apprentice.serving.vllm import BASE_NAME, Address, VllmChild, read_note
from hermes_apprentice.settings import Settings

PROBE_SECONDS = 2.0
"""Between two looks at a server that somebody else runs."""

PART = "vllm"
"""What the list of problems calls the server."""

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class RemoteHost:
    """Serves adapters; starts with the first one, so that an unused GPU stays free."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._problem = ""
        self._without_probabilities = False
        self._adapters: dict[Adapter, Callable[[], None]] = {}
        self._server: ModelServer | None = None
        self._residency: Residency | None = None
        self._ready: asyncio.Event
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def problems(self) -> dict[str, str]:
        """What keeps generators from being served, by slug or part."""
        if self._thread is None:
            return {}
        residency = self._residency
        found = dict(residency.problems) if residency is not None else {}
        if self._problem:
            found[PART] = self._problem
        elif self._without_probabilities:
            found[PART] = (
                "the model server gives no log probabilities, so that nobody knows how sure an "
                "answer is: only versions that the gate passed without a threshold are served"
            )
        return found

    def has_own(self, slug: str) -> bool:
        """Whether the operator named a model that the server has for a specialist."""
        return slug in self._settings.vllm.served_names

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the loaded adapters."""
        residency = self._residency
        return residency.resident if residency is not None else ()

    # -- from any thread ----------------------------------------------------------

    def shelf(self) -> Path:
        """Return a folder for this process' private copies, where the server sees them, too.

        The folder for temporary files may be another one for each service. What processes left
        there that are gone is removed.
        """
        root = self._settings.resident_dir
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in root.iterdir():
            if left.name.isdecimal() and not _runs(int(left.name)):
                shutil.rmtree(left, ignore_errors=True)
        mine = root / str(os.getpid())
        mine.mkdir(exist_ok=True, mode=0o700)
        return mine

    def add(self, adapter: Adapter, gone: Callable[[], None]) -> None:
        """Serve an adapter from now on.

        Args:
            adapter: What to serve.
            gone: Called when its files are no longer needed.

        Raises:
            ConfigError: No server is configured, or the configured one cannot be run.
        """
        self._start()
        self._soon(self._add(adapter, gone))

    def remove(self, adapter: Adapter) -> None:
        """Unload an adapter after the requests that it is answering; returns at once."""
        if self._loop is None or not self._thread or not self._thread.is_alive():
            return
        self._soon(self._remove(adapter))

    def take_out(self, adapter: Adapter) -> None:
        """Unload an adapter, and wait for it."""
        self.submit(self._remove(adapter)).result()

    def submit(self, work: Coroutine[Any, Any, _Result]) -> concurrent.futures.Future[_Result]:
        """Run work in the host's loop.

        Raises:
            NotReadyError: The host was closed.
        """
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise NotReadyError()
        return asyncio.run_coroutine_threadsafe(work, loop)

    def wait_ready(self, adapter: Adapter, seconds: float) -> None:
        """Wait until an adapter is loaded.

        Raises:
            ServingError: It was refused, or the server did not come up in time.
        """

        async def wait() -> None:
            try:
                async with asyncio.timeout(seconds):
                    await self._ready.wait()
            except TimeoutError as exc:
                raise NotReadyError(
                    self._problem or f"the model server is not up after {seconds:.0f} s"
                ) from exc
            await self._present().bring_in(adapter)

        self.submit(wait()).result()

    def close(self) -> None:
        """Unload nothing, but end what was started here and give the thread back."""
        if self._thread is None:
            return
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # -- in the host's loop -------------------------------------------------------

    async def complete(self, adapter: Adapter, messages: Sequence[Message]) -> Completion:
        """Ask an adapter.

        Raises:
            NotReadyError: The server is not up.
            ServingError: The adapter cannot be loaded, or the server failed.
        """
        completion = await self._present().complete(adapter, messages)
        self._without_probabilities = completion.log_probabilities is None
        return completion

    def complete_bare(
        self, conversations: Sequence[Sequence[Message]], card: GeneratorCard
    ) -> list[Completion]:
        """Ask the base without an adapter, from a thread without an event loop.

        Raises:
            ServingError: The server failed, or nobody said what it calls its base.
        """
        mine = self._settings.vllm.server in ("child", "service")
        model = BASE_NAME if mine else self._settings.vllm.base_model
        if not model:
            raise ServingError("vllm.base_model does not say what the server calls its base")

        async def everyone() -> list[Completion]:
            return [
                await self._present().complete_bare(
                    model,
                    one,
                    max_tokens=card.max_new_tokens,
                    chat_template=card.chat_template,
                )
                for one in conversations
            ]

        return self.submit(everyone()).result()

    def _present(self) -> Residency:
        if self._residency is None:
            raise NotReadyError(self._problem or None)
        return self._residency

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            mode = self._settings.vllm.server
            if mode == "off":
                raise ConfigError(
                    "generators need a model server, and vllm.server is off; set it to child, "
                    "service or url in settings.toml"
                )
            if mode == "url" and not self._settings.vllm.url:
                raise ConfigError("vllm.server is url, and vllm.url is not set")
            child = VllmChild(self._settings) if mode == "child" else None
            self._problem = "the model server is starting"
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._run(child)), name="apprentice-generators"
            )
            self._thread.start()
            self._begun.wait()

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(NotReadyError):
            self.submit(work)

    async def _run(self, child: VllmChild | None) -> None:
        self._ready, self._stop = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        keeper = asyncio.create_task(
            child.run(self._up, self._down) if child is not None else self._probe()
        )
        await self._stop.wait()
        for task in (keeper, *self._tasks):
            task.cancel()
        await asyncio.wait({keeper, *self._tasks})
        await self._down("the model server was given up")
        for gone in self._adapters.values():
            gone()
        self._adapters.clear()

    async def _probe(self) -> None:
        """Watch a server that somebody else runs."""
        connected: Address | None = None
        while True:
            try:
                address = self._address()
                if connected is not None and address != connected:
                    connected = None
                    await self._down("the model server was started anew")
                async with ModelServer(*address) as server:
                    await server.names()
                if connected is None:
                    await self._up(address)
                    connected = address
            except ServingError as error:
                if connected is not None:
                    _log.error("%s", error)
                connected = None
                await self._down(str(error))
            await asyncio.sleep(PROBE_SECONDS)

    def _address(self) -> Address:
        settings = self._settings
        if settings.vllm.server == "service":
            return read_note(settings.vllm_note)
        key = settings.vllm_api_key
        return Address(settings.vllm.url, key.get_secret_value() if key is not None else "")

    async def _up(self, address: Address) -> None:
        settings = self._settings.vllm
        server = await ModelServer(*address).__aenter__()
        self._server = server
        self._residency = Residency(
            server,
            room=settings.max_loras,
            max_rank=settings.max_lora_rank,
            drain_seconds=settings.drain_seconds,
            pinned=frozenset(settings.pinned),
            served_names=settings.served_names if settings.server == "url" else None,
        )
        self._problem = ""
        self._ready.set()
        for adapter in sorted(self._adapters, key=lambda one: one.slug not in settings.pinned):
            self._warm(adapter)

    async def _down(self, reason: str) -> None:
        self._ready.clear()
        self._problem = reason
        self._residency = None
        server, self._server = self._server, None
        if server is not None:
            await server.__aexit__(None, None, None)

    async def _add(self, adapter: Adapter, gone: Callable[[], None]) -> None:
        self._adapters[adapter] = gone
        self._warm(adapter)

    def _warm(self, adapter: Adapter) -> None:
        """Load an adapter before its first request, where there is room or it is pinned."""
        residency = self._residency
        if residency is None:
            return
        settings = self._settings.vllm
        if adapter.slug in settings.pinned or len(self._adapters) <= settings.max_loras:
            task = asyncio.create_task(_loaded(residency, adapter))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _remove(self, adapter: Adapter) -> None:
        gone = self._adapters.pop(adapter, None)
        try:
            if self._residency is not None:
                await self._residency.release(adapter)
        except ApprenticeError as error:
            _log.error("%s could not be unloaded: %s", adapter.label, error)
        finally:
            if gone is not None:
                gone()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


async def _loaded(residency: Residency, adapter: Adapter) -> None:
    with contextlib.suppress(ServingError):  # noted as a problem by the residency
        await residency.bring_in(adapter)
