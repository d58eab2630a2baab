"""What is left of a month, and when the operator is told."""

from __future__ import annotations

import pytest

from hermes_apprentice.ledger.budget import Budget, budget
from hermes_apprentice.settings import BudgetSettings
from hermes_apprentice.storage.database import Database

NOV_20 = 1_795_132_800.0
OCT_31 = NOV_20 - 20.5 * 86_400


def spend(database: Database, at: float, amount: int) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'burst', ?)",
            (at, amount),
        )


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
