"""The upstream: one model endpoint, or several that stand in for each other.

A chat completion is asked of the first endpoint that is neither resting nor
waiting, and of the next one as long as nothing has reached the client. Everything
else is asked of the first endpoint only: files, stored responses and embeddings of
one provider mean nothing to another. Knows nothing about specialists.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import aiohttp
import orjson

from hermes_apprentice.errors import UpstreamError, UpstreamTimeoutError
from hermes_apprentice.router.headers import RawHeaders, for_upstream, uncompressed
from hermes_apprentice.router.opening import HOLD_SECONDS, Opening
from hermes_apprentice.router.renaming import with_model
from hermes_apprentice.router.tap import ANSWER_BYTES, Heard, Tap
from hermes_apprentice.router.tier import ATTEMPTS, Tier
from hermes_apprentice.settings import UpstreamSettings

CHAT = "/chat/completions"

_ELSEWHERE = frozenset({401, 402, 408, 429})
"""Statuses below 500 that say nothing about the request, but about this endpoint now. Not among
them: 403, by which providers refuse what a request says, and 400, 404 and the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as the client sent it."""

    method: str
    """HTTP method."""

    path: str
    """Below the base URL, with a leading slash and the query, still encoded."""

    headers: RawHeaders
    """The client's own; what may not pass is taken out for each endpoint."""

    body: bytes
    """As it came."""

    plain: bytes = b""
    """The body decompressed, where it can be; used where the model gets another name."""

    parsed: Mapping[str, Any] = field(default_factory=dict)
    """The parsed body of a chat completion; empty where it was not understood."""

    model: str = ""
    """The model that it names."""

    alone: bool = False
    """Whether only the first endpoint may be asked."""


class Reply:
    """An answer whose first piece has arrived."""

    __slots__ = ("first", "model", "response", "status", "tier")

    def __init__(
        self, tier: Tier, response: aiohttp.ClientResponse, first: bytes, model: str, status: int
    ) -> None:
        self.tier = tier
        self.response = response
        self.first = first
        self.model = model
        self.status = status
        """Of the answer; of the error in it, where it begins with one in spite of its status."""

    @property
    def ended(self) -> bool:
        """Whether every piece has been read."""
        return self.response.content.at_eof()

    async def read(self) -> bytes:
        """Return the next piece; see ``Tier.read``."""
        return await self.tier.read(self.response)


class Upstream:
    """The endpoints, in the order in which they are asked."""

    def __init__(
        self,
        settings: UpstreamSettings,
        api_key: str | None,
        fallback_keys: Sequence[str | None] = (),
    ) -> None:
        self.settings = settings
        self.first = Tier(settings.label, settings, api_key)
        self.tiers = [self.first]
        self.requests: Counter[tuple[str, str]] = Counter()
        keys = fallback_keys[: len(settings.fallbacks)]
        for tier, key in zip_longest(settings.fallbacks, keys):
            taken = {known.name for known in self.tiers}
            names = (tier.label, *(f"{tier.label}-{number}" for number in range(2, 100)))
            self.tiers.append(Tier(next(n for n in names if n not in taken), tier, key))

    def model_for(self, asked: str) -> str:
        """Return the first endpoint's name for the model that a client asked for."""
        return self.first.model_for(asked)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong with the endpoints now; the first one's is called ``upstream``."""
        found = {}
        for tier in self.tiers:
            name = "upstream" if tier is self.first else f"upstream.{tier.name}"
            if tier.problem:
                found[name] = f"{tier.settings.base_url} {tier.problem}"
            elif tier.breaker.open:
                found[name] = f"{tier.settings.base_url} cannot be reached, or keeps failing"
        return found

    async def start(self) -> None:
        """Open the pools of connections."""
        for tier in self.tiers:
            await tier.start()

    async def close(self) -> None:
        """Close every connection."""
        for tier in self.tiers:
            await tier.close()

    async def send(self, ask: Ask) -> Reply:
        """Send a request; return once the first piece of an answer is there.

        Where no endpoint gives a useful answer, the first one that any of them gave is
        returned, with its status, headers and body.

        Raises:
            UpstreamError: None of them can be reached, or all hung up before they answered.
            UpstreamTimeoutError: The first one that failed did not answer in time.
        """
        if len(self.tiers) == 1 or ask.alone:
            return await self._try(self.first, ask, ATTEMPTS)
        held: Reply | None = None
        trouble: UpstreamError | None = None
        passed_over: list[Tier] = []
        try:
            for tier in self.tiers:
                if tier.wait(tier.model_for(ask.model)) or not tier.breaker.allows():
                    passed_over.append(tier)
                    continue
                try:
                    reply = await self._try(tier, ask, 1)
                except UpstreamError as error:
                    trouble = trouble or error
                    continue
                if not self._elsewhere(reply, ask):
                    _drop(held)
                    return reply
                if held is None:
                    held = reply
                else:
                    _drop(reply)
            if held is not None:
                return held
            # Nobody was ready and answered. A refusal with its Retry-After is worth more to the
            # client than our own error, and whoever rests may be back.
            passed_over.sort(key=lambda tier: (tier.breaker.open, self._wait(tier, ask)))
            for tier in passed_over:
                try:
                    return await self._try(tier, ask, 1)
                except UpstreamError as error:
                    trouble = trouble or error
        except BaseException:
            _drop(held)
            raise
        assert trouble is not None
        raise trouble

    def _wait(self, tier: Tier, ask: Ask) -> float:
        return tier.wait(tier.model_for(ask.model))

    def _elsewhere(self, reply: Reply, ask: Ask) -> bool:
        """Whether another endpoint may have a better answer."""
        status = reply.status
        if status < 400:
            return False
        if reply.tier is not self.first:
            # The client chose neither this endpoint nor its model: what it objects to may be
            # its own way of doing things.
            return True
        unknown = status == 404 and reply.model != ask.model
        return status >= 500 or status in _ELSEWHERE or unknown

    async def _try(self, tier: Tier, ask: Ask, attempts: int) -> Reply:
        """Ask one endpoint, and book how it fared."""
        chat = ask.path == CHAT
        model = tier.model_for(ask.model) if chat else ""
        headers = for_upstream(ask.headers, tier.api_key)
        body = ask.body
        if ask.parsed and model != ask.model:
            body = with_model(ask.plain, ask.parsed, model)
            headers.popall("content-encoding", None)
        closed = not tier.breaker.open
        response: aiohttp.ClientResponse | None = None
        verdict = False
        try:
            response = await tier.send(ask.method, ask.path, headers, body, attempts=attempts)
            first = await tier.read(response)
            status = response.status
            if chat and status == 200:
                # With nobody else to ask there is nothing to hold an answer's beginning back for.
                hold = len(self.tiers) > 1 and not ask.alone
                first, status = await _opened(tier, response, first, hold)
            self.requests[tier.name, str(status)] += 1
            if chat:
                tier.note(status, response.headers, model, renamed=model != ask.model)
            if chat and _is_failing(status, response.headers):
                tier.breaker.failed(began_closed=closed)
                verdict = True
            elif chat or status < 500:
                tier.breaker.succeeded()
                verdict = True
        except UpstreamError as error:
            late = isinstance(error, UpstreamTimeoutError)
            self.requests[tier.name, "timeout" if late else "unreachable"] += 1
            tier.breaker.failed(began_closed=closed)
            verdict = True
            _close(response)
            raise
        except BaseException:
            _close(response)
            raise
        finally:
            if not (verdict or closed):
                tier.breaker.gave_up()
        return Reply(tier, response, first, model, status)

    async def ask(self, body: dict[str, Any], headers: RawHeaders) -> tuple[int, Heard]:
        """Ask the first endpoint for a chat completion, unstreamed; return status and content.

        Only that one, because its model is what specialists are compared with.

        Raises:
            UpstreamError: As ``send`` and ``Reply.read``; or it asked to be left alone.
        """
        plain = {key: value for key, value in body.items() if key != "stream_options"}
        plain["stream"] = False
        data = orjson.dumps(plain)
        asked = body.get("model")
        asked = asked if isinstance(asked, str) else ""
        if self.first.wait(self.first.model_for(asked)):
            raise UpstreamError(f"{self.first.name} asked for a pause")
        reply = await self.send(
            Ask(
                method="POST",
                path=CHAT,
                headers=uncompressed(headers),
                body=data,
                plain=data,
                parsed=plain,
                model=asked,
                alone=True,
            )
        )
        tap = Tap(streamed=False, keep=True)
        received = 0
        try:
            piece = reply.first
            while piece:
                tap.feed(piece)
                received += len(piece)
                if received > ANSWER_BYTES:
                    raise UpstreamError(f"{reply.tier.name} sent an answer without end")
                piece = await reply.read()
        except BaseException:
            reply.response.close()
            raise
        reply.response.release()
        return reply.status, tap.finish()


async def _opened(
    tier: Tier, response: aiohttp.ClientResponse, first: bytes, hold: bool
) -> tuple[bytes, int]:
    """Return the beginning of an answer, and the status that it deserves.

    Args:
        tier: Who answers.
        response: The answer.
        first: Its first piece.
        hold: Whether to wait for more where that does not tell.

    Raises:
        UpstreamError: As ``Tier.read``.
    """
    headers = response.headers
    opening = Opening(
        streamed=headers.get("content-type", "").startswith("text/event-stream"),
        encoding=headers.get("content-encoding", ""),
    )
    status = opening.read(first, ended=response.content.at_eof())
    if status is not None or not hold:
        return first, status or 200
    pieces = [first]
    with suppress(TimeoutError):
        async with asyncio.timeout(HOLD_SECONDS):
            while status is None:
                pieces.append(await tier.read(response))
                status = opening.read(pieces[-1], ended=response.content.at_eof())
    return b"".join(pieces), status or 200


def _is_failing(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a status says that the endpoint does not work, and has not asked for a pause."""
    if status in (401, 402):
        return True
    return status >= 500 and not (status == 503 and "retry-after" in headers)


def _drop(reply: Reply | None) -> None:
    if reply is not None:
        # Keeps the connection if all of the answer has arrived, and closes it otherwise.
        reply.response.release()


def _close(response: aiohttp.ClientResponse | None) -> None:
    if response is not None:
        response.close()
