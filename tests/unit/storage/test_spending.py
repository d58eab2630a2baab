"""Rows of money: what was paid for, and who raised the ceiling."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.migrations import MIGRATIONS
from hermes_apprentice.storage.spending import (
    Raise,
    add_raise,
    add_spending,
    raises_between,
    spent_between,
)

BEFORE_RAISES = 3
"""Version of the schema that had spending and no raises."""


def test_spending_is_stored_field_by_field(database: Database) -> None:
    with database.transaction() as connection:
        add_spending(connection, at=5.5, purpose="burst", amount=7, slug="tag-mail", note="one GPU")
    row = dict(database.read("SELECT * FROM spending")[0])
    assert row == {
        "spending_id": 1,
        "at": 5.5,
        "slug": "tag-mail",
        "purpose": "burst",
        "amount": 7,
        "note": "one GPU",
    }


def test_a_period_holds_its_start_and_not_its_end(database: Database) -> None:
    with database.transaction() as connection:
        for at, amount in ((9.9, 1), (10.0, 10), (19.9, 100), (20.0, 1_000)):
            add_spending(connection, at=at, purpose="burst", amount=amount)
            add_raise(connection, Raise(at=at, amount=amount, who="cli"))
    assert spent_between(database, 10.0, 20.0) == 110
    assert [one.amount for one in raises_between(database, 10.0, 20.0)] == [10, 100]


def test_nothing_spent_is_0(database: Database) -> None:
    assert spent_between(database, 0.0, 1e12) == 0
    assert raises_between(database, 0.0, 1e12) == []


def test_a_raise_keeps_who_and_when(database: Database) -> None:
    raised = Raise(at=12.25, amount=500_000, who="telegram:4711")
    with database.transaction() as connection:
        add_raise(connection, raised)
    assert raises_between(database, 0.0, 100.0) == [raised]


def test_spending_below_0_is_refused(database: Database) -> None:
    with pytest.raises(StorageError, match="below 0"), database.transaction() as connection:
        add_spending(connection, at=1.0, purpose="burst", amount=-1)
    assert spent_between(database, 0.0, 10.0) == 0


@pytest.mark.parametrize("amount", [0, -1])
def test_a_raise_by_nothing_or_less_is_refused(database: Database, amount: int) -> None:
    with pytest.raises(StorageError, match="not recorded"), database.transaction() as connection:
        add_raise(connection, Raise(at=1.0, amount=amount, who="cli"))
    with pytest.raises(StorageError, match="CHECK"), database.transaction() as connection:
        connection.execute(
            "INSERT INTO budget_raises (at, amount, who) VALUES (1, ?, 'x')", (amount,)
        )
    assert raises_between(database, 0.0, 10.0) == []


def test_a_raise_that_is_undone_leaves_no_row(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as connection:
        add_raise(connection, Raise(at=1.0, amount=1, who="cli"))
        raise RuntimeError
    assert raises_between(database, 0.0, 10.0) == []


def test_spending_of_an_older_database_survives_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    for script in MIGRATIONS[:BEFORE_RAISES]:
        connection.executescript(script)
    connection.execute("INSERT INTO spending (at, purpose, amount) VALUES (3.0, 'burst', 42)")
    connection.execute(f"PRAGMA user_version={BEFORE_RAISES}")
    connection.commit()
    connection.close()
    with Database(path) as database:
        assert spent_between(database, 0.0, 10.0) == 42
        assert raises_between(database, 0.0, 10.0) == []
