from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from hermes_apprentice.domain.accounting import Comparison, Origin
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.specialists import Loaded, Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import RolloutSettings, Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.ledger import append
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource

START = 1_790_000_000.0
RULES = RolloutSettings(min_step_comparisons=5, min_step_seconds=60)
SHADOW = Rollout(
    slug="label-ticket",
    version=1,
    stage=Stage.SHADOW,
    share=0.0,
    held=False,
    step_started_at=START,
    reason="",
)


@dataclass
class Rig:
    settings: Settings
    store: Store
    specialists: Specialists
    conductor: Conductor
    now: float = START + 3_600

    async def compare(self, agreed: bool, count: int, version: int = 1) -> None:
        one = Comparison(
            slug="label-ticket",
            version=version,
            at=self.now - 1,
            origin=Origin.SHADOW,
            agreed=agreed,
            answered=True,
        )
        await append(await self.store.database(), [], [one] * count)

    def stored(self) -> Rollout | None:
        with Database(self.settings.database_path) as database:
            with database.transaction() as connection:
                return find_rollout(connection, "label-ticket")


@pytest.fixture
async def rig(settings: Settings, database: Database) -> AsyncIterator[Rig]:
    with database.transaction() as connection:
        save_rollout(connection, SHADOW, START)
    store = Store(settings.database_path)
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug",))
    loaded = Loaded(slug="label-ticket", version=1, shape=shape, runtime=FakeRuntime({}))
    specialists = Specialists(FakeSource(FakeMatcher({}), loaded), store)
    await specialists.refresh()
    conductor = Conductor(store, specialists, RULES, clock=lambda: found.now)
    found = Rig(settings, store, specialists, conductor)
    yield found
    await store.close()


async def test_agreement_moves_a_specialist_and_the_sidecar_sees_it_at_once(rig: Rig) -> None:
    await rig.compare(True, 19)
    assert not await rig.conductor.step()
    await rig.compare(True, 1)
    assert await rig.conductor.step()
    assert rig.specialists.now.rollouts["label-ticket"].stage is Stage.CANARY
    stored = rig.stored()
    assert stored is not None and (stored.stage, stored.share) == (Stage.CANARY, 0.05)


async def test_a_step_is_taken_once_and_not_again_without_new_evidence(rig: Rig) -> None:
    await rig.compare(True, 30)
    assert await rig.conductor.step()
    rig.now += 3_600
    assert not await rig.conductor.step()
    await rig.compare(True, 5)
    assert await rig.conductor.step()


async def test_a_restarted_sidecar_goes_on_where_the_last_one_stopped(rig: Rig) -> None:
    await rig.compare(True, 30)
    await rig.conductor.step()
    specialists = Specialists(FakeSource(FakeMatcher({})), rig.store)
    again = Conductor(rig.store, specialists, RULES, clock=lambda: rig.now)
    await specialists.refresh()
    assert specialists.now.rollouts["label-ticket"].share == 0.05
    await again.step()
    found = again.progress_of("label-ticket")
    assert found is not None and (found.compared, found.new) == (30, 0)


async def test_disagreement_quarantines_and_tells_the_operator_once(
    rig: Rig, database: Database
) -> None:
    await rig.compare(False, 10)
    assert await rig.conductor.step()
    assert not await rig.conductor.step()
    stored = rig.stored()
    assert stored is not None and stored.stage is Stage.QUARANTINED
    messages = database.read("SELECT text FROM outbox")
    assert len(messages) == 1 and "not be put into service" in messages[0]["text"]


async def test_an_operators_step_is_not_overwritten_by_one_from_an_old_state(
    rig: Rig, database: Database
) -> None:
    await rig.compare(True, 30)
    with database.transaction() as connection:
        save_rollout(connection, replace(SHADOW, stage=Stage.RETIRED), START)
    assert not await rig.conductor.step()
    stored = rig.stored()
    assert stored is not None and stored.stage is Stage.RETIRED


async def test_a_new_version_starts_without_the_old_ones_evidence(
    rig: Rig, database: Database
) -> None:
    await rig.compare(True, 30)
    with database.transaction() as connection:
        save_rollout(connection, replace(SHADOW, version=2), START)
    await rig.specialists.refresh()
    assert not await rig.conductor.step()
    found = rig.conductor.progress_of("label-ticket")
    assert found is not None and found.compared == 0
