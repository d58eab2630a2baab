"""The client's end of the wire, in plain ASGI.

Knows nothing about what is asked or answered.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from enum import StrEnum
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HeaderList = Sequence[tuple[bytes, bytes]]

GRACE_SECONDS = 0.02
"""A client's hang-up is watched for from here on; quick answers do without the watcher."""

HUNG_UP = 499
"""The status in the ledger where the client did not wait for one."""


class Unread(StrEnum):
    """Why there is no body."""

    TOO_LARGE = "too_large"
    """It is longer than allowed, or says it will be."""

    GONE = "gone"
    """The client hung up before it had sent everything."""


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes | Unread:
    """Return the whole body, or why there is none; never more than ``limit`` bytes."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and (len(announced) > 18 or int(announced) > limit):
        return Unread.TOO_LARGE
    parts: list[bytes] = []
    received = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Unread.GONE
        part: bytes = message.get("body", b"")
        received += len(part)
        if received > limit:
            return Unread.TOO_LARGE
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def decompressed(body: bytes, encoding: bytes, limit: int) -> bytes | None:
    """Return a body as it was before it was compressed.

    Args:
        body: As it came.
        encoding: Its ``content-encoding``.
        limit: Most bytes that it may have.

    Returns:
        ``None`` where the encoding is not known, the body is damaged, or too long.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    inflate = zlib.decompressobj(47)
    try:
        plain = inflate.decompress(body, limit)
    except zlib.error:
        return None
    whole = inflate.eof and not inflate.unconsumed_tail and not inflate.unused_data
    return plain if whole else None


async def send_bytes(
    send: Send, status: int, content_type: bytes, body: bytes, headers: HeaderList = ()
) -> None:
    """Send a whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: bytes, headers: HeaderList = ()) -> None:
    """Send a whole JSON response."""
    await send_bytes(send, status, b"application/json", body, headers)


class Hangup:
    """Cancels the work on a request when its client goes away.

    Used as a context manager around the work. A hang-up ends the block early and
    quietly, with ``happened`` set.
    """

    def __init__(self, receive: Receive) -> None:
        self.happened = False
        self._receive = receive
        self._over = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Hangup:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._handle = loop.call_later(GRACE_SECONDS, self._start)
        return self

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self.happened = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._over = True
        self._handle.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        task = self._task
        # Each of these leads back here: without them a request is freed as soon as it is done.
        del self._handle, self._watcher, self._task
        if self.happened and kind is not None and issubclass(kind, asyncio.CancelledError):
            return task.uncancel() == 0
        return False
