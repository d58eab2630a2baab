"""Who raises the budget, and when the operator hears of it."""

from __future__ import annotations

import pytest

from hermes_apprentice.approvals import messages
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.ledger.budget import budget
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.settings import ApprovalSettings, BudgetSettings, Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.spending import Raise, add_spending

NOV_20 = 1_795_132_800.0
DEC_20 = NOV_20 + 30 * 86_400


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOV_20

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def learning(
    settings: Settings,
    database: Database,
    clock: Clock,
    *,
    ceiling: float = 10,
    deciders: tuple[str, ...] = (),
) -> Pipeline:
    changed = settings.model_copy(
        update={
            "budget": BudgetSettings(monthly_dollars=ceiling),
            "approvals": ApprovalSettings(deciders=deciders),
        }
    )
    return open_pipeline(changed, database, clock)


def spend(database: Database, amount: int, at: float = NOV_20) -> None:
    with database.transaction() as connection:
        add_spending(connection, at=at, purpose="burst", amount=amount)


def raises(database: Database, pipeline: Pipeline) -> tuple[Raise, ...]:
    return budget(database, pipeline.shop.settings.budget, NOV_20).raises


def alerts(database: Database) -> list[str]:
    rows = database.read("SELECT key FROM outbox WHERE topic = 'budget' ORDER BY message_id")
    return [row["key"] for row in rows]


def test_a_raise_is_recorded_with_who_and_when_and_answered_with_the_new_ceiling(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    said = pipeline.reply("budget increase $2.50", "cli")
    assert "2026-11" in said
    assert "to $12.50" in said
    assert raises(database, pipeline) == (Raise(at=NOV_20, amount=2_500_000, who="cli"),)
    assert "to $14.50" in pipeline.reply("budget increase 2", "cli")


def test_the_next_month_starts_at_the_setting_again(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    pipeline.reply("budget increase 5", "cli")
    clock.now = DEC_20
    said = pipeline.reply("budget increase 1", "cli")
    assert "2026-12" in said
    assert "to $11.00" in said


def test_a_decider_raises_the_budget(settings: Settings, database: Database, clock: Clock) -> None:
    pipeline = learning(settings, database, clock, deciders=("telegram:4711",))
    assert "to $13.00" in pipeline.reply("budget increase 3", "telegram:4711")
    assert raises(database, pipeline)[0].who == "telegram:4711"


@pytest.mark.parametrize(
    ("who", "deciders"),
    [
        ("agent", ()),
        ("agent", ("agent",)),
        ("agent", ("telegram:4711", "agent")),
        ("telegram:1", ()),
        ("telegram:1", ("telegram:4711",)),
        ("telegram:cli", ()),
        ("some-script", ()),
        ("some-script", ("telegram:4711",)),
        ("", ()),
    ],
)
def test_nobody_else_raises_it_and_the_agent_not_even_as_a_decider(
    settings: Settings, database: Database, clock: Clock, who: str, deciders: tuple[str, ...]
) -> None:
    pipeline = learning(settings, database, clock, deciders=deciders)
    with pytest.raises(ReplyError, match=r"decide|raise"):
        pipeline.reply("budget increase 3", who)
    assert raises(database, pipeline) == ()


def test_the_agent_is_not_told_how_to_become_a_decider(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock, deciders=("telegram:4711",))
    with pytest.raises(ReplyError, match="The agent never raises") as refused:
        pipeline.reply("budget increase 3", "agent")
    assert "approvals.deciders" not in str(refused.value)


def test_a_raise_by_nothing_asks_for_an_amount(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    with pytest.raises(ReplyError, match="above 0"):
        pipeline.reply("budget increase 0", "cli")
    assert raises(database, pipeline) == ()


def test_each_alert_is_written_once_per_month(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    told = []
    for amount in (7_999_999, 1, 1_499_999, 1, 499_999, 1, 5_000_000):
        spend(database, amount)
        pipeline.tick()
        pipeline.tick()
        told.append(len(alerts(database)))
    assert told == [0, 1, 1, 2, 2, 3, 3]
    assert alerts(database) == ["budget:2026-11:80%", "budget:2026-11:95%", "budget:2026-11:100%"]
    clock.now = DEC_20
    pipeline.tick()
    assert len(alerts(database)) == 3
    spend(database, 8_000_000, DEC_20)
    pipeline.tick()
    assert alerts(database)[3:] == ["budget:2026-12:80%"]


def test_a_jump_over_several_alerts_is_one_message(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    spend(database, 11_000_000)
    pipeline.tick()
    pipeline.tick()
    assert alerts(database) == ["budget:2026-11:100%"]


def test_after_a_raise_an_alert_that_was_told_is_not_told_again(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock)
    spend(database, 9_600_000)
    pipeline.tick()
    pipeline.reply("budget increase 10", "cli")
    pipeline.tick()
    assert alerts(database) == ["budget:2026-11:95%"]
    spend(database, 9_500_000)
    pipeline.tick()
    assert alerts(database) == ["budget:2026-11:95%"]
    spend(database, 900_000)
    pipeline.tick()
    assert alerts(database) == ["budget:2026-11:95%", "budget:2026-11:100%"]


def test_where_nothing_may_be_spent_nobody_is_alerted(
    settings: Settings, database: Database, clock: Clock
) -> None:
    pipeline = learning(settings, database, clock, ceiling=0)
    spend(database, 1_000_000)
    pipeline.tick()
    assert alerts(database) == []


@pytest.mark.parametrize(
    ("spent", "share", "meaning"),
    [
        (8_000_000, "80%", "goes on"),
        (9_500_000, "95%", "no new paid run"),
        (9_999_999, "99%", "no new paid run"),
        (10_000_000, "100%", "Nothing paid runs"),
    ],
)
def test_an_alert_says_how_much_is_spent_what_it_means_and_what_to_reply(
    settings: Settings, database: Database, clock: Clock, spent: int, share: str, meaning: str
) -> None:
    spend(database, spent)
    learning(settings, database, clock).tick()
    text = database.read("SELECT text FROM outbox")[0]["text"]
    assert f"is spent, {share}." in text
    assert "2026-11" in text and "$10.00" in text
    assert meaning in text
    assert "budget increase 10" in text
    assert len(text) < messages.LONGEST
