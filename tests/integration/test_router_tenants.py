"""A shared sidecar: real sockets, the real client, an upstream that writes down what it got."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from pydantic import SecretStr

from hermes_apprentice.domain.money import Price
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.router.door import STATELESS
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.router.tenants import STALE_SECONDS
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore, marker_of
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

ANNS = "Label this ticket: the app crashes when I open it."
BOBS = "Which team gets this: the invoice is wrong?"
SHARED = "Translate to German: good morning."
PATTERNS = {ANNS: "anns-labels", BOBS: "bobs-teams", SHARED: "shared-words"}
TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing", "guten Morgen"))
PRICE = Price(
    model="big-one",
    input=3_000_000,
    cached_input=300_000,
    output=15_000_000,
    source="invented",
    as_of="2026-01-01",
)
COST = 100 * 3 + 4 * 15
"""What the fake upstream's answer costs, micro-dollars."""

DEADLINE = 10.0


@dataclass
class Upstream:
    """Writes down everything, and answers the same to all."""

    url: str = ""
    requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.raw_path, [*request.headers.items()], body))
        if self.hold is not None:
            await asyncio.wait_for(self.hold.wait(), DEADLINE)
        message = {"role": "assistant", "content": "from the upstream"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 4, "total_tokens": 104}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "big-one"}
        return web.json_response({**answer, "choices": [choice], "usage": usage})


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
def shared(settings: Settings, upstream: Upstream) -> Settings:
    """Settings for a sidecar in front of the test's upstream."""
    return settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=upstream.url, api_key_env="", model="big-one"),
            "server": ServerSettings(port=0),
            "upstream_api_key": SecretStr("sk-the-operators"),
            "rollout": settings.rollout.model_copy(update={"audit_share": 0.0}),
        }
    )


def make(settings: Settings, name: str, limits: Limits | None = None) -> str:
    with Database(settings.database_path) as database:
        return TenantStore(database).create(name, limits or Limits(), time.time()).text


def serve_all(settings: Settings, owners: dict[str, str]) -> FakeSource:
    """Make three live specialists, some of them somebody's own."""
    for slug in PATTERNS.values():
        put_in_stage(settings.database_path, slug)
    with Database(settings.database_path) as database:
        for slug, owner in owners.items():
            TenantStore(database).assign(slug, owner)
    answers = {ANNS: "bug", BOBS: "billing", SHARED: "guten Morgen"}
    loaded = [
        Loaded(slug=slug, version=1, shape=SHAPE, runtime=FakeRuntime(answers))
        for slug in PATTERNS.values()
    ]
    return FakeSource(FakeMatcher(PATTERNS), *loaded)


@asynccontextmanager
async def sidecar(settings: Settings, source: FakeSource | None = None) -> AsyncIterator[Sidecar]:
    async with running_sidecar(
        settings,
        source=source or FakeSource(None),
        price_of=lambda model: PRICE if model == "big-one" else None,
    ) as found:
        yield found


def body(text: str = "hello", **changes: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": text},
    ]
    return {"model": "big-one", "messages": messages, "tools": TOOLS, **changes}


async def ask(
    url: str,
    key: str | None = None,
    text: str = "hello",
    *,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], Any]:
    sent = {"authorization": f"Bearer {key}"} if key is not None else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method,
            f"{url}{path}",
            json=body(text) if method == "POST" else None,
            headers=sent | (headers or {}),
        ) as response,
    ):
        raw = await response.read()
        found = {name.lower(): value for name, value in response.headers.items()}
        kind = found.get("content-type", "")
        return response.status, found, json.loads(raw) if "json" in kind else raw.decode()


def rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    with Database(settings.database_path) as database:
        return [dict(row) for row in database.read(sql)]


async def test_without_tenants_nobody_needs_a_key(shared: Settings, upstream: Upstream) -> None:
    async with sidecar(shared) as running:
        assert (await ask(running.url))[0] == 200
        assert (await ask(running.url, "sk-anything"))[0] == 200


async def test_the_first_tenant_closes_the_door_of_a_running_sidecar(
    shared: Settings, upstream: Upstream
) -> None:
    async with sidecar(shared) as running:
        assert (await ask(running.url))[0] == 200
        key = make(shared, "ann")
        await running.parts.tenants.renew()
        status, headers, answer = await ask(running.url)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert answer["error"]["code"] == "invalid_api_key"
        assert (await ask(running.url, key))[0] == 200
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key[:5] + ("0" if key[5] != "0" else "1") + key[6:],
        lambda key: key.upper(),
        lambda key: key + "0",
        lambda key: "",
        lambda key: "sk-" + key[3:],
        lambda key: key.replace("-", " "),
    ],
)
async def test_only_the_whole_key_opens(shared: Settings, upstream: Upstream, change: Any) -> None:
    key = make(shared, "ann")
    async with sidecar(shared) as running:
        status, _, answer = await ask(running.url, change(key))
        assert (status, answer["error"]["type"]) == (401, "invalid_request_error")
        assert key not in json.dumps(answer)
    assert upstream.requests == []


async def test_a_key_is_no_key_for_another_tenant_and_two_keys_are_none(
    shared: Settings, upstream: Upstream
) -> None:
    anns, bobs = make(shared, "ann"), make(shared, "bob")
    async with sidecar(shared) as running:
        url = running.url
        assert (await ask(url, anns, headers={"x-apprentice-tenant": "ann"}))[0] == 200
        assert (await ask(url, anns, headers={"x-apprentice-tenant": "bob"}))[0] == 401
        assert (await ask(url, None, headers={"x-apprentice-tenant": "ann"}))[0] == 401
        assert (await ask(url, None, headers={"authorization": f"Basic {anns}"}))[0] == 401
        target = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(target[0], int(target[1]))
        writer.write(
            f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {anns}\r\n"
            f"Authorization: Bearer {bobs}\r\nConnection: close\r\n\r\n".encode()
        )
        first = await asyncio.wait_for(reader.readline(), DEADLINE)
        writer.close()
        assert b" 401 " in first
    assert len(upstream.requests) == 1


async def test_a_rotated_key_ends_and_a_revoked_tenant_is_turned_away(
    shared: Settings, upstream: Upstream
) -> None:
    old = make(shared, "ann")
    async with sidecar(shared) as running:
        with Database(shared.database_path) as database:
            new = TenantStore(database).rotate("ann", time.time(), grace=3_600).text
        await running.parts.tenants.renew()
        assert [(await ask(running.url, key))[0] for key in (old, new)] == [200, 200]
        with Database(shared.database_path) as database:
            newest = TenantStore(database).rotate("ann", time.time()).text
        await running.parts.tenants.renew()
        assert [(await ask(running.url, key))[0] for key in (old, new, newest)] == [401, 401, 200]
        with Database(shared.database_path) as database:
            TenantStore(database).revoke("ann", time.time())
        await running.parts.tenants.renew()
        assert (await ask(running.url, newest))[0] == 401
        assert (await ask(running.url))[0] == 401


async def test_neither_the_key_nor_our_headers_reach_the_upstream(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann")
    secret = key.rpartition("-")[2]
    headers = {
        "x-apprentice-tenant": "ann",
        "x-api-key": key,
        "api-key": key,
        "cookie": f"key={key}",
        "proxy-authorization": f"Bearer {key}",
        "x-hermes-session-id": "20260901_080000_aaaaaa",
        "x-kept": "yes",
    }
    async with sidecar(shared) as running:
        assert (await ask(running.url, key, headers=headers))[0] == 200
        assert (await ask(running.url, key, path="/v1/embeddings", headers=headers))[0] == 200
    assert [path for _, path, _, _ in upstream.requests] == [
        "/v1/chat/completions",
        "/v1/embeddings",
    ]
    for _, _, received, sent in upstream.requests:
        names = {name.lower(): value for name, value in received}
        assert names["authorization"] == "Bearer sk-the-operators"
        assert names["x-kept"] == "yes"
        assert secret not in json.dumps(received) and secret.encode() not in sent
        assert not any(name.startswith(("x-apprentice", "x-hermes")) for name in names)


async def test_a_specialist_exists_for_its_tenant_only(
    shared: Settings, upstream: Upstream
) -> None:
    keys = {name: make(shared, name) for name in ("ann", "bob")}
    source = serve_all(shared, {"anns-labels": "ann", "bobs-teams": "bob"})
    async with sidecar(shared, source) as running:
        seen = {}
        for name, key in keys.items():
            for text, slug in PATTERNS.items():
                status, headers, answer = await ask(running.url, key, text)
                assert status == 200
                ours = {k: v for k, v in headers.items() if k.startswith("x-apprentice-")}
                ours.pop("x-apprentice-overhead-ms")
                seen[name, slug] = ours
                if ours.get("x-apprentice-specialist") is None:
                    assert ours == {"x-apprentice-route": "upstream"}
                    assert "anns" not in json.dumps(answer) and "bobs" not in json.dumps(answer)
            status, _, models = await ask(running.url, key, path="/v1/models", method="GET")
            assert (status, [model["id"] for model in models["data"]]) == (200, ["big-one"])
        await running.parts.shadow.settle()
        await running.parts.recorder.write()
    routed = {who for who, ours in seen.items() if ours["x-apprentice-route"] == "specialist"}
    assert routed == {
        ("ann", "anns-labels"),
        ("ann", "shared-words"),
        ("bob", "bobs-teams"),
        ("bob", "shared-words"),
    }
    written = rows(shared, "SELECT tenant, slug, route FROM ledger WHERE slug IS NOT NULL")
    assert {(row["tenant"], row["slug"]) for row in written} == routed
    # Nobody's traffic counts for or against what he cannot see.
    compared = rows(shared, "SELECT slug FROM comparisons")
    assert compared == []


async def test_another_tenants_traffic_moves_no_rollout(
    shared: Settings, upstream: Upstream
) -> None:
    keys = {name: make(shared, name) for name in ("ann", "bob")}
    source = serve_all(shared, {"anns-labels": "ann"})
    with Database(shared.database_path) as database, database.transaction() as connection:
        connection.execute("UPDATE rollouts SET stage = 'shadow', share = 0")
    async with sidecar(shared, source) as running:
        for key in (keys["bob"], keys["bob"], keys["ann"]):
            assert (await ask(running.url, key, ANNS))[0] == 200
        await running.parts.shadow.settle()
        await running.parts.recorder.write()
    assert rows(shared, "SELECT slug FROM comparisons") == [{"slug": "anns-labels"}]


async def test_what_is_assigned_while_it_runs_is_hidden_soon(
    shared: Settings, upstream: Upstream
) -> None:
    bobs = make(shared, "bob")
    make(shared, "ann")
    source = serve_all(shared, {})
    async with sidecar(shared, source) as running:
        _, headers, _ = await ask(running.url, bobs, ANNS)
        assert headers["x-apprentice-route"] == "specialist"
        with Database(shared.database_path) as database:
            TenantStore(database).assign("anns-labels", "ann")
        deadline = time.monotonic() + DEADLINE
        while headers["x-apprentice-route"] != "upstream":
            assert time.monotonic() < deadline
            _, headers, _ = await ask(running.url, bobs, ANNS)


async def test_an_explanation_for_a_tenant_names_nobody_elses(
    shared: Settings, upstream: Upstream
) -> None:
    make(shared, "ann")
    make(shared, "bob")
    source = serve_all(shared, {"anns-labels": "ann", "bobs-teams": "bob"})
    async with sidecar(shared, source) as running, aiohttp.ClientSession() as session:

        async def explained(tenant: str) -> str:
            url = f"{running.url}/apprentice/explain"
            headers = {"x-apprentice-tenant": tenant}
            async with session.get(url, params={"text": ANNS}, headers=headers) as response:
                assert response.status == 200
                return await response.text()

        assert json.loads(await explained("ann"))["slug"] == "anns-labels"
        assert "anns-labels" not in await explained("bob")


async def test_a_tenant_has_no_way_into_the_upstreams_account(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann")
    paths = [
        ("GET", "/v1/files"),
        ("GET", "/v1/key"),
        ("GET", "/v1/credits"),
        ("POST", "/v1/keys"),
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/batches"),
        ("DELETE", "/v1/models/x"),
        ("GET", "/v1/models/a/b/endpoints"),
        ("POST", "/v1/embeddings/../keys"),
    ]
    async with sidecar(shared) as running:
        for method, path in paths:
            assert (await ask(running.url, None, path=path, method=method))[0] == 401
            assert (await ask(running.url, key, path=path, method=method))[0] == 404
        for path in sorted(STATELESS):
            assert (await ask(running.url, key, path=path))[0] == 200
    assert len(upstream.requests) == len(STATELESS)


async def test_the_real_client_raises_what_it_should(shared: Settings, upstream: Upstream) -> None:
    slow = make(shared, "slow", Limits(per_minute=1, burst=2))
    small = make(shared, "small", Limits(daily_requests=1))
    messages: Any = body()["messages"]
    async with sidecar(shared) as running:
        base = f"{running.url}/v1"

        def client(key: str, retries: int = 0) -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(api_key=key, base_url=base, max_retries=retries)

        async with client("sk-wrong") as wrong:
            with pytest.raises(openai.AuthenticationError) as refused:
                await wrong.chat.completions.create(model="big-one", messages=messages)
            assert refused.value.code == "invalid_api_key"
        async with client(slow) as hasty:
            for _ in range(2):
                await hasty.chat.completions.create(model="big-one", messages=messages)
            with pytest.raises(openai.RateLimitError) as limited:
                await hasty.chat.completions.create(model="big-one", messages=messages)
            assert limited.value.code == "rate_limit_exceeded"
            assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
        # Told not to, the client does not try again what cannot work before tomorrow.
        async with client(small, retries=5) as poor:
            stream = await poor.chat.completions.create(model="big-one", messages=messages)
            assert stream.choices[0].message.content == "from the upstream"
            began = time.monotonic()
            with pytest.raises(openai.RateLimitError) as over:
                await poor.chat.completions.create(model="big-one", messages=messages)
            assert time.monotonic() - began < 0.5
            assert over.value.code == "insufficient_quota"
            assert 0 < int(over.value.response.headers["retry-after"]) <= 86_400
    assert len(upstream.requests) == 3


async def test_a_client_that_waits_as_told_gets_through(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(per_minute=600, burst=1))
    messages: Any = body()["messages"]
    async with (
        sidecar(shared) as running,
        openai.AsyncOpenAI(api_key=key, base_url=f"{running.url}/v1", max_retries=3) as client,
    ):
        for _ in range(3):
            await client.chat.completions.create(model="big-one", messages=messages)
    assert len(upstream.requests) == 3


async def test_a_spent_budget_refuses_and_a_restart_remembers(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(monthly_budget=2 * COST))
    other = make(shared, "bob")
    async with sidecar(shared) as running:
        for _ in range(2):
            assert (await ask(running.url, key))[0] == 200
        status, headers, answer = await ask(running.url, key)
        assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
        assert "budget" in answer["error"]["message"] and headers["x-should-retry"] == "false"
        assert (await ask(running.url, other))[0] == 200
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 429
        with Database(shared.database_path) as database:
            TenantStore(database).change("ann", {"monthly_budget": 3 * COST})
        await running.parts.tenants.renew()
        assert (await ask(running.url, key))[0] == 200
        assert (await ask(running.url, key))[0] == 429
        await running.parts.tenants.renew()
    assert len(upstream.requests) == 4
    (used,) = rows(
        shared, "SELECT * FROM tenant_usage WHERE tenant = 'ann' AND period LIKE '____-__'"
    )
    assert (used["requests"], used["tokens"], used["cost"]) == (3, 312, 3 * COST)
    told = rows(shared, "SELECT text FROM outbox ORDER BY message_id")
    assert any("refused now" in row["text"] for row in told)
    charged = rows(shared, "SELECT tenant, SUM(cost) AS cost FROM ledger GROUP BY tenant")
    assert charged == [{"tenant": "ann", "cost": 3 * COST}, {"tenant": "bob", "cost": COST}]


async def test_a_budget_pays_for_nothing_whose_price_nobody_knows(
    shared: Settings, upstream: Upstream
) -> None:
    own_names = shared.model_copy(
        update={"upstream": shared.upstream.model_copy(update={"model": ""})}
    )
    key = make(shared, "ann", Limits(monthly_budget=1_000_000))
    async with sidecar(own_names) as running:
        assert (await ask(running.url, key))[0] == 200
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/v1/chat/completions"
            async with session.post(url, json=body(model="dear-one"), headers=headers) as response:
                assert response.status == 403
                assert (await response.json())["error"]["code"] == "model_without_price"
            for extra in ({"models": ["dear-one"]}, {"plugins": [{"id": "web"}]}):
                async with session.post(url, json=body(**extra), headers=headers) as response:
                    assert response.status == 403
        status, _, answer = await ask(running.url, key, path="/v1/embeddings")
        assert (status, answer["error"]["code"]) == (403, "not_metered")
    # A model's name that nobody can read is not the configured model's, either; one that is read
    # after all is replaced by it.
    async with sidecar(shared) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/v1/chat/completions"
        packed = gzip.compress(json.dumps(body(model="dear-one")).encode())
        for encoding, data in (("br", packed), ("gzip", packed + packed), ("gzip", packed[:-1])):
            hidden = {**headers, "content-encoding": encoding, "content-type": "application/json"}
            async with session.post(url, data=data, headers=hidden) as response:
                assert response.status == 403
        assert len(upstream.requests) == 1
        hidden = {**headers, "content-encoding": "gzip", "content-type": "application/json"}
        async with session.post(url, data=packed, headers=hidden) as response:
            assert response.status == 200
    assert [json.loads(request[-1])["model"] for request in upstream.requests[1:]] == ["big-one"]


async def test_audits_are_charged_to_the_tenant_they_were_made_for(
    shared: Settings, upstream: Upstream
) -> None:
    audited = shared.model_copy(
        update={"rollout": shared.rollout.model_copy(update={"audit_share": 1.0})}
    )
    key = make(shared, "ann", Limits(monthly_budget=10 * COST))
    source = serve_all(shared, {"anns-labels": "ann"})
    async with sidecar(audited, source) as running:
        assert (await ask(running.url, key, ANNS))[0] == 200
        await running.parts.shadow.settle()
        await running.parts.recorder.write()
        await running.parts.tenants.renew()
    written = rows(shared, "SELECT tenant, route, cost FROM ledger ORDER BY route")
    assert [(row["tenant"], row["route"]) for row in written] == [
        ("ann", "audit"),
        ("ann", "specialist"),
    ]
    (used,) = rows(shared, "SELECT cost FROM tenant_usage WHERE period LIKE '____-__'")
    assert used["cost"] == COST
    sent = [dict(received) for _, _, received, _ in upstream.requests]
    assert all(headers["Authorization"] == "Bearer sk-the-operators" for headers in sent)


async def test_two_sidecars_on_one_database_share_the_quotas(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(daily_requests=4))
    async with sidecar(shared) as one, sidecar(shared) as two:
        for _ in range(2):
            for running in (one, two):
                assert (await ask(running.url, key))[0] == 200
        for running in (one, two, one):
            await running.parts.tenants.renew()
        assert [(await ask(running.url, key))[0] for running in (one, two)] == [429, 429]


async def test_a_locked_database_does_not_turn_tenants_away(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(daily_requests=100))
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 200
        locker = sqlite3.connect(shared.database_path, isolation_level=None)
        try:
            locker.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            for _ in range(20):
                assert (await ask(running.url, key))[0] == 200
            assert time.monotonic() - began < 4
            locker.execute("ROLLBACK")
        finally:
            locker.close()
        await running.parts.tenants.renew()
    (used,) = rows(shared, "SELECT requests FROM tenant_usage WHERE period LIKE '____-__'")
    assert used["requests"] == 21


async def test_a_database_that_was_lost_lets_nobody_in(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann")
    for path in shared.database_path.parent.glob("apprentice.db*"):
        path.unlink()
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 401
        assert (await ask(running.url))[0] == 401
        _, _, health = await ask(running.url, path="/healthz", method="GET")
        assert "tenants.required" in health["problems"]["tenants"]
    for path in shared.database_path.parent.glob("apprentice.db*"):
        path.unlink()
    shared.database_path.write_bytes(b"this is not a database, whatever it is named" * 99)
    async with sidecar(shared) as running:
        status, headers, answer = await ask(running.url, key)
        assert (status, answer["error"]["code"]) == (503, "tenants_unreadable")
        assert headers["retry-after"] == "5"
    assert upstream.requests == []
    marker_of(shared.database_path).unlink()
    async with sidecar(shared) as running:
        assert (await ask(running.url))[0] == 200


async def test_an_unreadable_database_refuses_all_in_the_end_and_lets_them_in_once_repaired(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann")
    whole = shared.database_path.read_bytes()
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 200
        tenants, store = running.parts.tenants, running.parts.tenants._store
        for path in shared.database_path.parent.glob("apprentice.db*"):
            path.unlink()
        shared.database_path.write_bytes(b"this is not a database, whatever it is named" * 99)
        await tenants.renew()
        assert (await ask(running.url, key))[0] == 200
        tenants._ticks = lambda: time.monotonic() + STALE_SECONDS + 1
        status, _, answer = await ask(running.url, key)
        assert (status, answer["error"]["code"]) == (503, "tenants_unreadable")
        assert (await ask(running.url))[0] == 503
        _, _, health = await ask(running.url, path="/healthz", method="GET")
        assert "not an Apprentice database" in health["problems"]["tenants"]
        # A clock that jumps opens nothing.
        tenants._clock = lambda: 0.0
        assert (await ask(running.url, key))[0] == 503
        tenants._clock = time.time
        shared.database_path.unlink()
        shared.database_path.write_bytes(whole)
        store._clock = lambda: time.monotonic() + 60
        await tenants.renew()
        assert (await ask(running.url, key))[0] == 200
        assert (await ask(running.url))[0] == 401


def own_address() -> str:
    """Return an address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


async def test_other_machines_come_in_with_a_key_only(shared: Settings, upstream: Upstream) -> None:
    everywhere = shared.model_copy(update={"server": ServerSettings(host="0.0.0.0", port=0)})
    with pytest.raises(ConfigError, match="tenants create"):
        async with sidecar(everywhere):
            pass
    key = make(shared, "ann")
    with Database(shared.database_path) as database:
        admin = TenantStore(database).rotate_admin(time.time()).text
    async with sidecar(everywhere) as running:
        assert running.url.startswith("http://127.0.0.1:")
        far = running.url.replace("127.0.0.1", own_address())
        port = running.url.rpartition(":")[2]
        assert (await ask(far))[0] == 401
        assert (await ask(far, admin))[0] == 401
        assert (await ask(far, key))[0] == 200
        named = {"host": f"host.docker.internal:{port}"}
        assert (await ask(far, key, headers=named))[0] == 200
        assert (await ask(far, key, headers={"host": "rebound.example"}))[0] == 403
        assert (await ask(far, key, headers={"origin": "http://page.example"}))[0] == 403
        assert (await ask(far, key, headers={"sec-fetch-site": "cross-site"}))[0] == 403
        for path in (
            "/metrics",
            "/dashboard",
            "/admin/overview",
            "/apprentice/explain?text=x",
            "/anything",
        ):
            for wrong in (None, key, "sk-x"):
                status, headers, _ = await ask(far, wrong, path=path, method="GET")
                assert status == 401
                assert headers["www-authenticate"].startswith("Basic")
        pair = base64.b64encode(f"operator:{admin}".encode()).decode()
        for proof in (f"Bearer {admin}", f"Basic {pair}"):
            headers = {"authorization": proof}
            assert (await ask(far, path="/metrics", method="GET", headers=headers))[0] == 200
        status, _, health = await ask(far, path="/healthz", method="GET")
        assert (status, health) == (200, {"status": "ok"})
        _, _, health = await ask(far, admin, path="/healthz", method="GET")
        assert "specialists" in health


async def test_a_large_request_without_a_key_is_refused_before_it_is_read(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann")
    large = json.dumps(body("x" * 3_000_000)).encode()
    async with sidecar(shared) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/v1/chat/completions"
        for sent, expected in ((None, 401), (key, 200), ("ap-wrong", 401)):
            headers = {"authorization": f"Bearer {sent}"} if sent else {}
            async with session.post(url, data=io.BytesIO(large), headers=headers) as response:
                assert response.status == expected
                await response.read()
    assert len(upstream.requests) == 1


async def test_no_log_and_no_note_holds_a_key(
    shared: Settings, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    key = make(shared, "ann")
    secret = key.rpartition("-")[2]
    with caplog.at_level(0):
        async with sidecar(shared) as running:
            for sent in (key, key[:-1], key + "0"):
                await ask(running.url, sent)
                await ask(running.url, sent, path="/v1/nothing", method="GET")
            _, _, metrics = await ask(running.url, path="/metrics", method="GET")
            _, _, health = await ask(running.url, path="/healthz", method="GET")
    assert 'apprentice_refused_total{reason="wrong_key"} 4.0' in metrics
    everything = caplog.text + metrics + json.dumps(health)
    assert secret[:20] not in everything
    for path in shared.home.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()


async def test_many_calls_at_once_do_not_overrun_a_budget(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(monthly_budget=4 * COST))
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 200
        upstream.hold = asyncio.Event()
        calls = [asyncio.create_task(ask(running.url, key)) for _ in range(12)]
        deadline = time.monotonic() + DEADLINE
        while sum(one.done() for one in calls) < 9:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert {one.result()[0] for one in calls if one.done()} == {429}
        upstream.hold.set()
        answers = await asyncio.gather(*calls)
        assert sorted(status for status, _, _ in answers) == [200] * 3 + [429] * 9
        assert (await ask(running.url, key))[2]["error"]["code"] == "insufficient_quota"
        assert not +running.parts.tenants._inside


async def test_a_call_that_is_given_up_makes_room_again(
    shared: Settings, upstream: Upstream
) -> None:
    key = make(shared, "ann", Limits(monthly_budget=2 * COST))
    async with sidecar(shared) as running:
        assert (await ask(running.url, key))[0] == 200
        upstream.hold = asyncio.Event()
        given_up = asyncio.create_task(ask(running.url, key))
        deadline = time.monotonic() + DEADLINE
        while len(upstream.requests) < 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (await ask(running.url, key))[0] == 429
        given_up.cancel()
        await asyncio.wait({given_up})
        upstream.hold.set()
        while +running.parts.tenants._inside:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
