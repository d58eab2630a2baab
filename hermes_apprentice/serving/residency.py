"""Which adapters a server has loaded, and who may ask it when.

**No answer of one adapter for another.** Loading an adapter while requests run has made servers
answer them with its weights. So a change waits until nothing runs (drain), and nothing new begins
until it is over; then every loaded adapter is asked a request whose answer is known (canary), and
one that answers otherwise is unloaded. A name never stands for other weights (see `adapter`).

Room is limited: the least recently used adapter that is not pinned goes first. Belongs to one
event loop. Knows nothing about patterns, thresholds or requests of users.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hermes_apprentice.domain.prompt import Message, render
from hermes_apprentice.errors import AdapterError, ApprenticeError, ServingError, UnknownModelError
from hermes_apprentice.serving.adapter import Adapter
from hermes_apprentice.serving.model_server import Completion

REFUSED_SECONDS = 600.0
"""Before an adapter that was refused is tried again."""

CHECKED_SECONDS = 300.0
"""After that, a model that somebody else put on the server is asked its canary again."""

_POLL_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Server(Protocol):
    """What a server must be able to do; see `ModelServer`."""

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        chat_template: str = "",
        strict: bool = True,
    ) -> Completion:
        """Return the greedy answer to ``messages``."""
        ...

    async def names(self) -> tuple[str, ...]:
        """Return what it serves."""
        ...

    async def load(self, name: str, folder: Path) -> None:
        """Load an adapter."""
        ...

    async def unload(self, name: str) -> None:
        """Unload an adapter."""
        ...

    async def busy(self) -> int | None:
        """Return how many requests run on it, ours and others'."""
        ...


@dataclass(slots=True)
class _Refusal:
    reason: str
    until: float


class Residency:
    """Keeps the adapters of one server."""

    def __init__(
        self,
        server: Server,
        *,
        room: int,
        max_rank: int,
        drain_seconds: float,
        pinned: frozenset[str] = frozenset(),
        served_names: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing loaded.

        Args:
            server: The server, started.
            room: Adapters that fit at the same time.
            max_rank: Highest rank that the server takes.
            drain_seconds: Longest wait for running answers before a change.
            pinned: Slugs whose adapters never make room.
            served_names: Model names by slug that the server has of its own; those are checked,
                and never loaded or unloaded.
            clock: Monotonic seconds.
        """
        self.problems: dict[str, str] = {}
        self._server = server
        self._room = room
        self._max_rank = max_rank
        self._drain_seconds = drain_seconds
        self._pinned = pinned
        self._served_names = dict(served_names or {})
        self._clock = clock
        self._resident: OrderedDict[str, Adapter] = OrderedDict()
        self._checked: dict[str, float] = {}
        self._refused: dict[str, _Refusal] = {}
        self._released: weakref.WeakSet[Adapter] = weakref.WeakSet()
        self._tickets: dict[str, list[asyncio.Future[None]]] = {}
        self._changes: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the loaded adapters, least recently used first."""
        return tuple(self._resident)

    @property
    def in_flight(self) -> int:
        """Requests that run."""
        return self._in_flight

    async def complete(self, adapter: Adapter, messages: Sequence[Message]) -> Completion:
        """Ask an adapter, loading it first where it is not.

        Raises:
            ServingError: It cannot be loaded, was refused, or the server failed.
        """
        async with self._using(adapter):
            try:
                return await self._ask(adapter, messages)
            except UnknownModelError:
                # The server was restarted behind our back: the next request loads it again.
                self._forget_one(adapter.name)
                raise

    async def complete_bare(
        self, model: str, messages: Sequence[Message], *, max_tokens: int, chat_template: str
    ) -> Completion:
        """Ask a base model without any adapter.

        Raises:
            ServingError: The server failed, or has no such model.
        """
        return await self._server.complete(
            model, messages, max_tokens=max_tokens, chat_template=chat_template
        )

    async def bring_in(self, adapter: Adapter) -> None:
        """Load an adapter now, so that its first request need not wait.

        Raises:
            ServingError: It cannot be loaded, or was refused.
        """
        async with self._using(adapter):
            pass

    async def release(self, adapter: Adapter) -> None:
        """Unload an adapter for good, after the requests that it is answering.

        Raises:
            ServingError: The server failed, or its requests did not end.
        """
        self._released.add(adapter)
        self._refused.pop(adapter.name, None)
        self.problems.pop(adapter.slug, None)
        async with self._turn:
            if self._resident.get(adapter.name) is not adapter:
                return
            if adapter.slug in self._served_names:
                self._forget_one(adapter.name)
                return
            async with self._quiet():
                await self._unload(adapter.name)

    def forget(self) -> None:
        """Note that the server lost everything: it was started anew."""
        self._resident.clear()
        self._checked.clear()
        self._refused.clear()
        self.problems.clear()

    # -- requests -----------------------------------------------------------------

    @asynccontextmanager
    async def _using(self, adapter: Adapter) -> AsyncIterator[None]:
        await self._enter(adapter)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, adapter: Adapter) -> None:
        """Wait for a running change, and have the adapter loaded where it is not."""
        while not self._open.is_set():
            await self._open.wait()
        if adapter in self._released:
            raise AdapterError(f"{adapter.label} is no longer served")
        refusal = self._refused.get(adapter.name)
        if refusal is not None and self._clock() < refusal.until:
            raise AdapterError(refusal.reason)
        if adapter.name in self._resident and not self._due(adapter):
            self._resident.move_to_end(adapter.name)
            self._admit()
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._tickets.setdefault(adapter.name, [])
        waiting.append(ticket)
        if len(waiting) == 1:
            # A task of its own: the change goes on when whoever asked for it gives up.
            task = asyncio.create_task(self._change(adapter))
            self._changes.add(task)
            task.add_done_callback(self._changes.discard)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self._leave()
            raise

    def _admit(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _due(self, adapter: Adapter) -> bool:
        if adapter.slug not in self._served_names:
            return False
        return self._clock() - self._checked.get(adapter.name, 0.0) > CHECKED_SECONDS

    async def _ask(self, adapter: Adapter, messages: Sequence[Message]) -> Completion:
        own = self._served_names.get(adapter.slug)
        return await self._server.complete(
            own or adapter.name,
            messages,
            max_tokens=adapter.card.max_new_tokens,
            chat_template="" if own else adapter.card.chat_template,
            strict=own is None,
        )

    # -- changes ------------------------------------------------------------------

    async def _change(self, adapter: Adapter) -> None:
        """Load an adapter, and let in at once everybody who waited for it."""
        problem: ApprenticeError | None = None
        try:
            async with self._turn, self._quiet():
                if adapter in self._released:
                    raise AdapterError(f"{adapter.label} is no longer served")
                if adapter.name not in self._resident or self._due(adapter):
                    await self._take_in(adapter)
                # Before the gate opens: another adapter's turn must not come in between.
                self._let_in(adapter.name)
        except ApprenticeError as error:
            problem = error
            if adapter not in self._released:
                self.problems[adapter.slug] = str(error)
            _log.error("%s is not served: %s", adapter.label, error)
        finally:
            for ticket in self._tickets.pop(adapter.name, ()):
                if not ticket.done():
                    ticket.set_exception(problem or ServingError("the change was given up"))

    def _let_in(self, name: str) -> None:
        self._resident.move_to_end(name)
        for ticket in self._tickets.pop(name, ()):
            if not ticket.done():
                self._admit()
                ticket.set_result(None)

    @asynccontextmanager
    async def _quiet(self) -> AsyncIterator[None]:
        """Let nothing begin, and wait until nothing runs."""
        self._open.clear()
        try:
            try:
                async with asyncio.timeout(self._drain_seconds):
                    await self._idle.wait()
                    # Answers that were given up may run on for a moment; others' may run, too.
                    while await self._server.busy():
                        await asyncio.sleep(_POLL_SECONDS)
            except TimeoutError as exc:
                raise ServingError(
                    f"requests ran on for {self._drain_seconds:.0f} s; no adapter was changed"
                ) from exc
            yield
        finally:
            self._open.set()

    async def _take_in(self, adapter: Adapter) -> None:
        own = adapter.slug in self._served_names
        if not own:
            await self._load(adapter)
        try:
            await self._prove(adapter)
        except ApprenticeError as error:
            if isinstance(error, AdapterError):
                self._refused[adapter.name] = _Refusal(str(error), self._clock() + REFUSED_SECONDS)
            self._forget_one(adapter.name)
            if not own:
                await self._server.unload(adapter.name)
            raise
        self._resident[adapter.name] = adapter
        self._checked[adapter.name] = self._clock()
        self._refused.pop(adapter.name, None)
        self.problems.pop(adapter.slug, None)
        await self._prove_the_others(adapter)
        _log.info("%s is loaded as %s", adapter.label, adapter.name)

    async def _load(self, adapter: Adapter) -> None:
        if adapter.card.rank > self._max_rank:
            raise AdapterError(
                f"{adapter.label} has rank {adapter.card.rank}, the server takes "
                f"{self._max_rank}; raise vllm.max_lora_rank"
            )
        while len(self._loaded()) >= self._room:
            await self._unload(self._to_go(adapter))
        # The last thing before the server reads the files.
        await asyncio.to_thread(adapter.check)
        if adapter.name in await self._server.names():
            # Left there by another process of ours, perhaps with its files gone by now.
            await self._server.unload(adapter.name)
        await self._server.load(adapter.name, adapter.weights)

    def _loaded(self) -> list[Adapter]:
        return [one for one in self._resident.values() if one.slug not in self._served_names]

    def _to_go(self, adapter: Adapter) -> str:
        for one in self._loaded():
            if one.slug not in self._pinned:
                return one.name
        raise AdapterError(
            f"there is no room for {adapter.label}: all {self._room} adapters are pinned; "
            "raise vllm.max_loras, or pin fewer in vllm.pinned"
        )

    async def _unload(self, name: str) -> None:
        await self._server.unload(name)
        self._forget_one(name)

    def _forget_one(self, name: str) -> None:
        self._resident.pop(name, None)
        self._checked.pop(name, None)

    async def _prove(self, adapter: Adapter) -> None:
        """Ask the canary."""
        card = adapter.card
        given = await self._ask(adapter, render(card.prompt, card.canary_request))
        if given.text.strip() != card.canary_answer.strip():
            raise AdapterError(
                f"{adapter.label} does not answer its canary as it did in training; it is not "
                f"served. Check that the server runs its base model {card.base_model}, with "
                "its weights in the same precision"
            )

    async def _prove_the_others(self, newcomer: Adapter) -> None:
        others = [one for one in self._loaded() if one is not newcomer]
        results = await asyncio.gather(*map(self._prove, others), return_exceptions=True)
        for one, result in zip(others, results, strict=True):
            if isinstance(result, ApprenticeError):
                _log.error("after %s was loaded: %s", newcomer.label, result)
                self.problems[one.slug] = str(result)
                await self._unload(one.name)
            elif isinstance(result, BaseException):
                raise result
