"""Start and stop the sidecar.

Builds every part, binds, and takes everything down in order. Whatever is broken
on our side when it starts (database, registry, embedder, prices) is reported and
left out: requests reach the upstream all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from hermes_apprentice.errors import ConfigError, place_of
from hermes_apprentice.ledger.prices import load_prices
from hermes_apprentice.router.allocator import give_back, share_arenas
from hermes_apprentice.router.app import App, Parts, create_app
from hermes_apprentice.router.bookkeeping import Books
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.costing import Costing, PriceOf
from hermes_apprentice.router.door import is_local
from hermes_apprentice.router.ending import (
    HUNG_SECONDS,
    HURRY_SECONDS,
    end_within,
    leave_hung_threads,
)
from hermes_apprentice.router.listening import bound, listening
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.repeats import Repeats
from hermes_apprentice.router.shadow import Shadow
from hermes_apprentice.router.specialists import Source, Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.tenants import Tenants
from hermes_apprentice.router.upstream import Upstream
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.audits import AuditedAnswer, save_audited
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.storage.spool import Spool
from hermes_apprentice.storage.tenants import marker_of

FIRST_LOOK_SECONDS = 1.0
"""How long the start waits for the tables of tenants before it answers; see `Tenants.admit`."""

FIRST_LOAD_SECONDS = 10.0
"""How long the start waits for specialists; requests are answered by the upstream meanwhile."""

LAST_COMPARISONS = 1.0
"""Seconds for comparisons that wait when the sidecar stops."""

NOTE = "sidecar.json"
"""File in Apprentice's home that says where the sidecar listens."""

RESTART_SECONDS = 1.0
"""Pause before a background task that failed is started again."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A sidecar that is listening."""

    url: str
    """Where, without a trailing slash; the OpenAI endpoint is below ``/v1``."""

    app: App
    """What it runs."""

    @property
    def parts(self) -> Parts:
        """What it consists of."""
        return self.app.parts


def serve(settings: Settings, ready: Callable[[str], None] | None = None) -> None:
    """Run the sidecar until SIGTERM or SIGINT.

    Args:
        settings: Everything that can be set.
        ready: Called with the URL once it listens.

    Raises:
        ConfigError: The address cannot be used.
    """
    share_arenas()
    # Products of small matrices: more than one thread makes them wait for each other.
    with threadpool_limits(1):
        timers: list[threading.Timer] = []
        try:
            _run(_serve_until_signal(settings, ready, timers))
        finally:
            for timer in timers:
                timer.cancel()
    leave_hung_threads()


async def _serve_until_signal(
    settings: Settings, ready: Callable[[str], None] | None, timers: list[threading.Timer]
) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        if stop.is_set() and not hurry.is_set():
            hurry.set()
            withdraw = partial(_withdraw, settings.home / NOTE)
            timers.append(end_within(HURRY_SECONDS, 128 + number, withdraw))
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told, name)
    async with running_sidecar(settings, hurry=hurry) as sidecar:
        _spare_the_collector()
        with _announced(settings, sidecar.url):
            if ready is not None:
                ready(sidecar.url)
            await stop.wait()
            _log.info("stopping")
    # What is left is the event loop's own end, which waits for threads for minutes.
    timers.append(end_within(HUNG_SECONDS, 0, lambda: None))


@contextlib.asynccontextmanager
async def running_sidecar(
    settings: Settings,
    *,
    source: Source | None = None,
    price_of: PriceOf | None = None,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[Sidecar]:
    """Run a sidecar inside the present event loop, for as long as the block lasts.

    Args:
        settings: Everything that can be set; port 0 takes a free one.
        source: Where specialists come from, instead of the registry.
        price_of: What models cost, instead of the price table.
        hurry: Set to cut running answers off at the end of the block instead of waiting for them.

    Raises:
        ConfigError: The address cannot be used.
    """
    listener = bound(settings)
    try:
        problems: dict[str, str] = {}
        costing = Costing(price_of or _prices(settings, problems))
        metrics, store = Metrics(), Store(settings.database_path)
        tenants = Tenants(
            store,
            exposed=not is_local(settings.server.host),
            marker=marker_of(settings.database_path),
        )
        recorder = Recorder(store, charge=tenants.charge, spool=Spool(settings.spool_dir))
        upstream = _upstream(settings, problems)
        metrics.upstream_requests = upstream.requests
        own = RegistrySource(settings) if source is None else None
        specialists = (
            Specialists(own, store, lambda: own.problems)
            if own is not None
            else Specialists(source, store)  # type: ignore[arg-type]
        )
        conductor = Conductor(store, specialists, settings.rollout)

        async def keep(audited: AuditedAnswer) -> None:
            await save_audited(await store.database(), audited)

        shadow = Shadow(
            upstream=upstream,
            recorder=recorder,
            costing=costing,
            metrics=metrics,
            deadline=settings.rollout.deadline_seconds,
            may_repeat=Repeats(store, settings).allowed,
            keep=keep if settings.rollout.keep_audited else None,
        )
        app = create_app(
            Parts(
                settings=settings,
                upstream=upstream,
                specialists=specialists,
                conductor=conductor,
                shadow=shadow,
                recorder=recorder,
                books=Books(recorder, costing, metrics),
                metrics=metrics,
                tenants=tenants,
                problems=problems,
            )
        )
    except BaseException:
        listener.close()
        raise
    async with contextlib.AsyncExitStack() as stack:
        if own is not None:
            stack.callback(own.close)
        stack.push_async_callback(store.close)
        await upstream.start()
        stack.push_async_callback(upstream.close)
        for name, work in (
            ("tenants", tenants.run),
            ("recorder", recorder.run),
            ("specialists", specialists.run),
            ("conductor", conductor.run),
            ("shadow", shadow.run),
        ):
            await stack.enter_async_context(_kept_running(name, work, metrics))
        await _in_time(tenants.renew(), FIRST_LOOK_SECONDS)
        stack.push_async_callback(_settle, shadow)
        url = await stack.enter_async_context(listening(app, listener, hurry))
        await _in_time(specialists.refresh(), FIRST_LOAD_SECONDS)
        yield Sidecar(url=url, app=app)


def _upstream(settings: Settings, problems: dict[str, str]) -> Upstream:
    secrets = (settings.upstream_api_key, *settings.fallback_api_keys)
    own, *others = (key.get_secret_value() if key else None for key in secrets)
    upstream = Upstream(settings.upstream, own, others)
    for tier in upstream.tiers:
        if tier.api_key is None and tier.key_source:
            name = "upstream_key" if tier is upstream.first else f"upstream_key.{tier.name}"
            kind = "holds no key" if tier.settings.api_key_file else "is not set"
            problems[name] = f"{tier.key_source} {kind}, so no key is sent to {tier.name}"
    return upstream


def _prices(settings: Settings, problems: dict[str, str]) -> PriceOf:
    try:
        return load_prices(settings.prices_path).price_of
    except ConfigError as error:
        problems["prices"] = str(error)
        return lambda model: None


async def _in_time(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Wait for something, but not for ever; it goes on afterwards."""
    await asyncio.wait({asyncio.ensure_future(work)}, timeout=seconds)


async def _settle(shadow: Shadow) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_COMPARISONS):
            await shadow.settle()


@contextlib.asynccontextmanager
async def _kept_running(
    name: str, work: Callable[[], Awaitable[None]], metrics: Metrics
) -> AsyncIterator[None]:
    """Run a background task, again after a pause if it fails, until the block ends."""

    async def keep() -> None:
        while True:
            try:
                await work()
            except Exception as error:  # the edge: a failed task must not end the sidecar
                metrics.faults[name] += 1
                _log.error("the %s failed and is started again: %s", name, place_of(error))
                await asyncio.sleep(RESTART_SECONDS)

    task = asyncio.create_task(keep(), name=f"apprentice-{name}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@contextlib.contextmanager
def _announced(settings: Settings, url: str) -> Iterator[None]:
    """Leave a note where the sidecar listens, for the other commands."""
    path = settings.home / NOTE
    note = {"pid": os.getpid(), "url": url, "started_at": time.time()}
    try:
        write_atomically(path, json.dumps(note).encode())
    except OSError as error:
        _log.error("%s cannot be written: %s", path, error)
    try:
        yield
    finally:
        _withdraw(path)


def _withdraw(path: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_bytes()).get("pid") == os.getpid():
            path.unlink()


def _spare_the_collector() -> None:
    """Keep the garbage collector from walking, during requests, over all that was loaded."""
    gc.collect()
    gc.freeze()
    give_back()  # what parsing graphs and tables left behind
    gc.set_threshold(20_000, 20, 50)


def _run(main: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
