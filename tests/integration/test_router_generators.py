"""Generators behind the router: registry, matcher, sidecar and SSE; only vLLM is a fake."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.router.explain import explain_request
from hermes_apprentice.router.server import Sidecar, running_sidecar
from hermes_apprentice.settings import Settings, VllmSettings

TICKETS = tuple(
    f"Label this ticket: the {thing} {trouble}"
    for thing in ("lamp", "invoice", "screen")
    for trouble in ("is broken", "went missing", "came twice")
)
COLOURS = tuple(
    f"Which colour has {thing} in the catalogue?"
    for thing in ("the blanket", "this kettle", "our bench", "a bowl", "that vase", "my towel")
)
PATTERNS = {"tickets": TICKETS, "colours": COLOURS}
PATIENCE = 30.0


@pytest.fixture
async def placed(
    settings: Settings,
    embedder: Embedder,
    fake_vllm: Any,
    vllm_stage: ModuleType,
    generators_stage: ModuleType,
    tmp_path: Path,
) -> AsyncIterator[Settings]:
    """Two live generators in the registry, and room for one of them on the server."""
    for slug, word in (("tickets", "fault"), ("colours", "red")):
        folder = tmp_path / slug
        vllm_stage.write_generator(folder, {"Label: canary": f"{word}!", "": word})
        generators_stage.publish(settings, embedder, slug, folder)
        generators_stage.set_stage(settings, slug, Stage.LIVE)
    generators_stage.publish_matcher(settings, embedder, PATTERNS)
    chosen = VllmSettings(server="url", url=fake_vllm.url, max_loras=1, deadline_seconds=10)
    async with generators_stage.with_upstream(settings) as found:
        yield found.model_copy(update={"vllm": chosen})


async def ready(stage: ModuleType, running: Sidecar) -> None:
    """Wait until both are loaded and the server is known to be up."""
    specialists = running.parts.specialists
    await stage.until(
        lambda: not specialists.problems and len(specialists.now.loading.specialists) == 2,
        PATIENCE,
        lambda: specialists.problems,
    )


async def test_streams_are_answered_by_the_right_adapter_and_booked_with_its_digest(
    placed: Settings, generators_stage: ModuleType, fake_vllm: Any
) -> None:
    async with running_sidecar(placed) as running:
        await ready(generators_stage, running)
        jobs = [(text, "fault") for text in TICKETS] + [(text, "red") for text in COLOURS]
        replies = await asyncio.gather(
            *(generators_stage.ask(running.url, text) for text, _ in jobs * 3)
        )
        for (_, word), reply in zip(jobs * 3, replies, strict=True):
            assert (reply.text, reply.route, reply.finish) == (word, "specialist", "stop")
            assert reply.version == "1"
        digests = {reply.text: reply.digest for reply in replies}
        assert len(set(digests.values())) == 2
        names = {event.split()[1] for event in fake_vllm.events}
        assert {name.rpartition("-")[2] for name in names} == set(digests.values())
        plain = await generators_stage.ask(running.url, TICKETS[0], stream=False)
        assert (plain.text, plain.route) == ("fault", "specialist")
    with closing(sqlite3.connect(placed.database_path)) as database:
        rows = database.execute("SELECT DISTINCT slug, version, digest FROM ledger").fetchall()
    assert set(rows) == {("tickets", 1, digests["fault"]), ("colours", 1, digests["red"])}


async def test_a_demoted_generator_is_unloaded_its_copy_goes_and_it_can_come_back(
    placed: Settings, generators_stage: ModuleType, fake_vllm: Any
) -> None:
    async with running_sidecar(placed) as running:
        await ready(generators_stage, running)
        assert (await generators_stage.ask(running.url, TICKETS[0])).text == "fault"
        assert any(name.startswith("tickets-v1-") for name in fake_vllm.adapters)
        assert len(list(placed.resident_dir.rglob("generator.json"))) == 2
        generators_stage.set_stage(placed, "tickets", Stage.QUARANTINED)
        await generators_stage.until(
            lambda: (
                not any(name.startswith("tickets-") for name in fake_vllm.adapters)
                and len(list(placed.resident_dir.rglob("generator.json"))) == 1
            ),
            PATIENCE,
            lambda: fake_vllm.events,
        )
        assert (await generators_stage.ask(running.url, TICKETS[0])).route == "upstream"
        generators_stage.set_stage(placed, "tickets", Stage.LIVE)
        await ready(generators_stage, running)
        again = await generators_stage.ask(running.url, TICKETS[0])
        assert (again.text, again.route) == ("fault", "specialist")
    assert list(placed.resident_dir.rglob("generator.json")) == []


async def test_a_new_version_takes_over_and_the_old_adapter_goes(
    placed: Settings,
    embedder: Embedder,
    generators_stage: ModuleType,
    vllm_stage: ModuleType,
    fake_vllm: Any,
    tmp_path: Path,
) -> None:
    async with running_sidecar(placed) as running:
        await ready(generators_stage, running)
        first = await generators_stage.ask(running.url, TICKETS[0])
        vllm_stage.write_generator(tmp_path / "next", {"Label: canary": "new!", "": "defect"})
        generators_stage.publish(placed, embedder, "tickets", tmp_path / "next")
        generators_stage.set_stage(placed, "tickets", Stage.LIVE, version=2)
        texts = set()
        deadline = time.monotonic() + PATIENCE
        while "defect" not in texts:
            reply = await generators_stage.ask(running.url, TICKETS[0])
            assert reply.route in ("specialist", "fallback", "upstream")
            texts.add(reply.text)
            assert time.monotonic() < deadline
        assert reply.version == "2"
        assert reply.digest != first.digest
        await generators_stage.until(
            lambda: not any(name.startswith("tickets-v1-") for name in fake_vllm.adapters),
            PATIENCE,
            lambda: fake_vllm.events,
        )


async def test_without_the_server_the_upstream_answers_at_once_and_everything_is_said(
    placed: Settings, generators_stage: ModuleType
) -> None:
    nowhere = VllmSettings(server="url", url="http://127.0.0.1:9/v1")
    settings = placed.model_copy(update={"vllm": nowhere})
    async with running_sidecar(settings) as running:
        began = time.monotonic()
        reply = await generators_stage.ask(running.url, TICKETS[0])
        assert (reply.text, reply.route) == (generators_stage.UPSTREAM_SAYS, "fallback")
        assert time.monotonic() - began < 2
        assert "vllm" in running.parts.specialists.problems


async def test_without_the_setting_each_generator_is_a_problem_that_names_it(
    placed: Settings, generators_stage: ModuleType
) -> None:
    settings = placed.model_copy(update={"vllm": VllmSettings()})
    async with running_sidecar(settings) as running:
        reply = await generators_stage.ask(running.url, TICKETS[0])
        assert reply.route == "upstream"
        assert "vllm.server is off" in running.parts.specialists.problems["tickets"]


async def test_a_generator_may_take_longer_than_the_others_and_not_longer_than_its_own_time(
    placed: Settings, generators_stage: ModuleType, fake_vllm: Any
) -> None:
    fake_vllm.hold = "the screen"
    fast = placed.rollout.model_copy(update={"deadline_seconds": 0.5})
    async with running_sidecar(placed.model_copy(update={"rollout": fast})) as running:
        await ready(generators_stage, running)
        slow = asyncio.create_task(generators_stage.ask(running.url, TICKETS[-1]))
        assert await asyncio.to_thread(fake_vllm.held.acquire, True, 10)
        await asyncio.wait({slow}, timeout=0.8)  # longer than the common deadline
        assert not slow.done()
        fake_vllm.go.set()
        assert (await slow).route == "specialist"
    fake_vllm.go.clear()
    hasty = placed.vllm.model_copy(update={"deadline_seconds": 0.3})
    async with running_sidecar(placed.model_copy(update={"vllm": hasty})) as running:
        await ready(generators_stage, running)
        late = await generators_stage.ask(running.url, TICKETS[-1])
        assert (late.text, late.route) == (generators_stage.UPSTREAM_SAYS, "fallback")


async def test_explaining_starts_no_server(
    placed: Settings, generators_stage: ModuleType, fake_vllm: Any
) -> None:
    found = await asyncio.to_thread(explain_request, placed, TICKETS[0])
    assert (found.route, found.slug) == ("specialist", "tickets")
    assert fake_vllm.events == []


async def test_a_generator_that_was_judged_elsewhere_is_not_served(
    placed: Settings, embedder: Embedder, generators_stage: ModuleType, tmp_path: Path
) -> None:
    generators_stage.publish(
        placed, embedder, "tickets", tmp_path / "tickets", served_by="elsewhere"
    )
    generators_stage.set_stage(placed, "tickets", Stage.LIVE, version=2)
    async with running_sidecar(placed) as running:
        await generators_stage.until(
            lambda: "tickets" in running.parts.specialists.problems, PATIENCE, lambda: "nothing"
        )
        assert "elsewhere" in running.parts.specialists.problems["tickets"]
        assert (await generators_stage.ask(running.url, TICKETS[0])).route == "upstream"


async def test_a_model_that_the_operator_named_is_served_after_its_canary(
    placed: Settings,
    embedder: Embedder,
    generators_stage: ModuleType,
    fake_vllm: Any,
    tmp_path: Path,
) -> None:
    generators_stage.publish(
        placed, embedder, "tickets", tmp_path / "tickets", served_by="elsewhere"
    )
    generators_stage.set_stage(placed, "tickets", Stage.LIVE, version=2)
    fake_vllm.loads_adapters = False
    fake_vllm.adapters["tickets-v2"] = {"Label: canary": "fault!", "": "fault"}
    named = placed.vllm.model_copy(update={"served_names": {"tickets": "tickets-v2"}})
    async with running_sidecar(placed.model_copy(update={"vllm": named})) as running:
        specialists = running.parts.specialists
        await generators_stage.until(
            lambda: (
                "tickets" in specialists.now.loading.specialists
                and {"vllm", "tickets"}.isdisjoint(specialists.problems)
            ),
            PATIENCE,
            lambda: specialists.problems,
        )
        reply = await generators_stage.ask(running.url, TICKETS[0])
        assert (reply.text, reply.route, reply.version) == ("fault", "specialist", "2")
        assert fake_vllm.events == []
