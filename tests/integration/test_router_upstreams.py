"""Several upstream endpoints behind one sidecar: who is asked, and what the client sees."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from hermes_apprentice.domain.money import Price
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import UpstreamError
from hermes_apprentice.router import catalogue
from hermes_apprentice.router import upstream as upstream_module
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

DEADLINE = 15.0
ASKED = "Label this ticket: the app crashes when I open it."
NOWHERE = "http://127.0.0.1:9/v1"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Endpoint:
    """One upstream endpoint, which says its name or what it is told to say."""

    name: str
    url: str = ""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    handler: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.path, headers, body))
        if self.handler is not None:
            return await self.handler(request)
        message = {"role": "assistant", "content": self.name}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 1}
        return web.json_response({"choices": [choice], "usage": usage})

    def says(self, status: int, **headers: str) -> None:
        async def handler(request: web.Request) -> web.Response:
            text = json.dumps({"error": {"message": f"{self.name} says {status}"}})
            return web.Response(status=status, text=text, headers=headers)

        self.handler = handler


@asynccontextmanager
async def endpoints(*names: str) -> AsyncIterator[list[Endpoint]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            endpoint = Endpoint(name)
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", endpoint.handle)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            endpoint.url = f"http://{host}:{port}/v1"
            found.append(endpoint)
        yield found


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Endpoint, Endpoint]]:
    async with endpoints("one", "two") as (one, two):
        yield one, two


def chained(settings: Settings, *urls: str, **changes: Any) -> Settings:
    """Settings for a chain of endpoints called one, two, three."""
    tiers = [
        {"base_url": url, "name": name, "connect_timeout": 2}
        for name, url in zip(("one", "two", "three"), urls, strict=False)
    ]
    first = {**tiers[0], "fallbacks": tiers[1:], **changes}
    return settings.model_copy(
        update={"upstream": UpstreamSettings(**first), "server": ServerSettings(port=0)}
    )


@asynccontextmanager
async def sidecar(settings: Settings, source: FakeSource | None = None) -> AsyncIterator[Sidecar]:
    async with running_sidecar(
        settings, source=source or FakeSource(None), price_of=lambda model: None
    ) as running:
        yield running


def body(**changes: Any) -> dict[str, Any]:
    return {
        "model": "big-one",
        "messages": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": ASKED},
        ],
        "tools": [{"type": "function", "function": {"name": "terminal", "parameters": {}}}],
        **changes,
    }


@dataclass
class Got:
    status: int
    headers: Any
    text: bytes

    @property
    def said(self) -> str:
        found: str = json.loads(self.text)["choices"][0]["message"]["content"]
        return found


async def ask(running: Sidecar, value: Any = None, **options: Any) -> Got:
    data = value if isinstance(value, bytes) else json.dumps(value or body()).encode()
    async with aiohttp.ClientSession() as session:
        url = f"{running.url}/v1/chat/completions"
        async with session.post(url, data=data, **options) as response:
            return Got(response.status, response.headers, await response.read())


async def health(running: Sidecar) -> dict[str, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/healthz") as response:
            found: dict[str, str] = (await response.json())["problems"]
            return found


async def ledger(running: Sidecar, settings: Settings) -> list[dict[str, Any]]:
    assert await running.parts.recorder.write()
    with Database(settings.database_path) as database:
        return [dict(row) for row in database.read("SELECT * FROM ledger ORDER BY entry_id")]


# --- who answers ----------------------------------------------------------------------


async def test_while_the_first_endpoint_answers_nobody_else_is_asked(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    sent = b'{"model":"big-one" , "messages":[],"x_new":{"a":[1.0,null]},  "seed":7}'
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running, sent)
    assert (got.said, got.headers["x-apprentice-upstream"]) == ("one", "one")
    assert one.seen[0][2] == sent
    assert two.seen == []


@pytest.mark.parametrize("status", [401, 402, 408, 429, 500, 502, 503, 504, 529])
async def test_what_says_nothing_about_the_request_is_asked_elsewhere(
    settings: Settings, pair: tuple[Endpoint, Endpoint], status: int
) -> None:
    one, two = pair
    one.says(status)
    placed = chained(settings, one.url, two.url)
    async with sidecar(placed) as running:
        got = await ask(running)
        row = (await ledger(running, placed))[0]
        requests = dict(running.parts.upstream.requests)
    assert (got.status, got.said, got.headers["x-apprentice-upstream"]) == (200, "two", "two")
    assert (row["tier"], row["status"], row["prompt_tokens"]) == ("two", 200, 10)
    assert requests == {("one", str(status)): 1, ("two", "200"): 1}


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 415, 422])
async def test_what_the_first_endpoint_says_about_the_request_reaches_the_client(
    settings: Settings, pair: tuple[Endpoint, Endpoint], status: int
) -> None:
    one, two = pair
    one.says(status)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running)
    assert (got.status, json.loads(got.text)["error"]["message"]) == (status, f"one says {status}")
    assert two.seen == []


async def test_an_unreachable_endpoint_is_stood_in_for(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    async with sidecar(chained(settings, NOWHERE, pair[1].url)) as running:
        assert [(await ask(running)).said for _ in range(4)] == ["two"] * 4
        assert "upstream" in await health(running)


async def test_a_silent_endpoint_is_stood_in_for_after_its_own_time(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(DEADLINE)
        return web.Response()

    one, two = pair
    one.handler = silent
    async with sidecar(chained(settings, one.url, two.url, first_byte_timeout=0.2)) as running:
        assert (await ask(running)).said == "two"
        assert running.parts.upstream.requests["one", "timeout"] == 1


@pytest.mark.parametrize("hang_up", [True, False], ids=["hangs up", "falls silent"])
async def test_headers_without_a_first_byte_are_no_answer_yet(
    settings: Settings, pair: tuple[Endpoint, Endpoint], hang_up: bool
) -> None:
    async def hollow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        if not hang_up:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hollow, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with (
        server,
        sidecar(chained(settings, url, pair[1].url, first_byte_timeout=0.3)) as running,
    ):
        got = await ask(running, body(stream=True))
    assert (got.said, got.headers["x-apprentice-upstream"]) == ("two", "two")


async def test_after_the_first_byte_nothing_is_asked_again(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(breaks, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    placed = chained(settings, url, pair[1].url)
    async with server, sidecar(placed) as running:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(running)
        row = (await ledger(running, placed))[0]
    assert (row["tier"], row["reason"]) == ("one", "cut")
    assert pair[1].seen == []


async def test_if_nobody_can_answer_the_client_gets_the_first_endpoints_own_words(
    settings: Settings,
) -> None:
    async with endpoints("one", "two", "three") as (one, two, three):
        one.says(500, **{"x-request-id": "r-1"})
        two.says(429, **{"retry-after": "7"})
        three.says(400)
        async with sidecar(chained(settings, one.url, two.url, three.url)) as running:
            got = await ask(running)
    assert (got.status, got.headers["x-request-id"]) == (500, "r-1")
    assert json.loads(got.text)["error"]["message"] == "one says 500"
    assert [len(each.seen) for each in (one, two, three)] == [1, 1, 1]


async def test_if_nobody_can_be_reached_the_error_names_the_first_endpoint(
    settings: Settings, unused_tcp_port: int
) -> None:
    other = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with sidecar(chained(settings, NOWHERE, other)) as running:
        got = await ask(running)
    error = json.loads(got.text)["error"]
    assert (got.status, error["code"]) == (502, "upstream_unreachable")
    assert "127.0.0.1:9/" in error["message"]


# --- resting and waiting --------------------------------------------------------------


async def test_an_endpoint_that_keeps_failing_is_skipped_and_tried_by_one_at_a_time(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(500)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        for _ in range(6):
            assert (await ask(running)).said == "two"
        assert len(one.seen) == 3  # then it is left alone
        assert "upstream" in await health(running)
        trying, go_on = asyncio.Event(), asyncio.Event()

        async def tried(request: web.Request) -> web.StreamResponse:
            trying.set()
            await asyncio.wait_for(go_on.wait(), DEADLINE)
            return web.json_response({"choices": [{"message": {"content": "one"}}]})

        one.handler = tried
        probe = asyncio.create_task(_until_tried(running, trying))
        await asyncio.wait_for(trying.wait(), DEADLINE)
        others = await asyncio.gather(*(ask(running) for _ in range(8)))
        assert {got.said for got in others} == {"two"}
        assert len(one.seen) == 4
        go_on.set()
        assert await probe == "one"
        assert (await ask(running)).said == "one"
        assert await health(running) == {}


async def _until_tried(running: Sidecar, trying: asyncio.Event) -> str:
    """Ask until one request is the one that tries the resting endpoint; say who answered it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            got = await ask(running)
            if trying.is_set():
                return got.said


async def test_a_client_that_hangs_up_during_a_try_leaves_room_for_the_next(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(500)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        for _ in range(3):
            await ask(running)
        trying, cancelled = asyncio.Event(), asyncio.Event()

        async def hangs(request: web.Request) -> web.StreamResponse:
            trying.set()
            try:
                await asyncio.sleep(DEADLINE)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return web.Response()

        one.handler = hangs
        task = asyncio.create_task(_until_tried(running, trying))
        await asyncio.wait_for(trying.wait(), DEADLINE)
        task.cancel()
        await asyncio.wait_for(cancelled.wait(), DEADLINE)
        one.handler = None
        async with asyncio.timeout(DEADLINE):
            while (await ask(running)).said != "one":
                pass


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
async def test_an_endpoint_is_left_alone_for_as_long_as_it_asked(
    settings: Settings, pair: tuple[Endpoint, Endpoint], status: int, dated: bool
) -> None:
    one, two = pair
    one.says(
        status, **{"retry-after": formatdate(time.time() + 60, usegmt=True) if dated else "60"}
    )
    async with sidecar(chained(settings, one.url, two.url)) as running:
        for _ in range(5):
            assert (await ask(running)).said == "two"
        assert len(one.seen) == 1
        # Providers limit models, not only accounts: another model is not waited for.
        one.handler = None
        assert (await ask(running, body(model="other"))).said == "one"
        tier = running.parts.upstream.first
        assert 50 < tier.wait("big-one") <= 60
        tier._ticks = lambda: time.monotonic() + 61
        assert (await ask(running)).said == "one"


async def test_if_all_are_waiting_the_client_gets_one_refusal_with_its_retry_after(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(429, **{"retry-after": "60"})
    two.says(429, **{"retry-after": "30"})
    async with sidecar(chained(settings, one.url, two.url)) as running:
        first = await ask(running)
        assert (first.status, first.headers["retry-after"]) == (429, "60")
        later = await ask(running)
        assert (later.status, later.headers["retry-after"]) == (429, "30")
        assert json.loads(later.text)["error"]["message"] == "two says 429"
        assert (len(one.seen), len(two.seen)) == (1, 2)  # only whoever is free the soonest
        two.handler = None
        assert (await ask(running)).said == "two"


async def test_one_endpoint_alone_is_always_asked(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one = pair[0]
    one.says(429, **{"retry-after": "60"})
    async with sidecar(chained(settings, one.url)) as running:
        for _ in range(3):
            got = await ask(running)
            assert (got.status, got.headers["retry-after"]) == (429, "60")
        one.says(500)
        for _ in range(4):
            assert (await ask(running)).status == 500
        one.handler = None
        assert (await ask(running)).said == "one"
    assert len(one.seen) == 8


# --- keys and names -------------------------------------------------------------------


async def test_every_endpoint_gets_its_own_key_and_no_other(
    settings: Settings,
) -> None:
    async with endpoints("one", "two", "three") as (one, two, three):
        one.says(500)
        two.says(500)
        placed = chained(settings, one.url, two.url, three.url).model_copy(
            update={
                "upstream_api_key": SecretStr("sk-of-one"),
                "fallback_api_keys": (SecretStr("sk-of-two"), None),
            }
        )
        async with sidecar(placed) as running:
            got = await ask(running, headers={"authorization": "Bearer sk-of-client"})
    assert got.said == "three"
    assert one.seen[0][1]["authorization"] == "Bearer sk-of-one"
    assert two.seen[0][1]["authorization"] == "Bearer sk-of-two"
    assert "authorization" not in three.seen[0][1]
    for endpoint, own in ((one, "sk-of-one"), (two, "sk-of-two"), (three, "none")):
        assert "sk-of-" not in json.dumps(endpoint.seen[0][1]).replace(own, "")


async def test_a_refused_key_costs_no_answer_and_shows_in_the_health_until_it_is_right(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(401)
    two.says(402)
    placed = chained(settings, one.url, two.url, api_key_env="KEY_OF_ONE").model_copy(
        update={"upstream_api_key": SecretStr("sk-wrong")}
    )
    async with sidecar(placed) as running:
        assert (await ask(running)).status == 401  # nobody has a better answer
        problems = await health(running)
        assert "KEY_OF_ONE" in problems["upstream"] and "401" in problems["upstream"]
        assert "402" in problems["upstream.two"]
        assert "sk-wrong" not in json.dumps(problems)
        two.handler = None
        assert (await ask(running)).said == "two"
        one.handler = None
        async with asyncio.timeout(DEADLINE):
            while (await ask(running)).said != "one":
                pass
        assert await health(running) == {}


async def test_every_endpoint_is_asked_for_its_own_name_of_the_model(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(503)
    placed = chained(settings, one.url, two.url)
    tier = placed.upstream.fallbacks[0].model_copy(
        update={"models": {"big-one": "accounts/x/models/big"}, "model": "default-model"}
    )
    upstream = placed.upstream.model_copy(update={"fallbacks": (tier,)})
    placed = placed.model_copy(update={"upstream": upstream})
    sent = b'{ "temperature":1.50,"model"  :  "big-one" ,"tools": [{}], "messages":[]}'
    async with sidecar(placed) as running:
        await ask(running, sent)
        await ask(running, body(model="unmapped"))
        rows = await ledger(running, placed)
    assert one.seen[0][2] == sent
    assert two.seen[0][2] == sent.replace(b'"big-one"', b'"accounts/x/models/big"')
    assert json.loads(two.seen[1][2])["model"] == "default-model"
    assert [row["model"] for row in rows] == ["accounts/x/models/big", "default-model"]


async def test_a_model_that_the_settings_name_wrongly_is_a_problem_and_costs_no_answer(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(404)
    async with sidecar(chained(settings, one.url, two.url, model="vendor/typo")) as running:
        assert (await ask(running)).said == "two"
        assert "vendor/typo" in (await health(running))["upstream"]


async def test_a_key_that_is_missing_is_said_for_each_endpoint(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    placed = chained(settings, one.url, two.url, api_key_env="KEY_OF_ONE")
    tier = placed.upstream.fallbacks[0].model_copy(update={"api_key_file": settings.home / "key"})
    upstream = placed.upstream.model_copy(update={"fallbacks": (tier,)})
    async with sidecar(placed.model_copy(update={"upstream": upstream})) as running:
        problems = await health(running)
    assert "KEY_OF_ONE is not set" in problems["upstream_key"]
    assert "holds no key" in problems["upstream_key.two"]


# --- what stays with the first endpoint -----------------------------------------------


@pytest.mark.parametrize(
    "path", ["/v1/embeddings", "/v1/responses", "/v1/files", "/v1/completions"]
)
async def test_what_belongs_to_one_provider_is_never_asked_elsewhere(
    settings: Settings, pair: tuple[Endpoint, Endpoint], path: str
) -> None:
    one, two = pair
    one.says(503)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        async with aiohttp.ClientSession() as session:
            for _ in range(4):
                async with session.post(running.url + path, json={"model": "m"}) as response:
                    assert response.status == 503
        assert (two.seen, len(one.seen)) == ([], 4)
        # ... and does not make chat completions go elsewhere.
        one.handler = None
        assert (await ask(running)).said == "one"


@pytest.mark.parametrize("failing", [False, True])
async def test_specialists_are_compared_with_the_first_endpoints_model_only(
    settings: Settings, pair: tuple[Endpoint, Endpoint], failing: bool
) -> None:
    one, two = pair
    if failing:
        one.says(500)
    placed = chained(settings, one.url, two.url)
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("one", "two"))
    loaded = Loaded(slug="label", version=1, shape=shape, runtime=FakeRuntime({ASKED: "one"}))
    put_in_stage(placed.database_path, "label", Stage.SHADOW, 0.0)
    source = FakeSource(FakeMatcher({ASKED: "label"}), loaded)
    async with sidecar(placed, source) as running:
        assert (await ask(running)).said == ("two" if failing else "one")
        async with asyncio.timeout(DEADLINE):
            await running.parts.shadow.settle()
        assert await running.parts.recorder.write()
    with Database(placed.database_path) as database:
        noted = [row["agreed"] for row in database.read("SELECT agreed FROM comparisons")]
    assert noted == ([] if failing else [1])


@pytest.mark.parametrize(
    ("priced", "budget", "who"),
    [
        ({"big-one"}, 1_000_000, "one"),
        ({"big-one", "other-big"}, 1_000_000, "two"),
        ({"big-one"}, None, "two"),
    ],
)
async def test_a_tenants_budget_is_spent_only_where_it_can_be_counted(
    settings: Settings,
    pair: tuple[Endpoint, Endpoint],
    priced: set[str],
    budget: int | None,
    who: str,
) -> None:
    one, two = pair
    one.says(500)
    placed = chained(settings, one.url, two.url)
    tier = placed.upstream.fallbacks[0].model_copy(update={"model": "other-big"})
    upstream = placed.upstream.model_copy(update={"fallbacks": (tier,)})
    placed = placed.model_copy(update={"upstream": upstream})
    with Database(placed.database_path) as database:
        limits = Limits(monthly_budget=budget)
        key = TenantStore(database).create("ann", limits, time.time()).text

    def price_of(model: str) -> Price | None:
        values = {"input": 1, "cached_input": 1, "output": 1, "source": "invented"}
        return Price(model=model, as_of="2026-01-01", **values) if model in priced else None

    async with running_sidecar(placed, source=FakeSource(None), price_of=price_of) as running:
        got = await ask(running, headers={"authorization": f"Bearer {key}"})
    assert got.headers["x-apprentice-upstream"] == who
    assert (got.status, len(two.seen)) == ((500, 0) if who == "one" else (200, 1))


async def test_metrics_count_every_endpoint(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(500)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        await ask(running)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{running.url}/metrics") as response:
                text = await response.text()
    assert 'apprentice_upstream_requests_total{result="500",tier="one"} 1.0' in text
    assert 'apprentice_upstream_requests_total{result="200",tier="two"} 1.0' in text
    assert 'apprentice_upstream_resting{tier="one"} 0.0' in text


async def test_an_audit_respects_the_pause_that_an_endpoint_asked_for(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    one.says(429, **{"retry-after": "60"})
    async with sidecar(chained(settings, one.url, two.url)) as running:
        await ask(running)
        with pytest.raises(UpstreamError, match="pause"):
            await running.parts.upstream.ask(body(), [])
    assert len(one.seen) == 1


async def test_a_list_of_models_outlives_the_endpoint_that_gave_it(
    settings: Settings, pair: tuple[Endpoint, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "big-one", "context_length": 200_000}]})

    one, two = pair
    one.handler = handler
    monkeypatch.setattr(catalogue, "FRESH_SECONDS", 0.0)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(f"{running.url}/v1/models") as response:
                    listed = (await response.json())["data"]
                assert [model["id"] for model in listed] == ["big-one"]
                one.says(503)
    assert len(one.seen) == 2


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_name_that_cannot_be_looked_up_costs_no_answer(
    settings: Settings,
    pair: tuple[Endpoint, Endpoint],
    monkeypatch: pytest.MonkeyPatch,
    hangs: bool,
) -> None:
    _, two = pair
    release, look_up = threading.Event(), socket.getaddrinfo

    def failing(host: Any, *values: Any, **options: Any) -> Any:
        if host not in ("model.test", b"model.test"):
            return look_up(host, *values, **options)
        if hangs:
            release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    chain = chained(settings, "http://model.test:9/v1", two.url, connect_timeout=0.5)
    async with sidecar(chain) as running:
        try:
            async with asyncio.timeout(20):
                found = await asyncio.gather(*(ask(running) for _ in range(64)))
            assert {(one.status, one.said) for one in found} == {(200, "two")}
            assert "upstream" in await health(running)
        finally:
            release.set()


# --- an error behind a status that says that all is well ----------------------------------------


def inside(status: object) -> dict[str, Any]:
    return {
        "id": "gen-1",
        "error": {"code": status, "message": "Provider returned error"},
        "choices": [],
    }


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def streams(endpoint: Endpoint, *pieces: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.02)
        return response

    endpoint.handler = handler


WAIT = b": OPENROUTER PROCESSING\n\n"
WORD = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Once"}}]})
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
END = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("status", [429, 502, "server_error", None])
@pytest.mark.parametrize("before", [(), (WAIT,), (WAIT, WAIT)])
async def test_a_stream_that_begins_with_an_error_is_asked_elsewhere(
    settings: Settings,
    pair: tuple[Endpoint, Endpoint],
    status: object,
    before: tuple[bytes, ...],
) -> None:
    one, two = pair
    streams(one, *before, event(inside(status)))
    streams(two, WORD, END)
    placed = chained(settings, one.url, two.url)
    async with sidecar(placed) as running:
        got = await ask(running, body(stream=True))
        (row,) = await ledger(running, placed)
        requests = dict(running.parts.upstream.requests)
    assert (got.status, got.text) == (200, WORD + END)
    assert got.headers["x-apprentice-upstream"] == "two"
    assert (row["tier"], row["status"]) == ("two", 200)
    counted = str(status if isinstance(status, int) else 502)
    assert requests == {("one", counted): 1, ("two", "200"): 1}


@pytest.mark.parametrize("compress", [False, True])
async def test_an_error_in_a_whole_answer_is_asked_elsewhere(
    settings: Settings, pair: tuple[Endpoint, Endpoint], compress: bool
) -> None:
    one, two = pair

    async def handler(request: web.Request) -> web.Response:
        value = {key: found for key, found in inside(502).items() if key != "choices"}
        response = web.json_response(value)
        if compress:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    one.handler = handler
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running)
    assert (got.status, got.said) == (200, "two")


@pytest.mark.parametrize("status", [400, 403])
async def test_an_error_about_the_request_reaches_the_client_as_it_was(
    settings: Settings, pair: tuple[Endpoint, Endpoint], status: int
) -> None:
    one, two = pair
    streams(one, WAIT, event(inside(status)))
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running, body(stream=True))
    assert (got.status, got.text) == (200, WAIT + event(inside(status)))
    assert two.seen == []


@pytest.mark.parametrize("begin", [ROLE, WORD, WAIT + ROLE])
async def test_once_an_answer_has_begun_its_error_passes_and_nothing_is_asked_again(
    settings: Settings, pair: tuple[Endpoint, Endpoint], begin: bytes
) -> None:
    one, two = pair
    streams(one, begin, event(inside(502)))
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running, body(stream=True))
    assert (got.status, got.text) == (200, begin + event(inside(502)))
    assert two.seen == []


async def test_where_nobody_stands_in_the_error_passes_as_it_was_and_costs_nothing(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair
    streams(one, WAIT, event(inside(502)))
    two.says(503)
    for urls in ((one.url,), (one.url, two.url)):
        placed = chained(settings, *urls)
        async with sidecar(placed) as running:
            got = await ask(running, body(stream=True))
            row = (await ledger(running, placed))[-1]
        assert (got.status, got.text) == (200, WAIT + event(inside(502)))
        assert (row["reason"], row["cost"], row["completion_tokens"]) == ("error", 0, 0)


async def test_an_endpoint_that_keeps_answering_with_errors_is_left_alone_for_a_while(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, _ = pair
    streams(one, event(inside(502)))
    async with sidecar(chained(settings, one.url, pair[1].url)) as running:
        for _ in range(5):
            assert (await ask(running, body(stream=True))).status == 200
        assert "keeps failing" in (await health(running))["upstream"]
    assert len(one.seen) == 3


async def test_an_endpoint_that_hangs_up_after_comments_is_stood_in_for(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, two = pair

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(WAIT)
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    one.handler = handler
    streams(two, WORD, END)
    async with sidecar(chained(settings, one.url, two.url)) as running:
        got = await ask(running, body(stream=True))
    assert got.text == WORD + END


async def test_comments_are_not_held_back_for_ever(
    settings: Settings, pair: tuple[Endpoint, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = pair
    monkeypatch.setattr(upstream_module, "HOLD_SECONDS", 0.1)
    seen, sent = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(WAIT)
        await seen.wait()
        await response.write(event(inside(502)))
        sent.set()
        return response

    one.handler = handler
    async with sidecar(chained(settings, one.url, two.url)) as running:
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/v1/chat/completions"
            async with session.post(url, json=body(stream=True)) as response:
                async with asyncio.timeout(DEADLINE):
                    assert await response.content.readany() == WAIT
                    seen.set()
                    await sent.wait()
                    assert await response.read() == event(inside(502))
    assert two.seen == []


async def test_where_nobody_stands_in_comments_pass_at_once(
    settings: Settings, pair: tuple[Endpoint, Endpoint]
) -> None:
    one, _ = pair
    seen = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(WAIT)
        await seen.wait()
        await response.write(WORD + END)
        return response

    one.handler = handler
    async with sidecar(chained(settings, one.url)) as running:
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/v1/chat/completions"
            async with session.post(url, json=body(stream=True)) as response:
                async with asyncio.timeout(DEADLINE):
                    assert await response.content.readany() == WAIT
                    seen.set()
                    assert await response.read() == WORD + END
