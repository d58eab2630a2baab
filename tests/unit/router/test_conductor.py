from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from hermes_apprentice.domain.accounting import Attempt, Comparison, LedgerEntry, Origin, Repeat
from hermes_apprentice.domain.routing import CallKind, Rollout, Route
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.guards import SETTLED
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

    async def run(self, outcome: str, count: int, every: float = 60.0) -> None:
        attempts = [
            Attempt(
                slug="label-ticket",
                version=1,
                at=START + every * number,
                outcome=outcome,
                took_ms=3.0,
            )
            for number in range(count)
        ]
        await append(await self.store.database(), [], [], attempts)

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


async def test_a_specialist_that_keeps_failing_is_quarantined_and_the_operator_told(
    rig: Rig, database: Database
) -> None:
    await rig.compare(True, 30)
    await rig.run("error", 6)
    assert await rig.conductor.step()
    stored = rig.stored()
    assert stored is not None and stored.stage is Stage.QUARANTINED
    assert "failed, timed out or gave an invalid answer in 6 of its last 6 runs" in stored.reason
    assert stored.reason in database.read("SELECT text FROM outbox")[0]["text"]
    assert not await rig.conductor.step()


async def test_a_second_chance_is_judged_by_what_comes_after_it(
    rig: Rig, database: Database
) -> None:
    await rig.compare(False, 10)
    await rig.run("error", 6)
    assert await rig.conductor.step()
    rig.now += 60
    again = replace(SHADOW, step_started_at=rig.now, judged_from=rig.now)
    with database.transaction() as connection:
        save_rollout(connection, again, rig.now)
    await rig.specialists.refresh()
    rig.now += 60
    assert not await rig.conductor.step()
    found = rig.conductor.progress_of("label-ticket")
    assert found is not None and found.compared == 0
    await rig.compare(True, 20)
    rig.now += 60
    assert await rig.conductor.step()
    stored = rig.stored()
    assert stored is not None
    assert (stored.stage, stored.judged_from) == (Stage.CANARY, again.judged_from)


async def test_a_held_specialist_stays_after_a_restart_and_an_alarm_still_takes_it_out(
    rig: Rig, database: Database
) -> None:
    with database.transaction() as connection:
        save_rollout(connection, replace(SHADOW, held=True), START)
    await rig.specialists.refresh()
    await rig.compare(True, 50)
    assert not await rig.conductor.step()
    specialists = Specialists(FakeSource(FakeMatcher({})), rig.store)
    await specialists.refresh()
    restarted = Conductor(rig.store, specialists, RULES, clock=lambda: rig.now)
    assert not await restarted.step()
    await rig.compare(False, 60)
    assert await restarted.step()
    stored = rig.stored()
    assert stored is not None and stored.stage is Stage.QUARANTINED


async def test_a_restarted_sidecar_goes_on_auditing_closely(rig: Rig, database: Database) -> None:
    live = replace(SHADOW, stage=Stage.LIVE, share=1.0)
    with database.transaction() as connection:
        save_rollout(connection, live, START)
    await rig.specialists.refresh()
    assert rig.conductor.audit_share(live) == RULES.audit_share
    await rig.compare(True, 30)
    await rig.compare(False, 2)
    await rig.conductor.step()
    assert rig.conductor.audit_share(live) == RULES.alert_audit_share
    assert rig.conductor.audit_share(replace(live, version=2)) == RULES.audit_share
    restarted = Conductor(rig.store, rig.specialists, RULES, clock=lambda: rig.now)
    await restarted.step()
    assert restarted.audit_share(live) == RULES.alert_audit_share


async def test_how_often_the_upstream_agrees_with_itself_is_shown_and_moves_nothing(
    rig: Rig,
) -> None:
    await rig.compare(True, 19)
    await rig.conductor.step()
    standing = rig.conductor.standing_of("label-ticket")
    assert standing is not None and standing.self_agreement is None
    assert "not measured" in standing.in_words()[1]
    repeats = [
        Repeat(slug="label-ticket", at=START, model="big-one", agreed=agreed)
        for agreed in (True, False, False, None)
    ]
    await append(await rig.store.database(), [], [], [], repeats)
    rig.now += 60
    assert not await rig.conductor.step()
    standing = rig.conductor.standing_of("label-ticket")
    assert standing is not None and standing.self_agreement is not None
    figures = standing.self_agreement
    assert (figures.asked, figures.compared, figures.agreed) == (4, 3, 1)
    assert standing.target == RULES.target_agreement
    assert "1 of 3" in standing.in_words()[1]


async def test_answers_that_users_turn_down_take_a_specialist_out(
    rig: Rig, database: Database
) -> None:
    live = replace(SHADOW, stage=Stage.LIVE, share=1.0)
    with database.transaction() as connection:
        save_rollout(connection, live, START)
    await rig.specialists.refresh()

    async def answered(route: Route, first: int, count: int, corrected: bool) -> None:
        entries = [
            LedgerEntry(
                at=START + 60 * number,
                request_id=f"r{number}",
                session=f"s{number}",
                call_kind=CallKind.FIRST,
                route=route,
                model="big-one",
                status=200,
                slug="label-ticket",
                version=1,
            )
            for number in range(first, first + count)
        ]
        await append(await rig.store.database(), entries, [])
        with database.transaction() as connection:
            connection.executemany(
                """
                INSERT INTO exchanges (exchange_id, profile, session_id, source, turn_index,
                    request, answer, model, asked_at, answered_at, context_chars, input_tokens,
                    output_tokens, corrected, user_row, observed_at)
                VALUES (?, 'default', ?, 'cli', 0, 'q', 'a', 'big-one', ?, ?, 0, 0, 0, ?, 1, 0)
                """,
                [(one.request_id, one.session, one.at, one.at, corrected) for one in entries],
            )

    await answered(Route.UPSTREAM, 0, 60, corrected=False)
    await answered(Route.SPECIALIST, 60, 20, corrected=False)
    rig.now = START + 60 * 80 + SETTLED
    assert not await rig.conductor.step()
    await answered(Route.SPECIALIST, 80, 10, corrected=True)
    rig.now += 60
    assert not await rig.conductor.step()  # users may still say more about the latest
    rig.now += 600
    assert await rig.conductor.step()
    stored = rig.stored()
    assert stored is not None and stored.stage is Stage.QUARANTINED
    assert "answers were corrected, more than the upstream's" in stored.reason
