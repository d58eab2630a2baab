from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.specialists import (
    FAILURES,
    RETRY_SECONDS,
    Loaded,
    Loading,
    Specialists,
)
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
    assert "RuntimeError" in specialists.problems["registry"]


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


# --- merged specialists -------------------------------------------------------------------

PARENT = replace(LIVE, slug="left")
HEIR = replace(LIVE, slug="whole", stage=Stage.SHADOW, share=0.0)


async def family(
    settings: Settings, store: Store, *rollouts: Rollout
) -> tuple[Specialists, Loaded, Loaded]:
    for rollout in rollouts:
        save(settings, rollout)
    left = replace(loaded(), slug="left")
    whole = replace(loaded(), slug="whole", parents=("left", "right"))
    specialists = Specialists(FakeSource(FakeMatcher({}), left, whole), store)
    await specialists.refresh()
    return specialists, left, whole


async def test_a_merged_specialist_in_shadow_only_watches_its_parents(
    settings: Settings, store: Store
) -> None:
    specialists, left, whole = await family(settings, store, PARENT, HEIR)
    found = specialists.now.serving("left", "any")
    assert found == (left, PARENT, whole, True)
    assert specialists.now.serving("elsewhere", "any") is None


async def test_a_merged_specialist_that_is_hidden_from_somebody_never_sees_their_requests(
    settings: Settings, store: Store
) -> None:
    heir = replace(HEIR, stage=Stage.LIVE, share=1.0)
    specialists, left, _ = await family(settings, store, PARENT, heir)
    hidden = frozenset({"whole"})
    assert specialists.now.serving("left", "any", hidden) == (left, PARENT, None, False)


async def test_a_merged_specialist_answers_its_share_of_its_parents_sessions(
    settings: Settings, store: Store
) -> None:
    heir = replace(HEIR, stage=Stage.CANARY, share=0.5)
    specialists, left, whole = await family(settings, store, PARENT, heir)
    found = [specialists.now.serving("left", f"session {index}") for index in range(200)]
    own = [one for one in found if one is not None and one.loaded is whole]
    assert 70 < len(own) < 130
    assert all(one.heir is None and one.proving for one in own)
    assert all(one is not None and (one.loaded is whole or one.heir is whole) for one in found)
    assert any(one is not None and one.loaded is left for one in found)


async def test_a_live_merged_specialist_takes_its_parents_place_at_once(
    settings: Settings, store: Store
) -> None:
    heir = replace(HEIR, stage=Stage.LIVE, share=1.0)
    specialists, _, whole = await family(settings, store, PARENT, heir)
    assert specialists.now.serving("left", "any") == (whole, heir, None, False)
    save(settings, replace(PARENT, stage=Stage.RETIRED))
    await specialists.refresh()
    assert specialists.now.serving("left", "any") == (whole, heir, None, False)


@pytest.mark.parametrize("stage", [Stage.QUARANTINED, Stage.RETIRED])
async def test_a_merged_specialist_out_of_service_leaves_its_parents_alone(
    settings: Settings, store: Store, stage: Stage
) -> None:
    specialists, left, _ = await family(settings, store, PARENT, replace(HEIR, stage=stage))
    assert specialists.now.serving("left", "any") == (left, PARENT, None, False)


async def test_what_could_not_be_loaded_is_tried_again_though_no_file_changed(
    settings: Settings, store: Store
) -> None:
    class Short(FakeSource):
        full = True

        def load(self, wanted: Mapping[str, int]) -> Loading:
            found = super().load(wanted)
            return replace(found, specialists={}, problems={"disk": "full"}) if self.full else found

    save(settings, LIVE)
    now = 0.0
    source = Short(FakeMatcher({}), loaded())
    specialists = Specialists(source, store, clock=lambda: now)
    await specialists.refresh()
    assert specialists.problems == {"disk": "full"}
    source.full = False
    await specialists.refresh()
    assert source.loads == 1
    now = RETRY_SECONDS
    await specialists.refresh()
    assert specialists.problems == {}
    assert specialists.now.find("label-ticket") is not None
    now *= 3
    await specialists.refresh()
    assert source.loads == 2


async def test_while_the_database_is_broken_a_withdrawn_version_is_withdrawn_all_the_same(
    settings: Settings, store: Store
) -> None:
    save(settings, LIVE)
    source = FakeSource(FakeMatcher({}), loaded())
    specialists = Specialists(source, store)
    await specialists.refresh()
    await store.close()
    for ending in ("", "-wal", "-shm"):
        path = settings.database_path.with_name(f"{settings.database_path.name}{ending}")
        path.unlink(missing_ok=True)
    settings.database_path.write_bytes(b"no database " * 100)
    source.available.clear()
    await specialists.refresh()
    assert specialists.now.find("label-ticket") is None
    assert {"rollouts", "label-ticket"} == set(specialists.problems)


async def test_what_keeps_failing_is_told(settings: Settings, store: Store) -> None:
    save(settings, LIVE)
    served = loaded()
    specialists = Specialists(FakeSource(FakeMatcher({}), served), store)
    await specialists.refresh()
    for _ in range(FAILURES):
        assert specialists.problems == {}
        served.breaker.failed()
        specialists.now.loading.breaker.failed()
    assert set(specialists.problems) == {"label-ticket", "matcher"}
    served.breaker.succeeded()
    assert set(specialists.problems) == {"matcher"}
