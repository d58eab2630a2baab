"""The upstream model's endpoint: ask it, and hand its answer on as it arrives.

Nothing is buffered whole and nothing is changed. A request is sent again only if
the endpoint cannot have begun to answer it. Knows nothing about specialists.
"""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from hermes_apprentice.errors import UpstreamError, UpstreamTimeoutError
from hermes_apprentice.router.breaker import Breaker
from hermes_apprentice.router.tap import ANSWER_BYTES, Heard, Tap
from hermes_apprentice.settings import UpstreamSettings

ATTEMPTS = 3
"""Most attempts to connect."""

RETRY_SECONDS = 0.1
"""Pause before the second attempt; doubled before the third."""

STALE_SECONDS = 1.0
"""An endpoint that hangs up this soon, without a byte, has closed an idle connection that we
were about to use; it has not begun to work on the request."""

IMPATIENT_CONNECT = 2.0
"""Seconds to connect while the endpoint keeps being unreachable."""

_LARGE = 1_000_000
_FIELD_BYTES = 65_536


class Upstream:
    """One OpenAI-compatible endpoint."""

    def __init__(self, settings: UpstreamSettings, api_key: str | None) -> None:
        self.settings = settings
        self.api_key = api_key
        self.breaker = Breaker(failures=3, rest=1.0)
        self._base = settings.base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._timeout = self._timeouts(settings.connect_timeout)
        self._impatient = self._timeouts(min(settings.connect_timeout, IMPATIENT_CONNECT))

    def _timeouts(self, connect: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=None, sock_connect=connect, sock_read=self.settings.first_byte_timeout
        )

    def model_for(self, asked: str) -> str:
        """Return the name under which the endpoint knows the model that a client asked for."""
        return self.settings.model or asked

    async def start(self) -> None:
        """Open the pool of connections."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self, method: str, path: str, headers: CIMultiDict[str], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request and return once the answer's headers are there.

        Args:
            method: HTTP method.
            path: Below the base URL, with a leading slash and the query, still encoded.
            headers: As they go out.
            body: As it goes out.

        Raises:
            UpstreamError: It cannot be reached, or hung up before it answered.
            UpstreamTimeoutError: It did not connect, or did not answer, in time.
        """
        attempt = 0
        while True:
            attempt += 1
            patient = not self.breaker.open
            began = time.monotonic()
            try:
                response = await self._send_once(method, path, headers, body, patient)
            except aiohttp.ClientConnectorError as error:
                self.breaker.failed()
                if not patient or attempt >= ATTEMPTS:
                    raise UpstreamError(f"{self._base} cannot be reached: {error}") from error
            except aiohttp.ConnectionTimeoutError as error:
                self.breaker.failed()
                raise UpstreamTimeoutError(f"{self._base} cannot be reached in time") from error
            except aiohttp.SocketTimeoutError as error:
                raise UpstreamTimeoutError(
                    f"{self._base} did not begin to answer in "
                    f"{self.settings.first_byte_timeout:g} seconds"
                ) from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if attempt >= 2 or time.monotonic() - began > STALE_SECONDS:
                    raise UpstreamError(f"{self._base} hung up before it answered") from error
            except (aiohttp.ClientError, ValueError) as error:
                raise UpstreamError(
                    f"{self._base} does not answer in HTTP, or its address is wrong: {error}"
                ) from error
            else:
                self.breaker.succeeded()
                return response
            await asyncio.sleep(RETRY_SECONDS * 2 ** (attempt - 1))

    async def _send_once(
        self, method: str, path: str, headers: CIMultiDict[str], body: bytes, patient: bool
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise UpstreamError("the sidecar is stopping")
        # aiohttp wants large bodies as a stream, to give others a turn between pieces.
        data = (body if len(body) < _LARGE else io.BytesIO(body)) if body else None
        return await self._session.request(
            method,
            URL(self._base + path, encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout if patient else self._impatient,
        )

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return what has arrived of an answer, empty at its end; the reader sets the pace.

        Raises:
            UpstreamError: The endpoint hung up in the middle.
            UpstreamTimeoutError: It fell silent.
        """
        try:
            piece = await response.content.readany()
        except aiohttp.SocketTimeoutError as error:
            raise UpstreamTimeoutError(f"{self._base} fell silent in its answer") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"{self._base} hung up in its answer") from error
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = self.settings.idle_timeout
        return piece

    async def ask(self, body: dict[str, Any], headers: CIMultiDict[str]) -> tuple[int, Heard]:
        """Ask for a chat completion, unstreamed, and return its status and content.

        Raises:
            UpstreamError: As ``send`` and ``read``.
        """
        plain = {key: value for key, value in body.items() if key != "stream_options"}
        plain["stream"] = False
        if self.settings.model:
            plain["model"] = self.settings.model
        headers = headers.copy()
        headers["accept-encoding"] = "identity"
        response = await self.send("POST", "/chat/completions", headers, orjson.dumps(plain))
        tap = Tap(streamed=False, keep=True)
        received = 0
        try:
            while piece := await self.read(response):
                tap.feed(piece)
                received += len(piece)
                if received > ANSWER_BYTES:
                    raise UpstreamError(f"{self._base} sent an answer without end")
        except BaseException:
            response.close()
            raise
        response.release()
        return response.status, tap.finish()
