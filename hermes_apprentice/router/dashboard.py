"""The dashboard's two endpoints: a page for people, the same as JSON for programs.

For the operator only; who that is, is decided before a request comes here. Reading takes
a moment, so one reading serves everybody who asks for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs

import orjson

from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.overview import Figures, Overview, overview, read_figures
from hermes_apprentice.router.page import page, policy
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.wire import HeaderList, Receive, Scope, Send, send_bytes, send_json
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database

KEPT_SECONDS = 3.0
"""How long a reading of the database is shown, at least."""

KEPT_TIMES = 20
"""How many times as long as it took: whoever keeps looking costs a twentieth of a core."""

_GUARDED: HeaderList = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Dashboard:
    """Shows what the sidecar does."""

    def __init__(
        self,
        *,
        settings: Settings,
        specialists: Specialists,
        conductor: Conductor,
        problems: Callable[[], Mapping[str, str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._specialists = specialists
        self._conductor = conductor
        self._problems = problems
        self._clock = clock
        self._reading = asyncio.Lock()
        self._kept: tuple[float, Figures] | None = None
        self._kept_until = 0.0

    async def page(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        view = await self._view()
        body = await asyncio.to_thread(
            page, view, refresh=query.get("refresh") != ["off"], embedded="embedded" in query
        )
        allowed = f"{policy()}; frame-ancestors 'none'".encode()
        kind = b"text/html; charset=utf-8"
        headers = (*_GUARDED, (b"content-security-policy", allowed))
        await send_bytes(send, 200, kind, body.encode("utf-8", "replace"), headers)

    async def overview(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the figures."""
        view = await self._view()
        await send_json(send, 200, orjson.dumps(view, option=orjson.OPT_NON_STR_KEYS), _GUARDED)

    async def _view(self) -> Overview:
        problems = dict(self._problems())
        at, figures = self._clock(), None
        try:
            at, figures = await self._figures()
        except StorageError as error:
            problems["database"] = str(error)
        return overview(self._settings, problems, figures, at)

    async def _figures(self) -> tuple[float, Figures]:
        async with self._reading:
            now = self._clock()
            if self._kept is None or not self._kept[0] <= now < self._kept_until:
                began = time.perf_counter()
                self._kept = (now, await asyncio.to_thread(self._read, now))
                took = time.perf_counter() - began
                self._kept_until = now + max(KEPT_SECONDS, KEPT_TIMES * took)
            return self._kept

    def _read(self, now: float) -> Figures:
        with Database(self._settings.database_path) as database:
            return read_figures(
                database,
                self._settings,
                now,
                judged=self._conductor.progress_of,
                loaded=lambda slug: self._specialists.now.find(slug) is not None,
                bounds=self._specialists.now.loading.bounds,
            )
