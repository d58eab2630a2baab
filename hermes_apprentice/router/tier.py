"""One model endpoint: ask it, read its answer as it arrives, and remember how it fares.

Nothing is buffered whole and nothing is changed. A request is sent again only if
the endpoint cannot have begun to answer it. Knows nothing about other endpoints.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from hermes_apprentice.errors import UpstreamError, UpstreamTimeoutError
from hermes_apprentice.router.breaker import Breaker
from hermes_apprentice.settings import TierSettings

ATTEMPTS = 3
"""Most attempts to connect, where there is nobody else to ask."""

RETRY_SECONDS = 0.1
"""Pause before the second attempt; doubled before the third."""

STALE_SECONDS = 1.0
"""An endpoint that hangs up this soon, without a byte, has closed an idle connection that we
were about to use; it has not begun to work on the request."""

IMPATIENT_CONNECT = 2.0
"""Seconds to connect while the endpoint keeps being unreachable."""

FAILURES = 3
"""Failures in a row after which an endpoint is left alone."""

SHORTEST_REST = 1.0
"""Seconds that it is left alone at first."""

LONGEST_REST = 30.0
"""Seconds that it is left alone after many failed tries."""

LONGEST_WAIT = 3_600.0
"""Seconds that a ``Retry-After`` is believed at most."""

_LARGE = 1_000_000
_FIELD_BYTES = 65_536
_MODELS = 64
_REFUSED = {
    401: "refuses the key (status 401); check {key}",
    402: "asks for payment (status 402); its credit is used up",
    404: "does not know the model {model} (status 404); correct its name in settings.toml",
}


class Tier:
    """One OpenAI-compatible endpoint."""

    def __init__(
        self,
        name: str,
        settings: TierSettings,
        api_key: str | None,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is needed.

        Args:
            name: What it is called.
            settings: Its address and its patience.
            api_key: The key that is sent to it.
            clock: Unix time, for dates that it sends.
            ticks: Seconds that only ever grow, however the clock is set.
        """
        self.name = name
        self.settings = settings
        self.api_key = api_key
        self.breaker = Breaker(failures=FAILURES, rest=SHORTEST_REST, longest=LONGEST_REST)
        self.problem = ""
        self._clock = clock
        self._ticks = ticks
        self._waits: dict[str, float] = {}
        self._base = settings.base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        """Keeps no connection."""
        self._timeout = self._timeouts(settings.connect_timeout)
        self._impatient = self._timeouts(min(settings.connect_timeout, IMPATIENT_CONNECT))

    def _timeouts(self, connect: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            # The first one counts the name's look-up as well, which can hang for long.
            total=None,
            connect=connect,
            sock_connect=connect,
            sock_read=self.settings.first_byte_timeout,
        )

    @property
    def key_source(self) -> str:
        """Where its key comes from, in words; empty where it needs none."""
        return str(self.settings.api_key_file or self.settings.api_key_env)

    def model_for(self, asked: str) -> str:
        """Return the name under which it knows the model that a client asked for."""
        return self.settings.models.get(asked) or self.settings.model or asked

    def wait(self, model: str) -> float:
        """Return for how many seconds it asked to be left alone with a model."""
        until = self._waits.get(model)
        return 0.0 if until is None else max(0.0, until - self._ticks())

    def note(self, status: int, headers: Mapping[str, str], model: str, *, renamed: bool) -> None:
        """Remember what the status of a chat completion says about the endpoint.

        Args:
            status: Of the answer.
            headers: Of the answer.
            model: As it was sent.
            renamed: Whether the model's name comes from the settings.
        """
        refused = _REFUSED.get(status)
        if refused is not None and (renamed or status != 404):
            self.problem = refused.format(key=self.key_source or "its key", model=model)
        elif status < 400:
            self.problem = ""
            self._waits.pop(model, None)
        if status in (429, 503):
            pause = retry_after(headers.get("retry-after", ""), self._clock())
            if pause > 0:
                self._wait_for(model, pause)

    def _wait_for(self, model: str, seconds: float) -> None:
        now = self._ticks()
        if len(self._waits) >= _MODELS:
            self._waits = {name: until for name, until in self._waits.items() if until > now}
        if len(self._waits) < _MODELS:
            self._waits[model] = now + seconds

    async def start(self) -> None:
        """Open the pool of connections."""
        self._session = self._opened(aiohttp.TCPConnector(limit=0, keepalive_timeout=15))
        self._fresh = self._opened(aiohttp.TCPConnector(limit=0, force_close=True))

    def _opened(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
        )

    async def close(self) -> None:
        """Close every connection."""
        sessions, self._session, self._fresh = (self._session, self._fresh), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    async def send(
        self,
        method: str,
        path: str,
        headers: CIMultiDict[str],
        body: bytes,
        *,
        attempts: int = ATTEMPTS,
    ) -> aiohttp.ClientResponse:
        """Send a request and return once the answer's headers are there.

        Args:
            method: HTTP method.
            path: Below the base URL, with a leading slash and the query, still encoded.
            headers: As they go out.
            body: As it goes out.
            attempts: Most attempts to connect.

        Raises:
            UpstreamError: It cannot be reached, or hung up before it answered.
            UpstreamTimeoutError: It did not connect, or did not answer, in time.
        """
        attempt, stale = 0, False
        while True:
            attempt += 1
            patient = not self.breaker.open
            began = time.monotonic()
            try:
                # Kept connections grow stale together: another one of them would be no better.
                session = self._fresh if stale else self._session
                return await self._send_once(session, method, path, headers, body, patient)
            except aiohttp.ClientConnectorError as error:
                if not patient or attempt >= attempts:
                    raise UpstreamError(f"{self._base} cannot be reached: {error}") from error
                self.breaker.failed()
            except aiohttp.ConnectionTimeoutError as error:
                raise UpstreamTimeoutError(f"{self._base} cannot be reached in time") from error
            except aiohttp.SocketTimeoutError as error:
                raise UpstreamTimeoutError(
                    f"{self._base} did not begin to answer in "
                    f"{self.settings.first_byte_timeout:g} seconds"
                ) from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if attempt >= 2 or time.monotonic() - began > STALE_SECONDS:
                    raise UpstreamError(f"{self._base} hung up before it answered") from error
                stale = True
            except (aiohttp.ClientError, ValueError) as error:
                raise UpstreamError(
                    f"{self._base} does not answer in HTTP, or its address is wrong "
                    f"({type(error).__name__})"
                ) from error
            await asyncio.sleep(RETRY_SECONDS * 2 ** (attempt - 1))

    async def _send_once(
        self,
        session: aiohttp.ClientSession | None,
        method: str,
        path: str,
        headers: CIMultiDict[str],
        body: bytes,
        patient: bool,
    ) -> aiohttp.ClientResponse:
        if session is None:
            raise UpstreamError("the sidecar is stopping")
        # aiohttp wants large bodies as a stream, to give others a turn between pieces.
        data = (body if len(body) < _LARGE else io.BytesIO(body)) if body else None
        return await session.request(
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


def retry_after(value: str, now: float) -> float:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3).

    Args:
        value: Seconds, or a date; anything else asks for nothing.
        now: Unix time.
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(seconds, LONGEST_WAIT) if seconds > 0 else 0.0
