"""What was charged is what the ledger says; what has no price is counted, not summed."""

from __future__ import annotations

from typing import Any

from hermes_apprentice.ledger.costs import cost_summary
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0


def add(database: Database, **values: Any) -> None:
    row = {
        "at": NOW - 60,
        "request_id": "r",
        "call_kind": "first",
        "route": "upstream",
        "model": "m",
        "status": 200,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        **values,
    }
    with database.transaction() as connection:
        connection.execute(
            f"INSERT INTO ledger ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )


def test_charges_are_summed_per_model_and_answers_of_specialists_are_none(
    database: Database,
) -> None:
    add(database, cost=500)
    add(database, cost=300, route="audit", slug="s")
    add(database, cost=None)
    add(database, model="dear", cost=9_000, cached_tokens=40)
    add(database, route="specialist", slug="s", saved=400)
    add(database, at=NOW - 10_000, cost=7)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO spending (at, slug, purpose, amount) VALUES (?, 's', 'burst', 25)",
            (NOW - 60,),
        )
    found = cost_summary(database, NOW - 3_600)
    assert [row.model for row in found.models] == ["dear", "m"]
    assert [(row.requests, row.cost, row.unpriced) for row in found.models] == [
        (1, 9_000, 0),
        (3, 800, 1),
    ]
    assert found.models[0].cached_tokens == 40
    assert (found.audits, found.training, found.total) == (300, 25, 9_825)


def test_nothing_costs_nothing(database: Database) -> None:
    found = cost_summary(database, NOW)
    assert (found.models, found.total) == ((), 0)
