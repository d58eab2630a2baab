"""The list of models, and quick answers to what Hermes probes for when it starts.

Hermes refuses a model whose context it does not know to be long enough, so every
entry carries a context length. Knows nothing about chat completions.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson

from hermes_apprentice.errors import UpstreamError, UpstreamStatusError
from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.headers import for_client, uncompressed
from hermes_apprentice.router.upstream import Ask, Upstream
from hermes_apprentice.router.wire import Receive, Scope, Send, send_json

PROBES = frozenset({"/api/v1/models", "/api/show", "/api/tags", "/v1/props", "/props", "/version"})
"""What Hermes asks other kinds of servers for; a quick no keeps its start quick."""

FRESH_SECONDS = 300.0
"""How long an upstream's list is kept."""

STALE_SECONDS = 10.0
"""How long an old list is kept on when there is no newer one."""

PATIENCE_SECONDS = 5.0
"""How long an upstream may take to list its models."""

_LIST_BYTES = 16_000_000
_LENGTHS = ("context_length", "max_model_len", "context_window", "max_context_length")


def is_model(path: str) -> bool:
    """Whether a path names one model; what some providers have below it is theirs."""
    return path.startswith("/v1/models/") and not path.endswith("/endpoints")


class Catalogue:
    """Answers ``/v1/models`` and ``/v1/models/NAME``."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._listed: list[dict[str, Any]] = []
        self._listed_at = float("-inf")

    async def everything(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with every model."""
        try:
            models = await self._models(scope)
        except UpstreamStatusError as error:
            start = {"type": "http.response.start", "status": error.status}
            await send({**start, "headers": error.headers})
            await send({"type": "http.response.body", "body": error.body})
            return
        except UpstreamError as error:
            body = error_body(str(error), "upstream_error", "upstream_unreachable")
            await send_json(send, 502, body)
            return
        await send_json(send, 200, orjson.dumps({"object": "list", "data": models}))

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with one model; a name that is not listed is taken on trust."""
        name = scope["path"].removeprefix("/v1/models/")
        entry = self._entry(name)
        if not self._upstream.settings.model:
            # An unknown name still gets the context length; the upstream judges the rest.
            try:
                listed = await self._models(scope)
            except UpstreamError:
                listed = []
            entry = next((model for model in listed if model.get("id") == name), entry)
        await send_json(send, 200, orjson.dumps(entry))

    def _entry(self, name: str) -> dict[str, Any]:
        length = self._upstream.settings.context_length
        return {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "upstream",
            "context_length": length,
            "max_model_len": length,
        }

    async def _models(self, scope: Scope) -> list[dict[str, Any]]:
        """Return the models, asking the upstream only where its model's name is not set."""
        if self._upstream.settings.model:
            return [self._entry(self._upstream.settings.model)]
        if time.monotonic() - self._listed_at > FRESH_SECONDS:
            try:
                self._listed = await self._ask_in_time(scope)
            except UpstreamError:
                if not self._listed:
                    raise
                # An old list is better than none; soon it is asked for again.
                self._listed_at = time.monotonic() - FRESH_SECONDS + STALE_SECONDS
            else:
                self._listed_at = time.monotonic()
        return self._listed

    async def _ask_in_time(self, scope: Scope) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._ask(scope)
        except TimeoutError as error:
            raise UpstreamError("the upstream did not list its models in time") from error

    async def _ask(self, scope: Scope) -> list[dict[str, Any]]:
        headers = uncompressed(scope["headers"])
        ask = Ask(method="GET", path="/models", headers=headers, body=b"")
        reply = await self._upstream.send(ask)
        response, received = reply.response, bytearray(reply.first)
        try:
            while piece := await reply.read():
                received += piece
                if len(received) > _LIST_BYTES:
                    raise UpstreamError("the upstream's list of models has no end")
        except BaseException:
            response.close()
            raise
        response.release()
        if response.status >= 400:
            raise UpstreamStatusError(
                response.status, for_client(response.headers), bytes(received)
            )
        try:
            value = orjson.loads(received)
        except orjson.JSONDecodeError as error:
            raise UpstreamError("the upstream's list of models is not JSON") from error
        listed = value.get("data") if isinstance(value, dict) else None
        if response.status != 200 or not isinstance(listed, list):
            raise UpstreamError(f"the upstream lists no models (status {response.status})")
        return [self._with_length(model) for model in listed if isinstance(model, dict)]

    def _with_length(self, model: dict[str, Any]) -> dict[str, Any]:
        if any(isinstance(model.get(name), int) for name in _LENGTHS):
            return model
        return {**model, "context_length": self._upstream.settings.context_length}
