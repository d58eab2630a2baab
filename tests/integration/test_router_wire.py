"""What passes through the sidecar: every byte, at the client's pace, on kept connections."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import os
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

DEADLINE = 20.0
ASKED = "Label this ticket: the app crashes when I open it."
ANSWER = "It is a bug: " + "the application stops when it is opened, which it should not do. " * 6
TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Upstream:
    """What the upstream got, over which connections, and what it does."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    handler: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername"))
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.raw_path, headers, body))
        if self.handler is not None:
            return await self.handler(request)
        message = {"role": "assistant", "content": "from above"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response(
            {"id": "u", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        )


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()
    app = web.Application(client_max_size=50_000_000)
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=1, auto_decompress=False
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/v1"
    yield found
    await runner.cleanup()


@asynccontextmanager
async def sidecar(
    settings: Settings, url: str, answers: dict[str, str] | None = None, **changes: Any
) -> AsyncIterator[Sidecar]:
    """A sidecar with one live specialist that knows ``answers``, or with none."""
    values = {"base_url": url, "api_key_env": "", "connect_timeout": 2, **changes}
    placed = settings.model_copy(
        update={
            "upstream": UpstreamSettings(**values),
            "server": ServerSettings(port=0, max_body_bytes=4_000_000),
            "rollout": settings.rollout.model_copy(update={"audit_share": 0.0}),
        }
    )
    source = FakeSource(None)
    if answers:
        shape = Shape(kind=ShapeKind.TEXT, agreement=1.0)
        loaded = Loaded(slug="label", version=1, shape=shape, runtime=FakeRuntime(answers))
        put_in_stage(placed.database_path, "label")
        source = FakeSource(FakeMatcher(dict.fromkeys(answers, "label")), loaded)
    async with running_sidecar(placed, source=source, price_of=lambda model: None) as running:
        yield running


def body(text: str = ASKED, **changes: Any) -> dict[str, Any]:
    return {
        "model": "big-one",
        "messages": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": text},
        ],
        "tools": TOOLS,
        **changes,
    }


def streaming(*pieces: bytes, **headers: str) -> Handler:
    """Stream pieces, one write each."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sent = {"content-type": "text/event-stream", **headers}
        response = web.StreamResponse(headers=sent)
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handler


@asynccontextmanager
async def posted(
    running: Sidecar, path: str, data: Any, **headers: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    sent = io.BytesIO(data) if isinstance(data, bytes) else data
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.post(running.url + path, data=sent, headers=headers) as response:
            yield response


# --- every byte -----------------------------------------------------------------------

ODD_STREAM = (
    b": keep-alive comment\n\n",
    b'event: odd\r\ndata: {"choices":[{"delta":{"reasoning_content":"hm, \\u00fc"}}]}\r\n\r\n',
    b'data: {"choices":[{"delta":{"reasoning_details":[{"type":"x","data":"1.50"}]}}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a"}}]}}]}',
    b"\n\ndata: not even JSON \xff\xfe\n\n",
    b'data: {"error":{"code":502,"message":"in the middle"},"choices":[{"delta":{}}]}\n\n',
    b"data: [DONE]",
)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
async def test_a_stream_that_nobody_here_understands_passes_byte_for_byte(
    settings: Settings, upstream: Upstream, path: str
) -> None:
    upstream.handler = streaming(*ODD_STREAM, **{"x-odd": "kept"})
    sent = (
        b'{"input":[{"type":"reasoning","encrypted":"..=="}] ,"stream":true,"messages":[], "x":1.0}'
    )
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, path, sent) as response:
            assert await response.read() == b"".join(ODD_STREAM)
            assert (response.headers["x-odd"], response.status) == ("kept", 200)
    assert upstream.requests[0][3] == sent


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_every_piece_passes_when_it_arrives(
    settings: Settings, upstream: Upstream, path: str, encoding: str
) -> None:
    go_on = asyncio.Event()
    packer = zlib.compressobj(wbits=31)

    def packed(piece: bytes) -> bytes:
        if not encoding:
            return piece
        return packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)

    async def handler(request: web.Request) -> web.StreamResponse:
        headers = {"content-type": "text/event-stream"}
        if encoding:
            headers["content-encoding"] = encoding
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for number in range(3):
            await response.write(packed(b"data: %d\n\n" % number))
            await asyncio.wait_for(go_on.wait(), DEADLINE)
            go_on.clear()
        return response

    upstream.handler = handler
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, path, json.dumps(body(stream=True))) as response:
            unpacker = zlib.decompressobj(wbits=31)
            for number in range(3):
                piece = await asyncio.wait_for(response.content.readany(), DEADLINE)
                plain = unpacker.decompress(piece) if encoding else piece
                assert plain == b"data: %d\n\n" % number
                go_on.set()


@pytest.mark.parametrize(
    ("path", "kind", "data"),
    [
        ("/v1/embeddings", "application/json", b'{"input": ["a",  "b"], "model":"e", "x": 1.0}'),
        ("/v1/files?purpose=batch", "multipart/form-data; boundary=x-y", None),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x-y", None),
        ("/v1/odd", "application/octet-stream", bytes(range(256)) * 100),
    ],
)
async def test_other_endpoints_get_the_body_and_give_the_answer_as_they_are(
    settings: Settings, upstream: Upstream, path: str, kind: str, data: bytes | None
) -> None:
    answer = b'{"data":[{"embedding":[0.10, 1e-7]}] }'

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=201, body=answer, headers={"x-request-id": "r-7"})

    upstream.handler = handler
    sent = data or (
        b'--x-y\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        + os.urandom(5_000)
        + b"\r\n--x-y--\r\n"
    )
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, path, sent, **{"content-type": kind}) as response:
            assert (response.status, await response.read()) == (201, answer)
            assert response.headers["x-request-id"] == "r-7"
    method, where, headers, received = upstream.requests[0]
    assert (method, where, headers["content-type"]) == ("POST", path, kind)
    assert received == sent


async def test_an_image_passes_as_it_was_written(settings: Settings, upstream: Upstream) -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 50_000
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {}}]
    value = body()
    value["messages"][1]["content"] = parts
    parts[1]["image_url"] = {"url": picture, "detail": "low"}
    sent = json.dumps(value, indent=3).encode()
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, "/v1/chat/completions", sent) as response:
            assert response.status == 200
    assert upstream.requests[0][3] == sent


# --- compressed requests --------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "nonsense"])
async def test_a_compressed_request_passes_as_it_came(
    settings: Settings, upstream: Upstream, encoding: str
) -> None:
    plain = json.dumps(body()).encode()
    sent = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    async with sidecar(settings, upstream.url) as running:
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        async with posted(running, "/v1/chat/completions", sent, **headers) as response:
            assert response.status == 200
    assert upstream.requests[0][3] == sent
    assert upstream.requests[0][2]["content-encoding"] == encoding


async def test_a_compressed_request_is_read_and_can_be_answered_here(
    settings: Settings, upstream: Upstream
) -> None:
    async with sidecar(settings, upstream.url, {ASKED: "a bug"}) as running:
        packed = gzip.compress(json.dumps(body()).encode())
        headers = {"content-encoding": "gzip"}
        async with posted(running, "/v1/chat/completions", packed, **headers) as response:
            assert response.headers["x-apprentice-route"] == "specialist"
            assert json.loads(await response.read())["choices"][0]["message"]["content"] == "a bug"
    assert upstream.requests == []


async def test_a_compressed_request_for_a_renamed_model_is_unpacked(
    settings: Settings, upstream: Upstream
) -> None:
    packed = gzip.compress(json.dumps(body()).encode())
    async with sidecar(settings, upstream.url, models={"big-one": "vendor/real"}) as running:
        headers = {"content-encoding": "gzip"}
        async with posted(running, "/v1/chat/completions", packed, **headers) as response:
            assert response.status == 200
    assert "content-encoding" not in upstream.requests[0][2]
    assert json.loads(upstream.requests[0][3]) == body(model="vendor/real")


async def test_a_request_that_unpacks_to_more_than_is_allowed_is_not_unpacked(
    settings: Settings, upstream: Upstream
) -> None:
    packed = gzip.compress(json.dumps(body("x" * 50_000_000)).encode())
    assert len(packed) < 100_000
    async with sidecar(settings, upstream.url, {ASKED: "a bug"}) as running:
        headers = {"content-encoding": "gzip"}
        async with posted(running, "/v1/chat/completions", packed, **headers) as response:
            assert response.headers["x-apprentice-route"] == "upstream"
    assert upstream.requests[0][3] == packed


# --- sizes, pace, connections ---------------------------------------------------------


async def test_two_megabytes_pass_both_ways(settings: Settings, upstream: Upstream) -> None:
    large = os.urandom(1_000_000).hex().encode()

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=large)

    upstream.handler = handler
    sent = json.dumps(body(large.decode())).encode()
    assert len(sent) > 2_000_000
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, "/v1/chat/completions", sent) as response:
            assert await response.read() == large
    assert upstream.requests[0][3] == sent


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
async def test_a_body_without_a_length_is_cut_off_at_the_limit(
    settings: Settings, upstream: Upstream, path: str
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 400_000_000:
            yield b"x" * 65_536
            sent += 65_536

    async with sidecar(settings, upstream.url) as running:
        with contextlib.suppress(aiohttp.ClientError):
            async with posted(running, path, endless()) as response:
                assert response.status == 413
        assert (await ask_health(running)) == {}
    assert sent < 100_000_000
    assert upstream.requests == []


async def ask_health(running: Sidecar) -> dict[str, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/healthz") as response:
            problems: dict[str, str] = (await response.json())["problems"]
            return problems


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_slow_client_slows_the_upstream_down_instead_of_filling_memory(
    settings: Settings, upstream: Upstream, path: str
) -> None:
    total, piece = 300_000_000, b"data: " + b"x" * 99_992 + b"\n\n"
    written, blocked_since = 0, 0.0
    finished = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal written, blocked_since
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while written < total:
            blocked_since = time.monotonic()
            await response.write(piece)
            written += len(piece)
        finished.set()
        return response

    async def stalled() -> None:
        """Wait until nothing has moved for a while, or everything has."""
        while not finished.is_set() and not (written and time.monotonic() - blocked_since > 0.5):
            await asyncio.sleep(0.02)

    upstream.handler = handler
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, path, json.dumps(body(stream=True))) as response:
            await asyncio.wait_for(stalled(), DEADLINE)
            # What the kernel's socket buffers take, and little more.
            assert written < 40_000_000
            received = 0
            async for part in response.content.iter_any():
                received += len(part)
    assert received == written == total


async def test_connections_to_the_upstream_are_kept_and_used_again(
    settings: Settings, upstream: Upstream
) -> None:
    async def ask(running: Sidecar) -> None:
        for stream in (False, True, False):
            data = json.dumps(body(stream=stream))
            async with posted(running, "/v1/chat/completions", data) as response:
                await response.read()
        async with posted(running, "/v1/embeddings", b"{}") as response:
            await response.read()

    async with sidecar(settings, upstream.url) as running:
        for _ in range(5):
            await ask(running)
        assert len(upstream.connections) == 1
        await asyncio.gather(*(ask(running) for _ in range(6)))
        assert len(upstream.connections) <= 6
    assert len(upstream.requests) == 44


async def test_a_stream_that_was_left_early_does_not_spoil_a_kept_connection(
    settings: Settings, upstream: Upstream
) -> None:
    upstream.handler = streaming(b"data: half\n\n" * 50_000)
    async with sidecar(settings, upstream.url) as running:
        async with posted(running, "/v1/chat/completions", json.dumps(body())) as response:
            await response.content.readany()
        upstream.handler = None
        for _ in range(3):
            async with posted(running, "/v1/chat/completions", json.dumps(body())) as response:
                assert json.loads(await response.read())["id"] == "u"


# --- times ----------------------------------------------------------------------------


async def test_an_answer_that_falls_silent_is_given_up(
    settings: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(3):
            await response.write(b"data: something\n\n")
            await asyncio.sleep(0.05)
        await asyncio.sleep(DEADLINE)
        return response

    upstream.handler = handler
    async with sidecar(settings, upstream.url, idle_timeout=0.3) as running:
        began = time.monotonic()
        with pytest.raises(aiohttp.ClientPayloadError):
            async with posted(running, "/v1/chat/completions", json.dumps(body())) as response:
                await response.read()
        assert time.monotonic() - began < DEADLINE / 2


@pytest.mark.parametrize("begun", [True, False], ids=["in the middle", "before it begins"])
async def test_no_answer_takes_longer_than_the_whole_time_allowed(
    settings: Settings, upstream: Upstream, begun: bool
) -> None:
    cancelled = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        try:
            if begun:
                await response.prepare(request)
                while True:
                    await response.write(b"data: still here\n\n")
                    await asyncio.sleep(0.02)
            await asyncio.sleep(DEADLINE)
        except (asyncio.CancelledError, ConnectionError):
            cancelled.set()
            raise
        return response

    upstream.handler = handler
    async with sidecar(settings, upstream.url, total_timeout=0.5) as running:
        async with posted(running, "/v1/chat/completions", json.dumps(body())) as response:
            if begun:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            else:
                assert response.status == 504
                error = json.loads(await response.read())["error"]
                assert error["code"] == "upstream_timeout"
        await asyncio.wait_for(cancelled.wait(), DEADLINE)
        assert running.parts.metrics.in_flight == 0


# --- what the sidecar writes itself, read by the real OpenAI client --------------------


@asynccontextmanager
async def client_of(running: Sidecar) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{running.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-x", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("include_usage", [True, False, None])
async def test_the_openai_client_reads_our_stream(
    settings: Settings, upstream: Upstream, include_usage: bool | None
) -> None:
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    async with sidecar(settings, upstream.url, {ASKED: ANSWER}) as running:
        async with client_of(running) as client:
            stream = await client.chat.completions.create(**body(), stream=True, **options)
            chunks = [chunk async for chunk in stream]
    with_choice = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in with_choice) == ANSWER
    assert with_choice[0].choices[0].delta.role == "assistant"
    finishes = [chunk.choices[0].finish_reason for chunk in with_choice]
    assert finishes == [None] * (len(finishes) - 1) + ["stop"]
    assert len(with_choice) > 5  # in pieces, not at once
    assert len({chunk.id for chunk in chunks}) == 1
    assert {(chunk.model, chunk.object) for chunk in chunks} == {
        ("big-one", "chat.completion.chunk")
    }
    if include_usage:
        assert chunks[-1].choices == [] and chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == (
            chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens
        )
        assert all(chunk.usage is None for chunk in chunks[:-1])
    else:
        assert all(chunk.usage is None for chunk in chunks) and len(chunks) == len(with_choice)
    assert upstream.requests == []


async def test_the_openai_clients_own_accumulator_accepts_our_stream(
    settings: Settings, upstream: Upstream
) -> None:
    async with sidecar(settings, upstream.url, {ASKED: ANSWER}) as running:
        async with client_of(running) as client:
            # The helper insists on strict tools; Hermes' kind of tools is sent above.
            wanted = {key: value for key, value in body().items() if key != "tools"}
            headers = {"x-hermes-session-id": "s", "x-hermes-api-call": "1"}
            async with client.chat.completions.stream(
                **wanted, extra_headers=headers, stream_options={"include_usage": True}
            ) as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_completion()
    assert final.choices[0].message.content == ANSWER
    assert (final.choices[0].finish_reason, final.model) == ("stop", "big-one")
    assert final.usage is not None and final.usage.completion_tokens > 0
    assert kinds.count("content.done") == 1
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("wish", "who"),
    [
        ({"n": 1}, "specialist"),
        ({"n": 2}, "upstream"),
        ({"response_format": {"type": "text"}}, "specialist"),
        ({"response_format": {"type": "json_object"}}, "upstream"),
        ({"tool_choice": "auto", "parallel_tool_calls": True}, "specialist"),
        ({"tool_choice": "required"}, "upstream"),
        ({"temperature": 0.2, "seed": 7, "user": "ann", "store": False}, "specialist"),
        ({"logprobs": True}, "upstream"),
        ({"reasoning_effort": "low"}, "specialist"),
    ],
)
async def test_the_openai_client_gets_what_it_wishes_for(
    settings: Settings, upstream: Upstream, wish: dict[str, Any], who: str
) -> None:
    async with sidecar(settings, upstream.url, {ASKED: "a bug"}) as running:
        async with client_of(running) as client:
            raw = await client.chat.completions.with_raw_response.create(**body(), **wish)
    found = raw.parse()
    assert raw.headers["x-apprentice-route"] == who
    assert len(found.choices) == 1 and found.choices[0].finish_reason == "stop"
    content = {"specialist": "a bug", "upstream": "from above"}[who]
    assert found.choices[0].message.content == content
    if who == "specialist":
        assert found.choices[0].message.tool_calls is None
        assert found.usage is not None and found.usage.total_tokens > 0


async def test_the_openai_client_raises_what_the_upstream_says(
    settings: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.Response:
        error = {"error": {"message": "slow down", "type": "rate", "code": "rate_limited"}}
        return web.json_response(error, status=429, headers={"retry-after": "3"})

    upstream.handler = handler
    async with sidecar(settings, upstream.url) as running, client_of(running) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            await client.chat.completions.create(**body(), stream=True)
    assert raised.value.code == "rate_limited"
    assert raised.value.response.headers["retry-after"] == "3"
