from __future__ import annotations

from dataclasses import replace

import pytest

from hermes_apprentice.domain.accounting import Comparison, LedgerEntry, Origin
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.ledger import append

ENTRY = LedgerEntry(
    at=1_790_000_000.0,
    request_id="r1",
    session="s1",
    call_kind=CallKind.FIRST,
    route=Route.SPECIALIST,
    model="vendor/big-one",
    status=200,
    reason="live",
    slug="label-ticket",
    version=3,
    prompt_tokens=120,
    cached_tokens=100,
    completion_tokens=4,
    estimated=True,
    cost=0,
    saved=321,
    overhead_ms=1.5,
    latency_ms=2.5,
)


async def test_an_entry_is_stored_field_by_field(database: Database) -> None:
    opened = await AsyncDatabase.open(database.path)
    try:
        await append(opened, [ENTRY], [])
    finally:
        await opened.close()
    row = dict(database.read("SELECT * FROM ledger")[0])
    assert row.pop("entry_id") == 1
    assert row == {name: getattr(ENTRY, name) for name in ENTRY.__slots__}


async def test_an_unknown_amount_stays_unknown(database: Database) -> None:
    opened = await AsyncDatabase.open(database.path)
    try:
        unknown = LedgerEntry(
            at=1.0,
            request_id="r2",
            session="",
            call_kind=CallKind.OTHER,
            route=Route.UPSTREAM,
            model="m",
            status=200,
        )
        await append(opened, [unknown], [])
    finally:
        await opened.close()
    row = database.read("SELECT cost, saved, slug FROM ledger")[0]
    assert tuple(row) == (None, None, None)


async def test_a_batch_is_written_whole_or_not_at_all(database: Database) -> None:
    opened = await AsyncDatabase.open(database.path)
    broken = Comparison(
        slug=None,  # type: ignore[arg-type]
        version=1,
        at=1.0,
        origin=Origin.AUDIT,
        agreed=True,
        answered=True,
    )
    try:
        with pytest.raises(StorageError):
            await append(opened, [ENTRY], [broken])
    finally:
        await opened.close()
    assert database.read("SELECT * FROM ledger") == []


async def test_batches_of_any_length_are_written_in_order_by_a_few_statements(
    database: Database,
) -> None:
    opened = await AsyncDatabase.open(database.path)
    lengths: set[int] = set()
    names = []
    try:
        await opened._connection.set_trace_callback(
            lambda statement: lengths.add(statement.count(ENTRY.model))
        )
        for length in (*range(1, 40), 127, 128, 129, 300):
            batch = [replace(ENTRY, request_id=f"r{length}-{row}") for row in range(length)]
            await append(opened, batch, [])
            names += [entry.request_id for entry in batch]
    finally:
        await opened.close()
    rows = database.read("SELECT request_id FROM ledger ORDER BY entry_id")
    assert [row["request_id"] for row in rows] == names
    assert lengths - {0} == {1 << power for power in range(8)}
