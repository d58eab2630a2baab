"""What was saved is what the ledger says, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from hermes_apprentice.errors import TenantError
from hermes_apprentice.ledger.roi import roi
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
DAY = 86_400.0


def add(database: Database, **values: Any) -> None:
    row = {
        "at": NOW - 10 * DAY,
        "request_id": "r",
        "call_kind": "first",
        "route": "upstream",
        "model": "m",
        "status": 200,
        **values,
    }
    with database.transaction() as connection:
        connection.execute(
            f"INSERT INTO ledger ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )


def test_an_empty_ledger_gives_zeros(database: Database) -> None:
    account = roi(database, NOW - 30 * DAY, NOW)
    assert (account.requests, account.upstream_cost, account.routed_share) == (0, 0, 0.0)
    assert account.specialists == ()


def test_audits_and_spending_are_taken_off_what_was_saved(database: Database) -> None:
    add(database, route="specialist", slug="s", saved=40_000)
    add(database, route="specialist", slug="s", saved=40_000)
    add(database, route="fallback", slug="s", cost=50_000)
    add(database, route="audit", slug="s", cost=30_000)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'burst', 25000)",
            (NOW - 11 * DAY,),
        )
    account = roi(database, NOW - 30 * DAY, NOW)
    (row,) = account.specialists
    assert (row.answered, row.fallbacks, row.saved, row.audits, row.spent) == (
        2,
        1,
        80_000,
        30_000,
        25_000,
    )
    assert row.net == account.net == 25_000
    assert row.saved_per_month == 150_000
    assert row.break_even_days == 5.0
    assert account.requests == 3
    assert account.upstream_cost == 50_000
    assert account.routed_share == 2 / 3


def test_a_specialist_that_saves_nothing_never_breaks_even(database: Database) -> None:
    add(database, route="specialist", slug="s", saved=None)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'burst', 1)", (NOW,)
        )
    (row,) = roi(database, 0, NOW).specialists
    assert row.unpriced == 1
    assert row.saved == 0
    assert row.break_even_days is None


def test_what_cost_money_and_was_never_asked_is_in_the_account(database: Database) -> None:
    add(database, route="specialist", slug="s", saved=40_000)
    with database.transaction() as connection:
        for slug, at, amount in (("failed", NOW - DAY, 700), ("long-ago", NOW - 90 * DAY, 900)):
            connection.execute(
                "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, ?, 'teacher', ?)",
                (at, slug, amount),
            )
    account = roi(database, NOW - 30 * DAY, NOW)
    assert [(row.slug, row.spent, row.answered) for row in account.specialists] == [
        ("s", 0, 1),
        ("failed", 700, 0),
    ]
    assert account.specialists[1].break_even_days is None
    assert account.net == 40_000 - 700


def test_less_than_a_day_of_data_is_not_extrapolated(database: Database) -> None:
    add(database, at=NOW - 60, route="specialist", slug="s", saved=40_000)
    (row,) = roi(database, 0, NOW).specialists
    assert row.saved_per_month is None


def test_the_account_of_a_tenant_is_its_own_calls_without_training(database: Database) -> None:
    for tenant, saved in (("ann", 30_000), ("ann", 20_000), ("bob", 7_000), ("", 1_000)):
        add(database, route="specialist", slug="s", saved=saved, tenant=tenant)
    add(database, route="audit", slug="s", cost=4_000, tenant="ann")
    add(database, route="upstream", cost=9_000, tenant="bob")
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'burst', 99)", (NOW,)
        )
    since = NOW - 30 * DAY
    anns, bobs = (roi(database, since, NOW, name) for name in ("ann", "bob"))
    (row,) = anns.specialists
    assert (row.answered, row.saved, row.audits, row.spent) == (2, 50_000, 4_000, 0)
    assert (anns.requests, anns.upstream_cost) == (2, 0)
    assert (bobs.requests, bobs.upstream_cost, bobs.net) == (2, 9_000, 7_000)
    everybody = roi(database, since, NOW)
    assert (everybody.requests, everybody.net) == (5, 58_000 - 4_000 - 99)
    with pytest.raises(TenantError, match="eve"):
        roi(database, since, NOW, "eve")
