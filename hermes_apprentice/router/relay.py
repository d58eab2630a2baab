"""Pass one request to the upstream and its answer back, byte for byte.

Only headers are touched, and the model's name where another one is configured.
Knows nothing about why the upstream is asked.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hermes_apprentice.errors import UpstreamError, UpstreamTimeoutError
from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.headers import RawHeaders, for_client, for_upstream
from hermes_apprentice.router.tap import Heard, Tap
from hermes_apprentice.router.upstream import Upstream
from hermes_apprentice.router.wire import HUNG_UP, Hangup, HeaderList, Receive, Send, send_json

_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """How a request fared."""

    status: int
    """What the client got; 499 if it hung up."""

    problem: str
    """A fixed word: ``unreachable``, ``timeout``, ``cut``, ``hang_up``, or empty."""

    overhead: float
    """Seconds between the body and the answer's first byte that were not the upstream's."""

    heard: Heard | None
    """What the answer was, as far as it came; ``None`` where nobody listened."""


class Relay:
    """Passes requests on."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def forward(
        self,
        *,
        method: str,
        path: str,
        headers: RawHeaders,
        body: bytes,
        receive: Receive,
        send: Send,
        began: float,
        notes: HeaderList,
        listen: bool = False,
        keep: bool = False,
    ) -> Passage:
        """Pass a request on and stream the answer back.

        Args:
            method: HTTP method.
            path: Below the upstream's base URL, with the query.
            headers: The client's.
            body: The client's, whole.
            receive: The client's ASGI channel.
            send: The client's ASGI channel.
            began: When the body was there, on ``time.perf_counter``.
            notes: Our own response headers; the overhead is added.
            listen: Whether to read the token counts along the way.
            keep: Whether to keep the whole answer for a comparison.
        """
        tap: Tap | None = None
        status, problem, overhead = HUNG_UP, "hang_up", 0.0
        with Hangup(receive):
            asked = time.perf_counter()
            try:
                response = await self.upstream.send(
                    method, path, for_upstream(headers, self.upstream.api_key), body
                )
            except UpstreamError as error:
                late = isinstance(error, UpstreamTimeoutError)
                status, problem = (504, "timeout") if late else (502, "unreachable")
                text = error_body(str(error), "upstream_error", f"upstream_{problem}")
                await send_json(send, status, text, _with_overhead(notes, asked - began))
                return Passage(status=status, problem=problem, overhead=asked - began, heard=None)
            answered = time.perf_counter()
            try:
                if listen:
                    tap = _tap_for(response.headers, keep)
                overhead = asked - began + time.perf_counter() - answered
                passed = _with_overhead([*for_client(response.headers), *notes], overhead)
                start = {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": passed,
                }
                await send(start)
                more = True
                while more:
                    piece = await self.upstream.read(response)
                    if tap is not None and piece:
                        tap.feed(piece)
                    more = not response.content.at_eof()
                    await send({"type": "http.response.body", "body": piece, "more_body": more})
                status, problem = response.status, ""
                response.release()
            except UpstreamError:
                # The connection is left unfinished, so that the client sees a broken answer
                # as broken and not as complete.
                status, problem = response.status, "cut"
                response.close()
            except BaseException:
                response.close()
                raise
        heard = tap.finish() if tap is not None else None
        return Passage(status=status, problem=problem, overhead=overhead, heard=heard)


def with_model(body: bytes, parsed: Mapping[str, Any], model: str) -> bytes:
    """Return the body with another model's name, all else unchanged where that is possible."""
    asked = parsed.get("model")
    if not model or not parsed or asked == model:
        return body
    found = [match for match in _MODEL.finditer(body) if json.loads(match[1]) == asked]
    named = orjson.dumps(model)
    for match in found:
        start, end = match.span(1)
        changed = body[:start] + named + body[end:]
        if len(found) == 1 or orjson.loads(changed) == {**parsed, "model": model}:
            return changed
    return json.dumps({**json.loads(body), "model": model}).encode()


def _tap_for(headers: Mapping[str, str], keep: bool) -> Tap:
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    encoding = headers.get("content-encoding", "").strip().lower()
    return Tap(streamed=streamed, encoding=encoding, keep=keep)


def _with_overhead(headers: HeaderList, seconds: float) -> list[tuple[bytes, bytes]]:
    return [*headers, (b"x-apprentice-overhead-ms", b"%.3f" % (seconds * 1_000))]
