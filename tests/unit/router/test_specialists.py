from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.specialists import Loaded, Loading, Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource

SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
LIVE = Rollout(
    slug="label-ticket",
    version=1,
    stage=Stage.LIVE,
    share=1.0,
    held=False,
    step_started_at=0.0,
    reason="",
)


def loaded(version: int = 1) -> Loaded:
    return Loaded(
        slug="label-ticket", version=version, shape=SHAPE, runtime=FakeRuntime({"a": "bug"})
    )


def save(settings: Settings, rollout: Rollout) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_rollout(connection, rollout, 1.0)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = Store(settings.database_path)
    yield opened
    await opened.close()


async def test_what_the_database_names_and_the_source_has_is_served(
    settings: Settings, store: Store
) -> None:
    save(settings, LIVE)
    served = loaded()
    specialists = Specialists(FakeSource(FakeMatcher({}), served), store)
    await specialists.refresh()
    assert specialists.now.find("label-ticket") == (served, LIVE)
    assert specialists.now.find("order-json") is None


async def test_another_version_than_the_rollouts_is_never_served(
    settings: Settings, store: Store
) -> None:
    save(settings, LIVE)
    source = FakeSource(FakeMatcher({}), loaded(1))
    specialists = Specialists(source, store)
    await specialists.refresh()
    save(settings, replace(LIVE, version=2))
    await specialists.refresh()
    assert specialists.now.find("label-ticket") is None
    assert specialists.problems == {"label-ticket": "not available"}
    source.available["label-ticket", 2] = loaded(2)
    await specialists.refresh()
    found = specialists.now.find("label-ticket")
    assert found is not None and found[0].version == 2


async def test_nothing_is_loaded_again_while_nothing_changes(
    settings: Settings, store: Store
) -> None:
    save(settings, LIVE)
    source = FakeSource(FakeMatcher({}), loaded())
    specialists = Specialists(source, store)
    for _ in range(3):
        await specialists.refresh()
    save(settings, replace(LIVE, share=0.5, stage=Stage.CANARY))
    await specialists.refresh()
    assert source.loads == 1
    found = specialists.now.find("label-ticket")
    assert found is not None and found[1].share == 0.5
    await specialists.refresh(force=True)
    assert source.loads == 2


async def test_what_is_out_of_service_is_not_even_loaded(settings: Settings, store: Store) -> None:
    save(settings, replace(LIVE, stage=Stage.RETIRED))
    specialists = Specialists(FakeSource(FakeMatcher({}), loaded()), store)
    await specialists.refresh()
    assert specialists.now.idle


async def test_a_source_that_fails_leaves_nothing_served_and_says_why(
    settings: Settings, store: Store
) -> None:
    class Broken(FakeSource):
        def load(self, wanted: Mapping[str, int]) -> Loading:
            raise RuntimeError("the disk is on fire")

    save(settings, LIVE)
    specialists = Specialists(Broken(FakeMatcher({}), loaded()), store)
    await specialists.refresh()
    assert specialists.now.idle
    assert "on fire" in specialists.problems["registry"]


async def test_while_the_database_cannot_be_read_the_last_state_stays(
    settings: Settings, store: Store
) -> None:
    save(settings, LIVE)
    specialists = Specialists(FakeSource(FakeMatcher({}), loaded()), store)
    await specialists.refresh()
    database = await store.database()
    async with database.transaction() as connection:
        await connection.execute("ALTER TABLE rollouts RENAME TO gone")
    await specialists.refresh()
    assert specialists.now.find("label-ticket") is not None
    assert "rollouts" in specialists.problems
