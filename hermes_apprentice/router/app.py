"""The sidecar's routes.

Chat completions and everything else below ``/v1/`` are plain ASGI, because every
model call passes here; the rest are small endpoints. Whatever fails in between
becomes an error in OpenAI's shape.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hermes_apprentice.errors import ApprenticeError, place_of
from hermes_apprentice.router.admin import Admin
from hermes_apprentice.router.bookkeeping import Books
from hermes_apprentice.router.catalogue import PROBES, Catalogue, is_model
from hermes_apprentice.router.chat import Chat
from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.dashboard import Dashboard
from hermes_apprentice.router.door import Door
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.relay import Relay
from hermes_apprentice.router.shadow import Shadow
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.tenants import Tenants
from hermes_apprentice.router.upstream import Ask, Upstream
from hermes_apprentice.router.wire import Receive, Scope, Send, Unread, read_body, send_json
from hermes_apprentice.settings import Settings

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_NOT_FOUND = error_body("There is no such endpoint here.", "invalid_request_error", "not_found")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that the routes need."""

    settings: Settings
    """The settings."""

    upstream: Upstream
    """The model endpoint, started."""

    specialists: Specialists
    """What is loaded."""

    conductor: Conductor
    """Takes the rollout's steps."""

    shadow: Shadow
    """Makes comparisons."""

    recorder: Recorder
    """Writes the ledger."""

    books: Books
    """Keeps the accounts."""

    metrics: Metrics
    """Counts."""

    tenants: Tenants
    """Knows the keys."""

    problems: Mapping[str, str] = field(default_factory=dict)
    """What was found broken when the sidecar started, by part."""


class App:
    """The ASGI application."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._metrics = parts.metrics
        server = parts.settings.server
        self._door = Door(
            parts.tenants, (server.host, *server.allowed_hosts), parts.metrics.refused
        )
        self._relay = Relay(parts.upstream)
        self._chat = Chat(
            relay=self._relay,
            specialists=parts.specialists,
            shadow=parts.shadow,
            books=parts.books,
            metrics=parts.metrics,
            rollout=parts.settings.rollout,
            audit_share=parts.conductor.audit_share,
            max_body=parts.settings.server.max_body_bytes,
        )
        catalogue = Catalogue(parts.upstream)
        admin = Admin(
            specialists=parts.specialists,
            conductor=parts.conductor,
            recorder=parts.recorder,
            shadow=parts.shadow,
            upstream=parts.upstream,
            tenants=parts.tenants,
            metrics=parts.metrics,
            settings=parts.settings,
            problems=parts.problems,
        )
        dashboard = Dashboard(
            settings=parts.settings,
            specialists=parts.specialists,
            conductor=parts.conductor,
            problems=admin.problems,
        )
        self._catalogue = catalogue
        self._routes: dict[tuple[str, str], Asgi] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("GET", "/v1/models"): catalogue.everything,
            ("GET", "/healthz"): admin.health,
            ("GET", "/metrics"): admin.metrics,
            ("GET", "/dashboard"): dashboard.page,
            ("GET", "/admin/overview"): dashboard.overview,
            ("GET", "/apprentice/explain"): admin.explain,
            ("POST", "/apprentice/explain"): admin.explain,
            ("POST", "/apprentice/reload"): admin.reload,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._handler(scope)(scope, receive, watched)
        except Exception as error:  # the edge: a clear error instead of a broken connection
            self._metrics.faults["request"] += 1
            _log.error("a request failed: %s", place_of(error))
            if started:
                return  # an answer that was not finished, which the server cuts off
            text = str(error) if isinstance(error, ApprenticeError) else "The sidecar failed."
            await send_json(send, 500, error_body(text, "internal_error", "sidecar_failed"))
        finally:
            self._door.left(scope)
            self._metrics.in_flight -= 1

    def _handler(self, scope: Scope) -> Asgi:
        turned_away = self._door.closed_to(scope)
        if turned_away is not None:
            return turned_away
        method, path = scope["method"], scope["path"]
        # Watchers of processes ask with HEAD; the server leaves the body out.
        asked = "GET" if method == "HEAD" and not path.startswith("/v1/") else method
        handler = self._routes.get((asked, path))
        if handler is not None:
            return handler
        if path in PROBES:
            return _not_found
        if method == "GET" and is_model(path):
            return self._catalogue.one
        # A prefix that is itself encoded would be read as a part of the upstream's own address.
        return self._pass_through if scope["raw_path"].startswith(b"/v1/") else _not_found

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand anything else below ``/v1/`` to the upstream, untouched."""
        body = await read_body(
            dict(scope["headers"]), receive, self.parts.settings.server.max_body_bytes
        )
        if body is Unread.GONE:
            return
        if isinstance(body, Unread):
            text = "The request's body is longer than server.max_body_bytes allows."
            close = ((b"connection", b"close"),)
            body = error_body(text, "invalid_request_error", "too_large")
            await send_json(send, 413, body, close)
            return
        began = time.perf_counter()
        path = scope["raw_path"].decode("latin-1").removeprefix("/v1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        passage = await self._relay.forward(
            Ask(
                method=scope["method"],
                path=path,
                headers=scope["headers"],
                body=body,
                alone=True,
            ),
            receive=receive,
            send=send,
            began=began,
            notes=((b"x-apprentice-route", b"upstream"),),
        )
        latency = time.perf_counter() - began
        self._metrics.call("passthrough", "upstream", passage.status, passage.overhead, latency)


def create_app(parts: Parts) -> App:
    """Return the ASGI application over the given parts."""
    return App(parts)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await send_json(send, 404, _NOT_FOUND)
