"""What is left of a month, when the operator is told, and what may still start."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from hermes_apprentice.ledger.budget import Budget, BudgetVerdict, budget, may_start
from hermes_apprentice.settings import BudgetSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.spending import Raise, add_raise, add_spending

NOV_20 = 1_795_132_800.0
OCT_31 = NOV_20 - 20.5 * 86_400
TEN = BudgetSettings(monthly_dollars=10)


def spend(database: Database, at: float, amount: int) -> None:
    with database.transaction() as connection:
        add_spending(connection, at=at, purpose="burst", amount=amount, slug="s")


def raise_by(database: Database, at: float, amount: int) -> None:
    with database.transaction() as connection:
        add_raise(connection, Raise(at=at, amount=amount, who="cli"))


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_only_this_months_spending_counts(database: Database) -> None:
    spend(database, OCT_31, 9_000_000)
    spend(database, NOV_20 - 60, 3_000_000)
    found = budget(database, BudgetSettings(monthly_dollars=10), NOV_20)
    assert (found.month, found.ceiling, found.spent, found.left) == (
        "2026-11",
        10_000_000,
        3_000_000,
        7_000_000,
    )
    assert found.may_start and found.reached == ()


@pytest.mark.parametrize(
    ("spent", "reached", "may_start"),
    [
        (799_999, (), True),
        (800_000, (0.8,), True),
        (949_999, (0.8,), True),
        (950_000, (0.8, 0.95), False),
        (1_000_000, (0.8, 0.95, 1.0), False),
        (1_500_000, (0.8, 0.95, 1.0), False),
    ],
)
def test_alerts_and_the_stop_are_at_their_shares(
    spent: int, reached: tuple[float, ...], may_start: bool
) -> None:
    found = Budget(month="2026-11", ceiling=1_000_000, spent=spent)
    assert found.reached == reached
    assert found.may_start is may_start
    assert found.left == max(0, 1_000_000 - spent)


def test_a_ceiling_of_nothing_pays_for_nothing_and_never_alerts() -> None:
    found = Budget(month="2026-11", ceiling=0, spent=0)
    assert not found.may_start
    assert found.reached == ()


def test_a_raise_counts_in_its_own_month_only(database: Database) -> None:
    raise_by(database, OCT_31, 50_000_000)
    raise_by(database, NOV_20 - 60, 5_000_000)
    raise_by(database, NOV_20, 250_000)
    found = budget(database, TEN, NOV_20)
    assert found.ceiling == 15_250_000
    assert [one.amount for one in found.raises] == [5_000_000, 250_000]
    assert budget(database, TEN, NOV_20 + 30 * 86_400).ceiling == 10_000_000


@pytest.fixture(params=["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def far_from_utc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock on the wall that is many hours ahead or behind."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize(
    ("first_of_next", "month", "next_month"),
    [
        ("2026-12-01", "2026-11", "2026-12"),
        ("2027-01-01", "2026-12", "2027-01"),
        ("2027-03-01", "2027-02", "2027-03"),
        ("2028-03-01", "2028-02", "2028-03"),
    ],
)
def test_a_month_ends_at_midnight_utc_and_every_row_lies_in_one_month(
    database: Database, first_of_next: str, month: str, next_month: str
) -> None:
    midnight = moment(first_of_next)
    before = midnight - 0.001
    spend(database, before, 1)
    raise_by(database, before, 10)
    spend(database, midnight, 2)
    raise_by(database, midnight, 20)
    old, new = (budget(database, TEN, at) for at in (before, midnight))
    assert (old.month, old.spent, old.ceiling) == (month, 1, 10_000_010)
    assert (new.month, new.spent, new.ceiling) == (next_month, 2, 10_000_020)


def test_cents_become_whole_micro_dollars(database: Database) -> None:
    found = budget(database, BudgetSettings(monthly_dollars=0.29), NOV_20)
    assert found.ceiling == 290_000
    assert isinstance(found.ceiling, int)


@pytest.mark.parametrize(
    ("spent", "estimate", "allowed", "reason"),
    [
        (0, 10_000_000, True, "$10.00 is left"),
        (0, 10_000_001, False, "would pass the ceiling"),
        (9_000_000, 1_000_000, True, "$1.00 is left"),
        (9_000_000, 1_000_001, False, "would pass the ceiling"),
        (9_499_999, 0, True, "is left"),
        (9_500_000, 0, False, "from 95% on"),
        (9_999_999, 0, False, "from 95% on"),
        (10_000_000, 0, False, "nothing paid runs"),
        (12_000_000, 0, False, "nothing paid runs"),
        (0, -1, False, "below 0"),
    ],
)
def test_a_run_starts_only_below_95_percent_and_within_what_is_left(
    database: Database, spent: int, estimate: int, allowed: bool, reason: str
) -> None:
    spend(database, NOV_20, spent)
    verdict = may_start(database, TEN, NOV_20, estimate)
    assert verdict.allowed is allowed
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("spent", "goes_on"), [(0, True), (949_999, True), (999_999, True), (1_000_000, False)]
)
def test_what_runs_may_go_on_until_the_ceiling(spent: int, goes_on: bool) -> None:
    assert Budget(month="2026-11", ceiling=1_000_000, spent=spent).may_go_on is goes_on


def test_without_a_ceiling_not_even_a_free_run_starts(database: Database) -> None:
    verdict = may_start(database, BudgetSettings(), NOV_20, 0)
    assert not verdict.allowed
    assert "Nothing is paid for" in verdict.reason
    assert not Budget(month="2026-11", ceiling=0, spent=0).may_go_on


def test_a_raise_lets_a_run_start_again(database: Database) -> None:
    spend(database, NOV_20, 10_000_000)
    assert not may_start(database, TEN, NOV_20, 1_000_000).allowed
    raise_by(database, NOV_20, 5_000_000)
    assert may_start(database, TEN, NOV_20, 5_000_000).allowed


@pytest.mark.parametrize("table", ["spending", "budget_raises"])
def test_a_store_that_lacks_a_table_lets_nothing_start(database: Database, table: str) -> None:
    assert may_start(database, TEN, NOV_20, 1).allowed
    with database.transaction() as connection:
        connection.execute(f"DROP TABLE {table}")
    verdict = may_start(database, TEN, NOV_20, 1)
    assert not verdict.allowed
    assert "the budget is unknown" in verdict.reason


def test_a_store_that_is_closed_lets_nothing_start(database: Database) -> None:
    database.close()
    assert not may_start(database, TEN, NOV_20, 1).allowed


def test_sums_too_large_for_the_store_let_nothing_start(database: Database) -> None:
    for _ in range(2):
        spend(database, NOV_20, 2**62)
    verdict = may_start(database, TEN, NOV_20, 1)
    assert not verdict.allowed
    assert "the budget is unknown" in verdict.reason


def test_a_ceiling_without_an_end_lets_nothing_start(database: Database) -> None:
    endless = BudgetSettings.model_construct(monthly_dollars=float("inf"))
    verdict = may_start(database, endless, NOV_20, 1)
    assert not verdict.allowed
    assert "budget.monthly_dollars" in verdict.reason


def test_two_runs_that_ask_at_once_do_not_both_get_the_last_dollar(database: Database) -> None:
    verdicts: list[BudgetVerdict] = []

    def start_one(opened: Database) -> None:
        with opened.transaction() as connection:
            verdict = may_start(opened, TEN, NOV_20, 6_000_000)
            verdicts.append(verdict)
            if verdict.allowed:
                add_spending(connection, at=NOV_20, purpose="burst", amount=6_000_000)

    def from_another_process() -> None:
        with Database(database.path) as other:
            start_one(other)

    second = threading.Thread(target=from_another_process)
    with database.transaction():
        second.start()
        start_one(database)
    second.join(timeout=30)
    assert not second.is_alive()
    assert sorted(one.allowed for one in verdicts) == [False, True]
    assert budget(database, TEN, NOV_20).spent == 6_000_000
