"""The whole way on the real vLLM: registry, matcher, router, SSE, demotion and return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.serving.model_server import served_now
from hermes_apprentice.serving.vllm import read_note
from hermes_apprentice.settings import Settings

PATIENCE = 250.0


@pytest.mark.timeout(600)
async def test_two_adapters_answer_hermes_through_the_router(
    vllm_settings: Settings,
    embedder: Embedder,
    generators_stage: ModuleType,
    artefact: Callable[..., Path],
    tiny: Any,
) -> None:
    patterns = {"tickets": tiny.facts["tickets"], "colours": tiny.facts["colours"]}
    adapters = {"tickets": "kind", "colours": "colour"}
    for slug, adapter in adapters.items():
        generators_stage.publish(vllm_settings, embedder, slug, artefact(adapter))
        generators_stage.set_stage(vllm_settings, slug, Stage.LIVE)
    generators_stage.publish_matcher(vllm_settings, embedder, patterns)
    jobs = [(text, adapters[slug]) for slug, texts in patterns.items() for text in texts]

    async with (
        generators_stage.with_upstream(vllm_settings) as settings,
        running_sidecar(settings) as running,
    ):
        specialists = running.parts.specialists

        async def ready() -> None:
            await generators_stage.until(
                lambda: not specialists.problems and len(specialists.now.loading.specialists) == 2,
                PATIENCE,
                lambda: specialists.problems,
            )

        def served(slug: str) -> list[str]:
            names = served_now(read_note(settings.vllm_note))
            return [name for name in names if name.startswith(f"{slug}-v1-")]

        # While vLLM starts, the upstream answers at once.
        early = await generators_stage.ask(running.url, jobs[0][0])
        assert (early.text, early.route) == (generators_stage.UPSTREAM_SAYS, "fallback")

        await ready()
        began = time.perf_counter()
        replies = await asyncio.gather(
            *(generators_stage.ask(running.url, text) for text, _ in jobs)
        )
        print(f"{len(jobs)} streams: {time.perf_counter() - began:.2f} s")
        for (text, adapter), reply in zip(jobs, replies, strict=True):
            assert reply.text == tiny.answer(adapter, text)
            assert (reply.route, reply.version, reply.finish) == ("specialist", "1", "stop")
            assert reply.digest is not None

        times = []
        for text, _ in [job for job in jobs if job[1] == "kind"] * 3:
            began = time.perf_counter()
            assert (await generators_stage.ask(running.url, text)).route == "specialist"
            times.append(1_000 * (time.perf_counter() - began))
        times.sort()
        print(f"one after the other: p50 {times[len(times) // 2]:.0f} ms, worst {times[-1]:.0f} ms")

        assert await asyncio.to_thread(served, "tickets")
        generators_stage.set_stage(settings, "tickets", Stage.RETIRED)
        while await asyncio.to_thread(served, "tickets"):
            await asyncio.sleep(0.1)
        assert (await generators_stage.ask(running.url, jobs[0][0])).route == "upstream"
        other = await generators_stage.ask(running.url, jobs[-1][0])
        assert (other.text, other.route) == (tiny.answer("colour", jobs[-1][0]), "specialist")

        generators_stage.set_stage(settings, "tickets", Stage.LIVE)
        await ready()
        back = await generators_stage.ask(running.url, jobs[0][0])
        assert (back.text, back.route) == (tiny.answer("kind", jobs[0][0]), "specialist")
