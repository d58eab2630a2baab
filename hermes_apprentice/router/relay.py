"""Pass one request to the upstream and its answer back, byte for byte.

Only headers are touched, and the model's name where another one is configured.
Nothing reaches the client before the answer's first piece is there. Knows nothing
about why the upstream is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hermes_apprentice.errors import UpstreamError, UpstreamTimeoutError
from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.headers import for_client
from hermes_apprentice.router.tap import Heard, Tap
from hermes_apprentice.router.upstream import Ask, Reply, Upstream
from hermes_apprentice.router.wire import HUNG_UP, Hangup, HeaderList, Receive, Send, send_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """How a request fared."""

    status: int
    """What the client got; 499 if it hung up."""

    problem: str
    """A fixed word: ``unreachable``, ``timeout``, ``cut``, ``hang_up``, ``error`` where the answer
    was one in spite of its status, or empty."""

    overhead: float
    """Seconds between the body and the answer's first byte that were not the upstream's."""

    heard: Heard | None = None
    """What the answer was, as far as it came; ``None`` where nobody listened."""

    tier: str = ""
    """The endpoint that answered; empty if none did."""

    model: str = ""
    """The model's name there."""

    first: bool = True
    """Whether it was the first endpoint, whose model specialists are compared with."""


def _nothing(passage: Passage) -> None:
    """Book nowhere."""


class Relay:
    """Passes requests on."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def forward(
        self,
        ask: Ask,
        *,
        receive: Receive,
        send: Send,
        began: float,
        notes: HeaderList,
        listen: bool = False,
        keep: bool = False,
        book: Callable[[Passage], None] = _nothing,
    ) -> Passage:
        """Pass a request on and stream the answer back.

        Args:
            ask: The request.
            receive: The client's ASGI channel.
            send: The client's ASGI channel.
            began: When the body was there, on ``time.perf_counter``.
            notes: Our own response headers; endpoint and overhead are added.
            listen: Whether to read the token counts along the way.
            keep: Whether to keep the whole answer for a comparison.
            book: Told once how the request fared, before an answer's last byte is sent: whoever
                has all of an answer can rely on it being booked.
        """
        passing = _Passing(began, book)
        seconds = self.upstream.settings.total_timeout
        with Hangup(receive):
            passing.asked = time.perf_counter()
            try:
                async with asyncio.timeout(seconds):
                    await self._pass(ask, send, notes, passing, listen, keep)
            except (UpstreamError, TimeoutError) as error:
                if passing.reply is None:
                    return await _refuse(send, error, notes, passing, seconds)
                if passing.booked is not None:
                    return passing.booked
                # The connection is left unfinished, so that the client sees a broken answer
                # as broken and not as complete.
                passing.status, passing.problem = passing.reply.response.status, "cut"
        return passing.end()

    async def _pass(
        self,
        ask: Ask,
        send: Send,
        notes: HeaderList,
        passing: _Passing,
        listen: bool,
        keep: bool,
    ) -> None:
        reply = await self.upstream.send(ask)
        answered = time.perf_counter()
        response = reply.response
        passing.reply, passing.first = reply, reply.tier is self.upstream.first
        try:
            tap = passing.tap = _tap_for(response.headers, keep) if listen else None
            passing.overhead = passing.asked - passing.began + time.perf_counter() - answered
            if len(self.upstream.tiers) > 1:
                notes = [*notes, (b"x-apprentice-upstream", reply.tier.name.encode())]
            headers = [*for_client(response.headers), *_with_overhead(notes, passing.overhead)]
            await send(
                {"type": "http.response.start", "status": response.status, "headers": headers}
            )
            piece = reply.first
            while True:
                if tap is not None and piece:
                    tap.feed(piece)
                more = not reply.ended
                if not more:
                    passing.status, passing.problem = response.status, ""
                    passing.end()
                await send({"type": "http.response.body", "body": piece, "more_body": more})
                if not more:
                    break
                piece = await reply.read()
        except BaseException:
            response.close()
            raise
        response.release()


class _Passing:
    """A passage while it lasts."""

    __slots__ = (
        "asked",
        "began",
        "book",
        "booked",
        "first",
        "overhead",
        "problem",
        "reply",
        "status",
        "tap",
    )

    def __init__(self, began: float, book: Callable[[Passage], None]) -> None:
        self.book = book
        self.booked: Passage | None = None
        self.began = began
        self.asked = began
        self.overhead = 0.0
        self.status, self.problem = HUNG_UP, "hang_up"
        self.reply: Reply | None = None
        self.first = True
        self.tap: Tap | None = None

    def end(self) -> Passage:
        """Book how the request fared, once."""
        if self.booked is None:
            self.booked = self._passage()
            self.book(self.booked)
        return self.booked

    def refused(self, status: int, problem: str, overhead: float) -> Passage:
        """Book that no endpoint gave an answer."""
        self.booked = Passage(status=status, problem=problem, overhead=overhead)
        self.book(self.booked)
        return self.booked

    def _passage(self) -> Passage:
        heard = self.tap.finish() if self.tap is not None else None
        failed = heard is not None and heard.failed and self.status < 400
        return Passage(
            status=self.status,
            problem=self.problem or ("error" if failed else ""),
            overhead=self.overhead,
            heard=heard,
            tier=self.reply.tier.name if self.reply is not None else "",
            model=self.reply.model if self.reply is not None else "",
            first=self.first,
        )


async def _refuse(
    send: Send, error: Exception, notes: HeaderList, passing: _Passing, seconds: float
) -> Passage:
    """Tell the client that no endpoint gave an answer."""
    late = isinstance(error, UpstreamTimeoutError | TimeoutError)
    status, problem = (504, "timeout") if late else (502, "unreachable")
    message = str(error) or f"There was no whole answer in {seconds:g} seconds."
    overhead = passing.asked - passing.began
    text = error_body(message, "upstream_error", f"upstream_{problem}")
    passage = passing.refused(status, problem, overhead)
    await send_json(send, status, text, _with_overhead(notes, overhead))
    return passage


def _tap_for(headers: Mapping[str, str], keep: bool) -> Tap:
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    encoding = headers.get("content-encoding", "").strip().lower()
    return Tap(streamed=streamed, encoding=encoding, keep=keep)


def _with_overhead(headers: HeaderList, seconds: float) -> list[tuple[bytes, bytes]]:
    return [*headers, (b"x-apprentice-overhead-ms", b"%.3f" % (seconds * 1_000))]
