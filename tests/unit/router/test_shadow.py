from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.router.costing import Costing
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.shadow import Beside, Shadow
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.tap import Heard
from hermes_apprentice.router.upstream import Upstream
from hermes_apprentice.settings import Settings
from hermes_apprentice.testing import FakeRuntime

SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))


def job(runtime: object, text: str | None = "bug") -> Beside:
    loaded = Loaded(slug="label-ticket", version=1, shape=SHAPE, runtime=runtime)  # type: ignore[arg-type]
    heard = Heard(usage=None, events=1, size=1, text=text)
    return Beside(loaded=loaded, request="a", encoding=None, heard=heard)


@pytest.fixture
async def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def shadow(settings: Settings, metrics: Metrics) -> AsyncIterator[Shadow]:
    store = Store(settings.database_path)
    yield Shadow(
        upstream=Upstream(settings.upstream, None),
        recorder=Recorder(store),
        costing=Costing(lambda model: None),
        metrics=metrics,
        deadline=5,
        limit=2,
    )
    await store.close()


@contextmanager
def running(shadow: Shadow) -> Iterator[None]:
    task = asyncio.create_task(shadow.run())
    try:
        yield
    finally:
        task.cancel()


async def test_what_does_not_fit_is_dropped_and_counted(shadow: Shadow) -> None:
    assert [shadow.offer(job(FakeRuntime({}))) for _ in range(5)] == [True] * 2 + [False] * 3
    assert (shadow.dropped, shadow.waiting) == (3, 2)


async def test_one_failing_comparison_does_not_end_the_others(
    shadow: Shadow, metrics: Metrics
) -> None:
    class Broken:
        async def answer(self, request: str, encoding: object = None) -> object:
            raise RuntimeError("broken model")

        def close(self) -> None:
            pass

    with running(shadow):
        for _ in range(4):
            shadow.offer(job(Broken()))
            await asyncio.wait_for(shadow.settle(), 5)
        shadow.offer(job(FakeRuntime({"a": "bug"})))
        await asyncio.wait_for(shadow.settle(), 5)
    assert metrics.comparisons["label-ticket", "shadow", "error"] == 4
    assert metrics.comparisons["label-ticket", "shadow", "agreed"] == 1


async def test_the_specialist_is_not_run_where_there_is_nothing_to_compare_with(
    shadow: Shadow,
) -> None:
    runtime = FakeRuntime({"a": "bug"})
    with running(shadow):
        shadow.offer(job(runtime, text=None))
        await asyncio.wait_for(shadow.settle(), 5)
    assert runtime.asked == []
