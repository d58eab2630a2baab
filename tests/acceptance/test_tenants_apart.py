"""One tenant's specialist, from its own sessions to its own answers, and nobody else's."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hermes_apprentice.demo.texts import Corpus, Sizes, make_corpus
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

NOW = 1_790_000_000.0
TOOLS = [{"type": "function", "function": {"name": "terminal", "parameters": {}}}]


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": "from the upstream"}
        return web.json_response({"choices": [{"index": 0, "message": message}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/v1"
    await runner.cleanup()


def test_what_is_learned_from_a_tenants_profile_is_that_tenants(
    sessions_home: Path, copy_of: Callable[[Path], Settings]
) -> None:
    settings = copy_of(sessions_home)
    with Database(settings.database_path) as database:
        office = TenantStore(database)
        office.create("ann", Limits(), NOW)
        office.create("bob", Limits(), NOW)
        office.map_profile("default", "ann")
        office.map_profile("elsewhere", "bob")
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        pipeline.observe()
        pipeline.detect()
        slugs = {one.pattern.slug for one in pipeline.candidates()}
        assert len(slugs) == 2
        assert office.directory().owners == dict.fromkeys(slugs, "ann")
        assert office.directory().hidden_from("bob") == slugs


async def test_only_its_tenant_is_answered_by_a_real_specialist(
    trained_home: Path, copy_of: Callable[[Path], Settings], past: Corpus, upstream: str
) -> None:
    settings = copy_of(trained_home).model_copy(
        update={
            "upstream": UpstreamSettings(base_url=upstream, api_key_env="", model="big-one"),
            "server": ServerSettings(port=0),
        }
    )
    with Database(settings.database_path) as database:
        office = TenantStore(database)
        keys = {name: office.create(name, Limits(), NOW).text for name in ("ann", "bob")}
        pipeline = open_pipeline(settings, database)
        (anns,) = [one for one in pipeline.candidates() if one.pattern.kind is Kind.CLASSIFIER]
        own = office.assign(anns.candidate_id, "ann")
        with database.transaction() as connection:
            connection.execute("UPDATE rollouts SET stage = 'live', share = 1.0")
    sizes = Sizes(order=20, ticket=20, chat=5, multi_turn=1, tool=1)
    fresh = make_corpus(random.Random(98), sizes, apart_from=(past,))
    routes: dict[tuple[str, str], list[tuple[str | None, str | None]]] = {}
    async with running_sidecar(settings) as running, aiohttp.ClientSession() as session:
        for name, key in keys.items():
            for task in ("ticket", "order"):
                for item in fresh.of(task):
                    sent: dict[str, Any] = {
                        "model": "big-one",
                        "messages": [{"role": "user", "content": item.request}],
                        "tools": TOOLS,
                    }
                    async with session.post(
                        f"{running.url}/v1/chat/completions",
                        json=sent,
                        headers={"authorization": f"Bearer {key}"},
                    ) as response:
                        assert response.status == 200
                        route = response.headers["x-apprentice-route"]
                        slug = response.headers.get("x-apprentice-specialist")
                    routes.setdefault((name, task), []).append((route, slug))
        assert await running.parts.recorder.write()

    def answered(name: str, task: str) -> set[str | None]:
        return {slug for route, slug in routes[name, task] if route == "specialist"}

    assert answered("ann", "ticket") == {own}
    assert set(routes["bob", "ticket"]) == {("upstream", None)}
    # The order specialist is everybody's, and answers both alike.
    assert len(answered("ann", "order")) == 1 and own not in answered("ann", "order")
    assert routes["ann", "order"] == routes["bob", "order"]
    with Database(settings.database_path) as database:
        rows = database.read("SELECT DISTINCT tenant FROM ledger WHERE slug = ?", (own,))
        assert [row[0] for row in rows] == ["ann"]
