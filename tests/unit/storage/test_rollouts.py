from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hermes_apprentice.domain.accounting import Comparison, Origin
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.ledger import append
from hermes_apprentice.storage.rollouts import (
    Notice,
    change_rollout,
    find_rollout,
    list_rollouts,
    move_rollout,
    read_history,
    read_rollouts,
    save_rollout,
    tally,
)

NOW = 1_790_000_000.0
SHADOW = Rollout(
    slug="label-ticket",
    version=1,
    stage=Stage.SHADOW,
    share=0.0,
    held=False,
    step_started_at=NOW,
    reason="new",
)
CANARY = replace(SHADOW, stage=Stage.CANARY, share=0.05, step_started_at=NOW + 9, reason="good")


def comparison(agreed: bool | None, answered: bool = True, reason: str = "") -> Comparison:
    return Comparison(
        slug="label-ticket",
        version=1,
        at=NOW,
        origin=Origin.SHADOW,
        agreed=agreed,
        answered=answered,
        reason=reason,
    )


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[AsyncDatabase]:
    with database.transaction() as connection:
        save_rollout(connection, SHADOW, NOW)
    found = await AsyncDatabase.open(database.path)
    yield found
    await found.close()


def test_a_rollout_is_read_back_as_it_was_written(database: Database) -> None:
    with database.transaction() as connection:
        save_rollout(connection, CANARY, NOW)
        save_rollout(connection, replace(SHADOW, slug="a-first"), NOW)
        assert find_rollout(connection, "label-ticket") == CANARY
        assert [one.slug for one in list_rollouts(connection)] == ["a-first", "label-ticket"]
        assert find_rollout(connection, "nobody") is None


def test_of_two_steps_from_the_same_place_only_the_first_is_taken(database: Database) -> None:
    with database.transaction() as connection:
        save_rollout(connection, SHADOW, NOW)
        assert move_rollout(connection, SHADOW, CANARY, NOW)
        other = replace(SHADOW, stage=Stage.QUARANTINED)
        assert not move_rollout(connection, SHADOW, other, NOW)
        assert find_rollout(connection, "label-ticket") == CANARY
        with pytest.raises(ValueError, match="cannot become"):
            move_rollout(connection, CANARY, replace(CANARY, version=2), NOW)


async def test_a_step_and_its_message_are_written_together(
    opened: AsyncDatabase, database: Database
) -> None:
    notice = Notice(topic="specialist:label-ticket", key="k1", text="It starts.")
    assert await change_rollout(opened, SHADOW, CANARY, notice, NOW)
    assert not await change_rollout(
        opened, SHADOW, replace(CANARY, share=0.5), replace(notice, key="k2"), NOW
    )
    assert await read_rollouts(opened) == [CANARY]
    assert [row["key"] for row in database.read("SELECT key FROM outbox")] == ["k1"]


async def test_only_comparable_answers_are_history(
    opened: AsyncDatabase, database: Database
) -> None:
    await append(
        opened,
        [],
        [
            comparison(True),
            comparison(None, reason="no_upstream_answer"),
            comparison(None, answered=False, reason="confidence"),
            comparison(None, answered=False, reason="deadline"),
            comparison(False, reason="tools"),
        ],
    )
    history = await read_history(opened, "label-ticket", 1)
    assert [seen.agreed for seen in history] == [True, False]
    last = history[-1].comparison_id
    assert await read_history(opened, "label-ticket", 1, after=last) == []
    assert await read_history(opened, "label-ticket", 2) == []
    with database.transaction() as connection:
        found = tally(connection, "label-ticket", 1)
    assert (found.compared, found.agreed, found.abstained, found.missing) == (2, 1, 1, 2)
