"""The sidecar over real sockets, in front of an upstream that the test controls."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from yarl import URL

from hermes_apprentice.domain.money import Price
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Abstain, Answer, Stage
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.router.matcher import PatternMatcher
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.router.specialists import REST_SECONDS, Loaded
from hermes_apprentice.settings import BudgetSettings, ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.spending import add_spending
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

ASKED = "Label this ticket: the app crashes when I open it."
TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
PRICE = Price(
    model="big-one",
    input=3_000_000,
    cached_input=300_000,
    output=15_000_000,
    source="invented",
    as_of="2026-01-01",
)
DEADLINE = 10.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def completion(text: str = "bug") -> dict[str, Any]:
    return {
        "id": "chatcmpl-up",
        "object": "chat.completion",
        "created": 1,
        "model": "big-one",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103},
        "x_unknown": {"kept": [1.50, "ü"]},
    }


@dataclass
class Upstream:
    """What the upstream got, and what it does."""

    url: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    handler: Handler | None = None
    answer: str = "bug"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.raw_path, headers, body))
        if self.handler is not None:
            return await self.handler(request)
        return web.json_response(completion(self.answer))


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()
    app = web.Application(client_max_size=50_000_000)
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/v1"
    yield found
    await runner.cleanup()


@pytest.fixture
def configured(settings: Settings, upstream: Upstream) -> Settings:
    """Settings for a sidecar in front of the test's upstream."""
    return pointing_at(settings, upstream.url)


def pointing_at(settings: Settings, url: str, **changes: Any) -> Settings:
    values = {"base_url": url, "api_key_env": "", "connect_timeout": 2, **changes}
    return settings.model_copy(
        update={
            "upstream": UpstreamSettings(**values),
            "server": ServerSettings(port=0),
            # Drawn by chance, an audit would add an entry to one test in fifty.
            "rollout": settings.rollout.model_copy(update={"audit_share": 0.0}),
        }
    )


@asynccontextmanager
async def sidecar(
    settings: Settings,
    runtime: Any = None,
    *,
    stage: Stage = Stage.LIVE,
    share: float = 1.0,
    matcher: PatternMatcher | None = None,
) -> AsyncIterator[Sidecar]:
    """A sidecar with one specialist, or with none."""
    loaded: tuple[Loaded, ...] = ()
    if runtime is not None:
        loaded = (Loaded(slug="label-ticket", version=1, shape=SHAPE, runtime=runtime),)
        put_in_stage(settings.database_path, "label-ticket", stage, share)
    source = FakeSource(matcher or FakeMatcher({ASKED: "label-ticket"}), *loaded)
    async with running_sidecar(
        settings, source=source, price_of=lambda model: PRICE if model == "big-one" else None
    ) as found:
        yield found


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


@asynccontextmanager
async def posted(
    url: str, value: Any, **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientResponse, bytes]]:
    data = io.BytesIO(value if isinstance(value, bytes) else json.dumps(value).encode())
    options.setdefault("headers", {"content-type": "application/json"})
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.post(f"{url}/v1/chat/completions", data=data, **options) as response:
            yield response, await response.read()


async def ledger(running: Sidecar, settings: Settings) -> list[dict[str, Any]]:
    assert await running.parts.recorder.write()
    with Database(settings.database_path) as database:
        return [dict(row) for row in database.read("SELECT * FROM ledger ORDER BY entry_id")]


async def comparisons(running: Sidecar, settings: Settings) -> list[dict[str, Any]]:
    async with asyncio.timeout(DEADLINE):
        await running.parts.shadow.settle()
    assert await running.parts.recorder.write()
    with Database(settings.database_path) as database:
        return [dict(row) for row in database.read("SELECT * FROM comparisons")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


# --- what passes through --------------------------------------------------------------


async def test_a_request_and_its_answer_pass_byte_for_byte(
    configured: Settings, upstream: Upstream
) -> None:
    answer = b'{ "odd":  [1.50, "\\u00fc"],\n "usage": null }'

    async def handler(request: web.Request) -> web.Response:
        headers = {"content-type": "application/json; odd=1", "x-upstream": "yes"}
        return web.Response(body=answer, headers=headers)

    upstream.handler = handler
    sent = b'{"model":"big-one" , "messages":[],"x_new":{"a":[1.0,null]},  "seed":7}'
    async with sidecar(configured) as running, posted(running.url, sent) as (response, received):
        assert received == answer
        assert response.headers["content-type"] == "application/json; odd=1"
        assert response.headers["x-upstream"] == "yes"
        assert response.headers["x-apprentice-route"] == "upstream"
        assert float(response.headers["x-apprentice-overhead-ms"]) < 1_000
    assert [request[3] for request in upstream.requests] == [sent]


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 529])
async def test_an_error_of_the_upstream_passes_with_status_headers_and_body(
    configured: Settings, upstream: Upstream, status: int
) -> None:
    async def handler(request: web.Request) -> web.Response:
        text = '{"error": {"message": "as the upstream says", "code": 7}}'
        headers = {"retry-after": "7", "content-type": "application/json"}
        return web.Response(status=status, text=text, headers=headers)

    upstream.handler = handler
    async with sidecar(configured) as running, posted(running.url, body()) as (response, text):
        assert response.status == status
        assert response.headers["retry-after"] == "7"
        assert json.loads(text)["error"]["code"] == 7
    assert len(upstream.requests) == 1  # an answer is an answer: nothing is asked twice


async def test_keys_and_our_headers_do_not_pass(settings: Settings, upstream: Upstream) -> None:
    from pydantic import SecretStr

    keyed = pointing_at(settings, upstream.url).model_copy(
        update={"upstream_api_key": SecretStr("sk-configured")}
    )
    headers = {
        "authorization": "Bearer sk-client",
        "x-api-key": "sk-client",
        "cookie": "a=sk-client",
        "x-apprentice-tenant": "ann",
        "x-hermes-session-id": "20260901_080000_aaaaaa",
        "x-kept": "yes",
    }
    async with sidecar(keyed) as running, posted(running.url, body(), headers=headers):
        pass
    received = upstream.requests[0][2]
    assert received["authorization"] == "Bearer sk-configured"
    assert received["x-kept"] == "yes"
    assert "sk-client" not in json.dumps(received)
    assert not any(name.startswith(("x-apprentice", "x-hermes")) for name in received)


async def test_a_stream_arrives_piece_by_piece(configured: Settings, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"content": "one"}}]}\n\n')
        await asyncio.wait_for(go_on.wait(), DEADLINE)
        await response.write(b"data: [DONE]\n\n")
        return response

    upstream.handler = handler
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/v1/chat/completions"
        async with session.post(url, json=body(stream=True)) as response:
            first = await asyncio.wait_for(response.content.readany(), DEADLINE)
            assert b"one" in first and b"DONE" not in first
            go_on.set()
            assert b"[DONE]" in await asyncio.wait_for(response.content.read(), DEADLINE)


async def test_a_compressed_answer_passes_as_it_is_and_its_tokens_are_counted(
    configured: Settings, upstream: Upstream
) -> None:
    packed = gzip.compress(json.dumps(completion()).encode())

    async def handler(request: web.Request) -> web.Response:
        assert request.headers["accept-encoding"] == "gzip"
        return web.Response(body=packed, headers={"content-encoding": "gzip"})

    upstream.handler = handler
    headers = {"accept-encoding": "gzip, br"}
    async with sidecar(configured) as running:
        async with posted(running.url, body(), headers=headers) as (response, received):
            assert response.headers["content-encoding"] == "gzip"
            assert received == packed
        row = (await ledger(running, configured))[0]
    assert (row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (100, 3, 0)


async def test_anything_else_below_v1_passes(configured: Settings, upstream: Upstream) -> None:
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        url = URL(f"{running.url}/v1/odd%2Fname?a=%2F&b=1", encoded=True)
        async with session.put(url, data=b"\x00\xff") as response:
            assert response.status == 200
            assert response.headers["x-apprentice-route"] == "upstream"
        async with session.get(f"{running.url}/nothing/here") as response:
            assert response.status == 404
    assert upstream.requests[0][:2] == ("PUT", "/v1/odd%2Fname?a=%2F&b=1")
    assert upstream.requests[0][3] == b"\x00\xff"


@pytest.mark.parametrize("path", ["/v1%2F@127.0.0.1:9/x", "/v1%2Ffiles", "/%76%31/files"])
async def test_an_encoded_prefix_is_no_part_of_the_upstreams_address(
    settings: Settings, upstream: Upstream, path: str
) -> None:
    bare = pointing_at(settings, upstream.url.removesuffix("/v1"))
    async with sidecar(bare) as running, aiohttp.ClientSession() as session:
        async with session.post(URL(running.url + path, encoded=True), data=b"{}") as response:
            assert response.status == 404
    assert upstream.requests == []


async def test_a_body_that_is_too_long_ends_its_connection(
    configured: Settings, upstream: Upstream
) -> None:
    small = configured.model_copy(
        update={"server": ServerSettings(port=0, max_body_bytes=1_000_000)}
    )
    async with sidecar(small) as running:
        for path in ("/v1/embeddings", "/v1/chat/completions"):
            port = URL(running.url).port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                "content-length: 999999999\r\n\r\n".encode()
            )
            # Nobody reads the rest, so nothing else may come this way.
            answer = await asyncio.wait_for(reader.read(), DEADLINE)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 413"), path
    assert upstream.requests == []


async def test_who_watches_over_the_process_may_ask_with_head(configured: Settings) -> None:
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        async with session.head(f"{running.url}/healthz") as response:
            assert response.status == 200
        async with session.head(f"{running.url}/apprentice/reload") as response:
            assert response.status == 404


async def test_a_large_request_passes(configured: Settings, upstream: Upstream) -> None:
    large = body("x" * 3_000_000)
    async with sidecar(configured) as running, posted(running.url, large) as (response, _):
        assert response.status == 200
    assert json.loads(upstream.requests[0][3]) == large


async def test_another_model_name_can_be_set(settings: Settings, upstream: Upstream) -> None:
    named = pointing_at(settings, upstream.url, model="vendor/real")
    async with sidecar(named) as running:
        async with posted(running.url, body()):
            pass
        assert (await ledger(running, named))[0]["model"] == "vendor/real"
    assert json.loads(upstream.requests[0][3]) == body(model="vendor/real")


async def test_a_client_that_hangs_up_cancels_the_upstream_call(
    configured: Settings, upstream: Upstream
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        started.set()
        try:
            while True:
                await response.write(b": still thinking\n\n")
                await asyncio.sleep(0.02)
        except (asyncio.CancelledError, ConnectionError):
            cancelled.set()
            raise

    upstream.handler = handler
    async with sidecar(configured) as running:
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/v1/chat/completions"
            response = await session.post(url, json=body(stream=True))
            await asyncio.wait_for(started.wait(), DEADLINE)
            response.close()
        await asyncio.wait_for(cancelled.wait(), DEADLINE)
        await until(lambda: running.parts.recorder.waiting > 0)
        row = (await ledger(running, configured))[0]
        assert (row["status"], row["reason"], row["estimated"]) == (499, "hang_up", 1)
        await until(lambda: running.parts.metrics.in_flight == 0)


async def test_a_client_that_hangs_up_before_the_answer_begins_cancels_it_too(
    configured: Settings, upstream: Upstream
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        started.set()
        try:
            await asyncio.sleep(DEADLINE)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return web.Response()

    upstream.handler = handler
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/v1/chat/completions"
        task = asyncio.create_task(session.post(url, json=body()))
        await asyncio.wait_for(started.wait(), DEADLINE)
        task.cancel()
        await asyncio.wait_for(cancelled.wait(), DEADLINE)
    assert cancelled.is_set()


# --- when the upstream fails ----------------------------------------------------------


async def test_an_unreachable_upstream_gives_a_clear_error(settings: Settings) -> None:
    async with sidecar(pointing_at(settings, "http://127.0.0.1:9/v1")) as running:
        async with posted(running.url, body()) as (response, text):
            assert response.status == 502
            error = json.loads(text)["error"]
            assert error["code"] == "upstream_unreachable"
            assert "127.0.0.1:9" in error["message"]
        rows = await ledger(running, settings)
    assert [(row["status"], row["reason"], row["cost"]) for row in rows] == [
        (502, "unreachable", 0)
    ]


async def test_an_upstream_that_comes_back_is_used_at_once(
    settings: Settings, unused_tcp_port: int
) -> None:
    down = pointing_at(settings, f"http://127.0.0.1:{unused_tcp_port}/v1")
    async with sidecar(down) as running:
        for _ in range(3):
            async with posted(running.url, body()) as (response, _):
                assert response.status == 502

        async def answer(request: web.Request) -> web.Response:
            return web.json_response(completion())

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
            async with posted(running.url, body()) as (response, _):
                assert response.status == 200
        finally:
            await runner.cleanup()


async def test_an_upstream_that_says_nothing_times_out(settings: Settings) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    quick = pointing_at(settings, f"http://127.0.0.1:{port}/v1", first_byte_timeout=0.2)
    async with server, sidecar(quick) as running:
        async with posted(running.url, body()) as (response, text):
            assert response.status == 504
            assert json.loads(text)["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 500\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n",
    ],
    ids=["with a length", "in chunks"],
)
async def test_an_answer_that_breaks_off_reaches_the_client_as_broken(
    settings: Settings, head: bytes
) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + head + b"da")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(breaks, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cut = pointing_at(settings, f"http://127.0.0.1:{port}/v1")
    async with server, sidecar(cut) as running:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with posted(running.url, body(stream=True)):
                pass
        assert (await ledger(running, cut))[0]["reason"] == "cut"


async def test_a_kept_connection_that_went_stale_costs_no_request(settings: Settings) -> None:
    text = json.dumps(completion()).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)
    served = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of a connection, and hang up on the second."""
        nonlocal served
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if number == 0:
                served += 1
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sidecar(pointing_at(settings, f"http://127.0.0.1:{port}/v1")) as running:
        for _ in range(3):
            async with posted(running.url, body()) as (response, _):
                assert response.status == 200
    assert served == 3


async def test_many_kept_connections_that_went_stale_together_cost_no_request(
    settings: Settings,
) -> None:
    text = json.dumps(completion()).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)
    together, connections = asyncio.Barrier(4), 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request of a connection, the first four at once; then hang up."""
        nonlocal connections
        connections += 1
        early = connections <= 4
        for number in range(2):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if number == 0:
                if early:
                    await together.wait()
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def ask(url: str) -> int:
        async with posted(url, body()) as (response, _):
            return response.status

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sidecar(pointing_at(settings, f"http://127.0.0.1:{port}/v1")) as running:
        async with asyncio.timeout(DEADLINE):
            assert await asyncio.gather(*[ask(running.url) for _ in range(4)]) == [200] * 4
            assert await ask(running.url) == 200


# --- bad requests ---------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 5_000])
async def test_a_body_that_is_no_json_object_gets_a_clear_error(
    configured: Settings, upstream: Upstream, data: bytes
) -> None:
    async with sidecar(configured) as running, posted(running.url, data) as (response, text):
        assert response.status == 400
        assert json.loads(text)["error"]["code"] == "invalid_json"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b'{"model": "big-one", "temperature": NaN, "messages": []}',
        b'{"model": "big-one", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"model": 5, "messages": {"role": []}}',
    ],
)
async def test_a_body_that_only_some_parsers_accept_is_the_upstreams_to_judge(
    configured: Settings, upstream: Upstream, data: bytes
) -> None:
    async with sidecar(configured) as running, posted(running.url, data) as (response, _):
        assert response.status == 200
        await ledger(running, configured)
    assert upstream.requests[0][3] == data


async def test_a_body_that_is_too_long_is_refused(configured: Settings, upstream: Upstream) -> None:
    small = configured.model_copy(
        update={"server": ServerSettings(port=0, max_body_bytes=1_000_000)}
    )
    async with sidecar(small) as running:
        async with posted(running.url, b"x" * 1_000_001) as (response, text):
            assert response.status == 413
            assert "max_body_bytes" in json.loads(text)["error"]["message"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.test"},
        {"host": "evil.test:80@127.0.0.1:80:80"},
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_web_pages_cannot_use_the_sidecar(
    configured: Settings, upstream: Upstream, headers: dict[str, str]
) -> None:
    async with sidecar(configured) as running:
        async with posted(running.url, body(), headers=headers) as (response, _):
            assert response.status == 403
    assert upstream.requests == []


async def test_a_missing_key_shows_in_the_health(settings: Settings, upstream: Upstream) -> None:
    keyless = pointing_at(settings, upstream.url, api_key_env="SOME_API_KEY")
    async with sidecar(keyless) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/healthz") as response:
            problems = (await response.json())["problems"]
    assert "SOME_API_KEY" in problems["upstream_key"]


# --- specialists ----------------------------------------------------------------------


async def test_a_live_specialist_answers_the_real_openai_client_in_a_stream(
    configured: Settings, upstream: Upstream
) -> None:
    async with (
        sidecar(configured, FakeRuntime({ASKED: "bug"})) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-x", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(
            **body(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "bug"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 1
    assert {chunk.model for chunk in chunks} == {"big-one"}
    assert upstream.requests == []


async def test_a_live_specialist_answers_the_real_openai_client_at_once(
    configured: Settings, upstream: Upstream
) -> None:
    async with (
        sidecar(configured, FakeRuntime({ASKED: "bug"})) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-x", max_retries=0) as client,
    ):
        raw = await client.chat.completions.with_raw_response.create(**body())
        row = (await ledger(running, configured))[0]
    assert raw.parse().choices[0].message.content == "bug"
    assert raw.headers["x-apprentice-route"] == "specialist"
    assert raw.headers["x-apprentice-specialist"] == "label-ticket"
    assert raw.headers["x-apprentice-version"] == "1"
    assert (row["route"], row["slug"], row["version"], row["cost"]) == (
        "specialist",
        "label-ticket",
        1,
        0,
    )
    assert row["saved"] > 0 and row["estimated"] == 1
    assert upstream.requests == []


async def test_without_a_price_nothing_is_claimed_to_be_saved(
    configured: Settings, upstream: Upstream
) -> None:
    async with sidecar(configured, FakeRuntime({ASKED: "bug"})) as running:
        async with posted(running.url, body(model="unpriced")):
            pass
        async with posted(running.url, body("something else", model="unpriced")):
            pass
        answered, passed = await ledger(running, configured)
    assert (answered["cost"], answered["saved"]) == (0, None)
    assert (passed["cost"], passed["saved"]) == (None, None)


async def test_the_upstreams_own_counts_are_charged(
    configured: Settings, upstream: Upstream
) -> None:
    async with sidecar(configured) as running:
        async with posted(running.url, body()):
            pass
        row = (await ledger(running, configured))[0]
    assert (row["cost"], row["saved"], row["estimated"]) == (100 * 3 + 3 * 15, None, 0)
    assert (row["call_kind"], row["route"]) == ("first", "upstream")


async def test_continuations_and_wishes_of_their_own_never_reach_a_specialist(
    configured: Settings, upstream: Upstream
) -> None:
    runtime = FakeRuntime({ASKED: "bug"})
    continued = body()
    continued["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
    ]
    async with sidecar(configured, runtime) as running:
        for value in (continued, body(n=2), body(response_format={"type": "json_object"})):
            async with posted(running.url, value) as (response, _):
                assert response.headers["x-apprentice-route"] == "upstream"
        rows = await ledger(running, configured)
    assert runtime.asked == []
    assert [row["reason"] for row in rows] == ["kind", "several_answers", "response_format"]


class Misbehaving:
    """A runtime that does what it is told, however wrong."""

    def __init__(self, act: Callable[[], Awaitable[Any]]) -> None:
        self._act = act

    async def answer(self, request: str, encoding: Encoding | None = None) -> Any:
        return await self._act()

    def close(self) -> None:
        pass


async def raises() -> Any:
    raise RuntimeError("broken model")


async def hangs() -> Any:
    await asyncio.sleep(60)


async def abstains() -> Any:
    return Abstain(reason="confidence", confidence=0.2)


async def says_what_is_no_label() -> Any:
    return Answer(text="I think it may be a bug", confidence=1.0)


async def says_nothing_sendable() -> Any:
    return Answer(text="\ud800", confidence=1.0)


async def returns_garbage() -> Any:
    return {"text": "bug"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (raises, "error"),
        (hangs, "deadline"),
        (abstains, "confidence"),
        (says_what_is_no_label, "invalid"),
        (says_nothing_sendable, "invalid"),
        (returns_garbage, "invalid"),
    ],
)
async def test_whatever_a_specialist_does_the_upstream_answers_the_same_request(
    configured: Settings,
    upstream: Upstream,
    act: Callable[[], Awaitable[Any]],
    reason: str,
    stream: bool,
) -> None:
    rollout = configured.rollout.model_copy(update={"deadline_seconds": 0.2})
    quick = configured.model_copy(update={"rollout": rollout})
    sent = body(stream=stream)
    async with sidecar(quick, Misbehaving(act)) as running:
        async with posted(running.url, sent) as (response, text):
            assert response.status == 200
            assert response.headers["x-apprentice-route"] == "fallback"
            assert response.headers["x-apprentice-specialist"] == "label-ticket"
            assert json.loads(text)["id"] == "chatcmpl-up"
        row = (await ledger(running, quick))[0]
        noted = await comparisons(running, quick)
    assert (row["route"], row["reason"], row["slug"]) == ("fallback", reason, "label-ticket")
    assert [(one["agreed"], one["answered"], one["reason"]) for one in noted] == [(None, 0, reason)]
    assert json.loads(upstream.requests[0][3]) == sent


@pytest.mark.parametrize(
    ("act", "reason", "words"),
    [
        (raises, "error", "it raised an error"),
        (hangs, "deadline", "it did not answer in time"),
        (returns_garbage, "invalid", "it gave an invalid answer"),
        (says_what_is_no_label, "invalid", "it gave an invalid answer"),
    ],
)
async def test_a_specialist_that_keeps_failing_is_left_alone_for_a_while_and_named(
    configured: Settings,
    upstream: Upstream,
    act: Callable[[], Awaitable[Any]],
    reason: str,
    words: str,
) -> None:
    rollout = configured.rollout.model_copy(update={"deadline_seconds": 0.2})
    quick = configured.model_copy(update={"rollout": rollout})
    began = time.time()
    async with sidecar(quick, Misbehaving(act)) as running:
        for _ in range(5):
            async with posted(running.url, body()) as (response, _):
                assert response.status == 200
        reasons = [row["reason"] for row in await ledger(running, quick)]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{running.url}/healthz") as response:
                health = await response.json()
    assert reasons == [reason] * 3 + ["specialist_resting"] * 2
    assert health["status"] == "degraded"
    told = health["problems"]["label-ticket"]
    assert words in told and "rests until" in told and "UTC" in told
    rest = health["specialists"][0]["resting"]
    assert rest["reason"] == words
    assert began < rest["until"] <= time.time() + REST_SECONDS


async def test_a_specialist_that_is_well_again_is_not_named_any_more(
    configured: Settings, upstream: Upstream
) -> None:
    class Fickle(FakeRuntime):
        ill = True

        async def answer(self, request: str, encoding: Encoding | None = None) -> Any:
            return 7 if self.ill else await super().answer(request, encoding)

    runtime = Fickle({ASKED: "bug"})
    async with sidecar(configured, runtime) as running:
        for _ in range(3):
            async with posted(running.url, body()) as (response, _):
                assert response.headers["x-apprentice-route"] == "fallback"
        assert "label-ticket" in running.parts.specialists.problems
        runtime.ill = False
        # As after the rest: the next request may try.
        running.parts.specialists.now.loading.specialists["label-ticket"].breaker.gave_up()
        async with posted(running.url, body()) as (response, _):
            assert response.headers["x-apprentice-route"] == "specialist"
        assert running.parts.specialists.problems == {}


async def test_an_answer_longer_than_allowed_is_the_upstreams(
    configured: Settings, upstream: Upstream
) -> None:
    async with sidecar(configured, FakeRuntime({ASKED: "billing"})) as running:
        async with posted(running.url, body(max_tokens=1)) as (response, _):
            assert response.headers["x-apprentice-route"] == "fallback"


async def test_a_matcher_that_fails_costs_no_answer(
    configured: Settings, upstream: Upstream
) -> None:
    class Broken(FakeMatcher):
        async def match(self, request: str, turn_index: int) -> Any:
            raise RuntimeError("no embedder")

    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime, matcher=Broken({})) as running:
        for _ in range(4):
            async with posted(running.url, body()) as (response, _):
                assert response.status == 200
        reasons = [row["reason"] for row in await ledger(running, configured)]
    assert reasons == ["matcher_failed"] * 3 + ["matcher_resting"]


# --- shadow, canary, audits -----------------------------------------------------------


@pytest.mark.parametrize(("answer", "agreed"), [("bug", 1), (" BUG\n", 1), ("billing", 0)])
async def test_in_shadow_the_upstream_answers_and_the_specialist_is_compared(
    configured: Settings, upstream: Upstream, answer: str, agreed: int
) -> None:
    upstream.answer = answer
    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime, stage=Stage.SHADOW) as running:
        async with posted(running.url, body()) as (response, text):
            assert response.headers["x-apprentice-route"] == "upstream"
            assert json.loads(text) == completion(answer)
        noted = await comparisons(running, configured)
    assert [(one["origin"], one["agreed"], one["answered"]) for one in noted] == [
        ("shadow", agreed, 1)
    ]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("act", "reason"), [(raises, "error"), (hangs, "deadline"), (abstains, "confidence")]
)
async def test_a_shadow_without_an_answer_is_missing_data_and_no_disagreement(
    configured: Settings, upstream: Upstream, act: Callable[[], Awaitable[Any]], reason: str
) -> None:
    rollout = configured.rollout.model_copy(update={"deadline_seconds": 0.1})
    quick = configured.model_copy(update={"rollout": rollout})
    async with sidecar(quick, Misbehaving(act), stage=Stage.SHADOW) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        noted = await comparisons(running, quick)
    assert [(one["agreed"], one["answered"], one["reason"]) for one in noted] == [(None, 0, reason)]


async def test_an_upstream_without_an_answer_is_missing_data_too(
    configured: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "busy"}}, status=503)

    upstream.handler = handler
    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime, stage=Stage.SHADOW) as running:
        async with posted(running.url, body()):
            pass
        noted = await comparisons(running, configured)
    assert [(one["agreed"], one["reason"]) for one in noted] == [(None, "no_upstream_answer")]


async def test_an_upstream_that_calls_tools_disagrees_with_any_text(
    configured: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.Response:
        answer = completion()
        answer["choices"][0] = {
            "message": {"content": None, "tool_calls": [{"id": "1"}]},
            "finish_reason": "tool_calls",
        }
        return web.json_response(answer)

    upstream.handler = handler
    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime, stage=Stage.SHADOW) as running:
        async with posted(running.url, body()):
            pass
        noted = await comparisons(running, configured)
    assert [(one["agreed"], one["reason"]) for one in noted] == [(0, "tools")]


async def test_a_slow_shadow_does_not_hold_the_answer_up(
    configured: Settings, upstream: Upstream
) -> None:
    go_on = asyncio.Event()

    async def waits() -> Any:
        await asyncio.wait_for(go_on.wait(), DEADLINE)
        return Answer(text="bug", confidence=1.0)

    rollout = configured.rollout.model_copy(update={"deadline_seconds": DEADLINE})
    patient = configured.model_copy(update={"rollout": rollout})
    async with sidecar(patient, Misbehaving(waits), stage=Stage.SHADOW) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200  # although the specialist is still waiting
        go_on.set()
        noted = await comparisons(running, patient)
    assert [one["agreed"] for one in noted] == [1]


async def test_sessions_stay_on_their_side_of_a_canary(
    configured: Settings, upstream: Upstream
) -> None:
    async with sidecar(
        configured, FakeRuntime({ASKED: "bug"}), stage=Stage.CANARY, share=0.5
    ) as running:
        routes: dict[str, set[str]] = {}
        for number in range(30):
            session = f"session-{number}"
            for _ in range(2):
                headers = {"x-hermes-session-id": session, "x-hermes-api-call": "1"}
                async with posted(running.url, body(), headers=headers) as (response, _):
                    route = response.headers["x-apprentice-route"]
                    routes.setdefault(session, set()).add(route)
    assert all(len(seen) == 1 for seen in routes.values())
    assert {route for seen in routes.values() for route in seen} == {"specialist", "upstream"}


async def test_an_audit_asks_the_upstream_as_well_and_is_paid(
    configured: Settings, upstream: Upstream
) -> None:
    upstream.answer = "billing"
    rollout = configured.rollout.model_copy(update={"audit_share": 1.0})
    audited = configured.model_copy(update={"rollout": rollout})
    async with sidecar(audited, FakeRuntime({ASKED: "bug"})) as running:
        sent = body(stream=True, stream_options={"include_usage": True})
        async with posted(running.url, sent) as (response, text):
            assert response.headers["x-apprentice-route"] == "specialist"
            assert b"bug" in text
        noted = await comparisons(running, audited)
        answered, audit = await ledger(running, audited)
    assert [(one["origin"], one["agreed"], one["answered"]) for one in noted] == [("audit", 0, 1)]
    assert (audit["route"], audit["request_id"]) == ("audit", answered["request_id"])
    assert audit["cost"] == 100 * 3 + 3 * 15
    asked = json.loads(upstream.requests[0][3])
    assert asked["stream"] is False and "stream_options" not in asked


@pytest.mark.parametrize(
    ("named", "switched_on", "kept"),
    [("20260901_080000_aaaaaa", True, True), ("", True, False), ("s1", False, False)],
)
async def test_what_the_upstream_said_in_an_audit_is_kept_with_its_session(
    configured: Settings, upstream: Upstream, named: str, switched_on: bool, kept: bool
) -> None:
    upstream.answer = "billing"
    rollout = configured.rollout.model_copy(
        update={"audit_share": 1.0, "keep_audited": switched_on}
    )
    audited = configured.model_copy(update={"rollout": rollout})
    headers = {"x-hermes-session-id": named, "x-hermes-api-call": "1"} if named else {}
    async with sidecar(audited, FakeRuntime({ASKED: "bug"})) as running:
        async with posted(running.url, body(), headers=headers) as (response, _):
            assert response.headers["x-apprentice-route"] == "specialist"
        await comparisons(running, audited)
        answered, _ = await ledger(running, audited)
    with Database(audited.database_path) as database:
        rows = database.read("SELECT request_id, session_id, answer FROM audited_answers")
    found = [(answered["request_id"], named, "billing")] if kept else []
    assert [tuple(row) for row in rows] == found


async def attempts(running: Sidecar, settings: Settings) -> list[tuple[str, float]]:
    async with asyncio.timeout(DEADLINE):
        await running.parts.shadow.settle()
    assert await running.parts.recorder.write()
    with Database(settings.database_path) as database:
        rows = database.read("SELECT outcome, took_ms FROM attempts ORDER BY attempt_id")
    return [(row["outcome"], row["took_ms"]) for row in rows]


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (raises, "error"),
        (hangs, "deadline"),
        (abstains, "confidence"),
        (says_what_is_no_label, "invalid"),
        (returns_garbage, "invalid"),
    ],
)
async def test_every_run_is_noted_with_its_outcome_and_time(
    configured: Settings,
    upstream: Upstream,
    act: Callable[[], Awaitable[Any]],
    outcome: str,
    stage: Stage,
) -> None:
    rollout = configured.rollout.model_copy(update={"deadline_seconds": 0.2})
    quick = configured.model_copy(update={"rollout": rollout})
    async with sidecar(quick, Misbehaving(act), stage=stage) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        ((noted, took),) = await attempts(running, quick)
        compared = await comparisons(running, quick)
    assert noted == outcome
    assert (took >= 190) == (outcome == "deadline")
    assert [one["agreed"] for one in compared] == [None]


async def test_the_upstream_is_asked_twice_where_that_is_wanted_and_it_is_paid(
    configured: Settings, upstream: Upstream
) -> None:
    answers = iter(["bug", "billing", "bug", "bug", "bug", "bug"])

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(completion(next(answers)))

    upstream.handler = handler
    rollout = configured.rollout.model_copy(update={"self_agreement_share": 1.0})
    curious = configured.model_copy(update={"rollout": rollout})
    async with sidecar(curious, FakeRuntime({ASKED: "bug"}), stage=Stage.SHADOW) as running:
        for _ in range(3):
            async with posted(running.url, body()) as (response, _):
                assert response.headers["x-apprentice-route"] == "upstream"
            compared = await comparisons(running, curious)
        entries = await ledger(running, curious)
        with Database(curious.database_path) as database:
            repeats = database.read("SELECT agreed, model FROM repeats")
        await running.parts.conductor.step()
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/apprentice/explain"
            async with session.get(url, params={"text": ASKED}) as response:
                explained = await response.json()
    assert [(row["agreed"], row["model"]) for row in repeats] == [
        (0, "big-one"), (1, "big-one"), (1, "big-one")
    ]  # fmt: skip
    assert [one["agreed"] for one in compared] == [1, 1, 1]
    paid = [
        (row["route"], row["reason"], row["cost"]) for row in entries if row["route"] == "audit"
    ]
    assert paid == [("audit", "repeat", 100 * 3 + 3 * 15)] * 3
    assert len(upstream.requests) == 6
    standing = explained["standing"]
    assert standing["self_agreement"] == {
        "model": "big-one", "asked": 3, "compared": 3, "agreed": 2
    }  # fmt: skip
    assert standing["target"] == curious.rollout.target_agreement


async def test_an_audited_answer_may_be_asked_twice_as_well(
    configured: Settings, upstream: Upstream
) -> None:
    shares = {"audit_share": 1.0, "self_agreement_share": 1.0}
    curious = configured.model_copy(
        update={"rollout": configured.rollout.model_copy(update=shares)}
    )
    async with sidecar(curious, FakeRuntime({ASKED: "bug"})) as running:
        async with posted(running.url, body()):
            pass
        compared = await comparisons(running, curious)
        with Database(curious.database_path) as database:
            repeats = database.read("SELECT agreed FROM repeats")
    assert [one["agreed"] for one in compared] == [1]
    assert [row["agreed"] for row in repeats] == [1]
    assert len(upstream.requests) == 2


async def test_a_used_up_budget_stops_the_second_question_and_nothing_else(
    configured: Settings, upstream: Upstream
) -> None:
    rollout = configured.rollout.model_copy(update={"self_agreement_share": 1.0})
    poor = configured.model_copy(
        update={"rollout": rollout, "budget": BudgetSettings(monthly_dollars=1)}
    )
    with Database(poor.database_path) as database, database.transaction() as connection:
        add_spending(connection, at=time.time(), purpose="training", amount=1_000_000)
    async with sidecar(poor, FakeRuntime({ASKED: "bug"}), stage=Stage.SHADOW) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        compared = await comparisons(running, poor)
    assert [one["agreed"] for one in compared] == [1]
    assert len(upstream.requests) == 1


async def test_a_specialist_that_keeps_failing_is_taken_out_and_the_upstream_goes_on(
    configured: Settings, upstream: Upstream
) -> None:
    async with sidecar(configured, Misbehaving(raises)) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.headers["x-apprentice-route"] == "fallback"
        assert await running.parts.recorder.write()
        # Failures within half a minute count once, so the others are further apart.
        with Database(configured.database_path) as database, database.transaction() as connection:
            for number in range(1, 5):
                connection.execute(
                    "INSERT INTO attempts (slug, version, at, outcome, took_ms) "
                    "VALUES ('label-ticket', 1, ?, 'error', 2.0)",
                    (time.time() + 60 * number,),
                )
        # The sidecar's own conductor may have taken the step before this one could.
        await running.parts.conductor.step()
        found = running.parts.specialists.now.rollouts["label-ticket"]
        assert found.stage is Stage.QUARANTINED
        assert "failed, timed out" in found.reason
        async with posted(running.url, body()) as (response, _):
            assert response.headers["x-apprentice-route"] == "upstream"


async def test_a_failed_audit_is_missing_data(settings: Settings) -> None:
    rollout = settings.rollout.model_copy(update={"audit_share": 1.0})
    down = pointing_at(settings, "http://127.0.0.1:9/v1").model_copy(update={"rollout": rollout})
    async with sidecar(down, FakeRuntime({ASKED: "bug"})) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        noted = await comparisons(running, down)
    assert [(one["agreed"], one["reason"]) for one in noted] == [(None, "no_upstream_answer")]


# --- when our own side is broken ------------------------------------------------------


async def test_a_broken_database_costs_no_answer_and_shows_in_the_health(
    configured: Settings, upstream: Upstream
) -> None:
    configured.home.mkdir(parents=True)
    configured.database_path.write_bytes(b"this is no database" * 100)
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        async with session.get(f"{running.url}/healthz") as response:
            health = await response.json()
    assert health["status"] == "degraded"
    assert "not an Apprentice database" in health["problems"]["rollouts"]


async def test_a_locked_database_costs_no_answer(configured: Settings, upstream: Upstream) -> None:
    async with sidecar(configured, FakeRuntime({ASKED: "bug"})) as running:
        other = sqlite3.connect(configured.database_path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            for text, route in ((ASKED, "specialist"), ("anything else", "upstream")):
                async with posted(running.url, body(text)) as (response, _):
                    assert response.status == 200
                    assert response.headers["x-apprentice-route"] == route
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert len(await ledger(running, configured)) == 2


async def test_no_request_fails_while_everything_around_it_changes(
    configured: Settings, upstream: Upstream
) -> None:
    """Stages flip, the registry fails, the database is locked, clients hang up: all at once."""
    runtime = FakeRuntime({ASKED: "bug"})
    over = asyncio.Event()

    async def change() -> None:
        specialists = running.parts.specialists
        rollout = specialists.now.rollouts["label-ticket"]
        for stage in itertools.cycle((Stage.SHADOW, Stage.RETIRED, Stage.CANARY, Stage.LIVE)):
            if over.is_set():
                return
            if stage is Stage.CANARY:
                source.available.clear()
            else:
                source.put(loaded)
            await asyncio.to_thread(save, replace(rollout, stage=stage, share=0.5))
            await specialists.refresh(force=True)

    def save(rollout: Rollout) -> None:
        with Database(configured.database_path) as database:
            with database.transaction() as connection:
                save_rollout(connection, rollout, 1.0)
                time.sleep(0.02)

    async def leave() -> None:
        while not over.is_set():
            async with aiohttp.ClientSession() as session:
                url = f"{running.url}/v1/chat/completions"
                task = asyncio.create_task(session.post(url, json=body(stream=True)))
                await asyncio.sleep(0.01)
                task.cancel()

    async def ask(number: int) -> list[tuple[int, str]]:
        found = []
        for turn in range(25):
            headers = {"x-hermes-session-id": f"s{number}-{turn}", "x-hermes-api-call": "1"}
            async with posted(running.url, body(), headers=headers) as (response, text):
                answer = json.loads(text)["choices"][0]["message"]["content"]
                found.append((response.status, answer))
        return found

    async with sidecar(configured, runtime) as running:
        source = running.parts.specialists.source
        assert isinstance(source, FakeSource)
        loaded = source.available["label-ticket", 1]
        around = [asyncio.create_task(work()) for work in (change, leave)]
        answers = await asyncio.gather(*(ask(number) for number in range(16)))
        over.set()
        await asyncio.gather(*around)
        routes = {row["route"] for row in await ledger(running, configured)}
        assert running.parts.metrics.faults == {}
    assert [one for found in answers for one in found] == [(200, "bug")] * (16 * 25)
    assert routes >= {"specialist", "upstream"}


async def test_a_malformed_price_file_costs_no_answer_and_shows_in_the_health(
    configured: Settings, upstream: Upstream
) -> None:
    configured.home.mkdir(parents=True)
    configured.prices_path.write_text("[models.'big-one']\ninput = 'free'\n")
    source = FakeSource(None)
    async with (
        running_sidecar(configured, source=source) as running,
        aiohttp.ClientSession() as session,
    ):
        async with posted(running.url, body()) as (response, _):
            assert response.status == 200
        async with session.get(f"{running.url}/healthz") as response:
            assert "prices" in (await response.json())["problems"]


async def test_a_restarted_sidecar_keeps_every_stage(
    configured: Settings, upstream: Upstream
) -> None:
    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime, stage=Stage.CANARY, share=0.25):
        pass
    loaded = Loaded(slug="label-ticket", version=1, shape=SHAPE, runtime=runtime)
    source = FakeSource(FakeMatcher({}), loaded)
    async with running_sidecar(configured, source=source) as running:
        rollout = running.parts.specialists.now.rollouts["label-ticket"]
    assert (rollout.stage, rollout.share) == (Stage.CANARY, 0.25)


async def test_nothing_is_left_running_when_the_sidecar_stops(
    configured: Settings, upstream: Upstream
) -> None:
    before = asyncio.all_tasks()
    async with sidecar(configured, FakeRuntime({ASKED: "bug"})) as running:
        async with posted(running.url, body()):
            pass
        url = running.url
    assert {task.get_name() for task in asyncio.all_tasks() - before if not task.done()} == set()
    with pytest.raises(aiohttp.ClientConnectorError):
        async with posted(url, body()):
            pass
    with Database(configured.database_path) as database:
        assert len(database.read("SELECT * FROM ledger")) == 1  # written on the way out


# --- the other endpoints --------------------------------------------------------------


async def test_models_are_listed_without_asking_the_upstream_when_its_model_is_known(
    settings: Settings,
) -> None:
    known = pointing_at(settings, "http://127.0.0.1:9/v1", model="vendor/real")
    async with sidecar(known) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/v1/models") as response:
            listed = (await response.json())["data"]
        async with session.get(f"{running.url}/v1/models/vendor%2Freal") as response:
            one = await response.json()
    assert [model["id"] for model in listed] == ["vendor/real"]
    assert listed[0]["context_length"] >= 64_000
    assert (one["id"], one["max_model_len"]) == ("vendor/real", 131_072)


async def test_otherwise_the_upstreams_list_is_asked_for_once_and_completed(
    configured: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.Response:
        models = [{"id": "a", "context_length": 200_000}, {"id": "b", "x": 1}, "odd"]
        return web.json_response({"object": "list", "data": models})

    upstream.handler = handler
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(f"{running.url}/v1/models") as response:
                listed = (await response.json())["data"]
        async with session.get(f"{running.url}/v1/models/a") as response:
            assert (await response.json())["context_length"] == 200_000
        async with session.get(f"{running.url}/v1/models/unlisted") as response:
            assert (await response.json())["context_length"] == 131_072
    assert listed == [
        {"id": "a", "context_length": 200_000},
        {"id": "b", "x": 1, "context_length": 131_072},
    ]
    assert len(upstream.requests) == 1


async def test_an_upstream_that_refuses_its_list_of_models_is_heard_in_its_own_words(
    configured: Settings, upstream: Upstream
) -> None:
    said = b'{"error": {"message": "No cookie auth credentials found",  "code": 401}}'

    async def handler(request: web.Request) -> web.Response:
        headers = {"x-ratelimit-limit": "20", "content-type": "application/json"}
        return web.Response(status=401, body=said, headers=headers)

    upstream.handler = handler
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/v1/models") as response:
            assert (response.status, await response.read()) == (401, said)
            assert response.headers["x-ratelimit-limit"] == "20"
        async with session.get(f"{running.url}/v1/models/any") as response:
            assert (await response.json())["id"] == "any"  # on trust: the first call will tell


async def test_what_a_provider_has_below_a_model_is_asked_of_the_provider(
    configured: Settings, upstream: Upstream
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"data": {"endpoints": [{"name": "A | b"}]}})

    upstream.handler = handler
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/v1/models/a/b/endpoints") as response:
            assert await response.json() == {"data": {"endpoints": [{"name": "A | b"}]}}
    assert [path for _, path, *_ in upstream.requests] == ["/v1/models/a/b/endpoints"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/models"),
        ("POST", "/api/show"),
        ("GET", "/api/tags"),
        ("GET", "/v1/props"),
        ("GET", "/props"),
        ("GET", "/version"),
    ],
)
async def test_what_hermes_probes_for_is_answered_without_the_upstream(
    configured: Settings, upstream: Upstream, method: str, path: str
) -> None:
    async with sidecar(configured) as running, aiohttp.ClientSession() as session:
        async with session.request(method, running.url + path, json={"name": "x"}) as response:
            assert response.status == 404
    assert upstream.requests == []


async def test_explain_says_what_would_happen_and_nothing_happens(
    configured: Settings, upstream: Upstream
) -> None:
    runtime = FakeRuntime({ASKED: "bug"})
    async with sidecar(configured, runtime) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/apprentice/explain"
        async with session.get(url, params={"text": ASKED}) as response:
            asked = await response.json()
        async with session.post(url, json=body("a story, please")) as response:
            other = await response.json()
        async with session.get(url) as response:
            assert response.status == 400
        async with session.get(url, params={"text": ASKED, "turn": "x"}) as response:
            assert response.status == 400
        rows = await ledger(running, configured)
    assert (asked["route"], asked["slug"], asked["stage"]) == (
        "specialist",
        "label-ticket",
        "live",
    )
    assert asked["nearest"][0]["threshold"] == 0.5
    assert (other["kind"], other["route"], other["reason"]) == ("first", "upstream", "no_pattern")
    assert (runtime.asked, upstream.requests, rows) == ([], [], [])


async def test_metrics_and_health_tell_what_is_served(
    configured: Settings, upstream: Upstream
) -> None:
    async with (
        sidecar(configured, FakeRuntime({ASKED: "bug"})) as running,
        aiohttp.ClientSession() as session,
    ):
        async with posted(running.url, body()):
            pass
        async with session.get(f"{running.url}/metrics") as response:
            text = await response.text()
        async with session.get(f"{running.url}/healthz") as response:
            health = await response.json()
    assert 'apprentice_calls_total{kind="first",route="specialist",status="200"} 1.0' in text
    assert "apprentice_specialists_loaded 1.0" in text
    assert (health["status"], health["problems"]) == ("ok", {})
    served = health["specialists"][0]
    assert (served["slug"], served["stage"], served["loaded"]) == ("label-ticket", "live", True)


async def test_a_reload_brings_a_change_at_once(configured: Settings, upstream: Upstream) -> None:
    async with (
        sidecar(configured, FakeRuntime({ASKED: "bug"})) as running,
        aiohttp.ClientSession() as session,
    ):
        before = running.parts.specialists.now.rollouts["label-ticket"]
        with Database(configured.database_path) as database:
            with database.transaction() as connection:
                save_rollout(connection, replace(before, stage=Stage.RETIRED), 2.0)
        async with session.post(f"{running.url}/apprentice/reload") as response:
            assert (await response.json())["loaded"] == []
        async with posted(running.url, body()) as (response, _):
            assert response.headers["x-apprentice-route"] == "upstream"


# --- merged specialists -------------------------------------------------------------------


@asynccontextmanager
async def merging(
    settings: Settings, parent: Stage, heir: Stage, *, share: float = 0.0, sure: bool = True
) -> AsyncIterator[Sidecar]:
    """A sidecar with a parent that answers right, and a merged specialist that does not."""
    answers = FakeRuntime({ASKED: "bug"} if sure else {})
    loaded = (
        Loaded(slug="label-ticket", version=1, shape=SHAPE, runtime=answers),
        Loaded(
            slug="whole",
            version=1,
            shape=SHAPE,
            runtime=FakeRuntime({ASKED: "billing"}),
            parents=("label-ticket", "other"),
        ),
    )
    for one, stage in zip(loaded, (parent, heir), strict=True):
        taken = 1.0 if stage is Stage.LIVE else share
        put_in_stage(settings.database_path, one.slug, stage, taken, held=True)
    source = FakeSource(FakeMatcher({ASKED: "label-ticket"}), *loaded)
    async with running_sidecar(settings, source=source, price_of=lambda model: PRICE) as found:
        yield found


def with_rollout(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"rollout": settings.rollout.model_copy(update=changes)})


async def test_a_merged_specialist_is_compared_where_its_live_parent_is_audited(
    configured: Settings, upstream: Upstream
) -> None:
    settings = with_rollout(configured, audit_share=0.0, proving_share=1.0)
    async with merging(settings, Stage.LIVE, Stage.SHADOW) as running:
        async with posted(running.url, body()) as (response, payload):
            assert response.headers["x-apprentice-specialist"] == "label-ticket"
            assert b"bug" in payload
        rows = await comparisons(running, settings)
    found = {(row["slug"], row["origin"], row["agreed"]) for row in rows}
    assert found == {("label-ticket", "audit", 1), ("whole", "shadow", 0)}


async def test_without_a_merge_no_more_is_audited_than_is_set(
    configured: Settings, upstream: Upstream
) -> None:
    settings = with_rollout(configured, audit_share=0.0, proving_share=1.0)
    async with merging(settings, Stage.LIVE, Stage.QUARANTINED) as running:
        async with posted(running.url, body()):
            pass
        assert await comparisons(running, settings) == []


async def test_a_merged_specialist_is_compared_for_free_where_the_upstream_answers(
    configured: Settings, upstream: Upstream
) -> None:
    async with merging(configured, Stage.LIVE, Stage.SHADOW, sure=False) as running:
        async with posted(running.url, body()) as (response, _):
            assert response.headers["x-apprentice-route"] == "fallback"
        rows = await comparisons(running, configured)
    assert {(row["slug"], row["answered"], row["agreed"]) for row in rows} == {
        ("label-ticket", 0, None),
        ("whole", 1, 0),
    }


async def test_a_live_merged_specialist_answers_what_matches_a_parent(
    configured: Settings, upstream: Upstream
) -> None:
    settings = with_rollout(configured, audit_share=0.0)
    async with merging(settings, Stage.LIVE, Stage.LIVE) as running:
        async with posted(running.url, body()) as (response, payload):
            assert response.headers["x-apprentice-specialist"] == "whole"
            assert b"billing" in payload
    assert upstream.requests == []
