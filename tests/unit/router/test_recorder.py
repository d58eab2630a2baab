from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hermes_apprentice.domain.accounting import Attempt, Comparison, LedgerEntry, Origin, Repeat
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.router.recorder import BATCH, Recorder
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database

ENTRY = LedgerEntry(
    at=1.0,
    request_id="r",
    session="s",
    call_kind=CallKind.FIRST,
    route=Route.UPSTREAM,
    model="m",
    status=200,
)
COMPARISON = Comparison(
    slug="label-ticket", version=1, at=1.0, origin=Origin.SHADOW, agreed=True, answered=True
)

ATTEMPT = Attempt(slug="label-ticket", version=1, at=1.0, outcome="answered", took_ms=3.0)
REPEAT = Repeat(slug="label-ticket", at=1.0, model="m", agreed=True)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = Store(settings.database_path)
    yield opened
    await opened.close()


def count(settings: Settings, table: str) -> int:
    with Database(settings.database_path) as database:
        return int(database.read(f"SELECT COUNT(*) FROM {table}")[0][0])


async def test_everything_that_was_recorded_is_written(store: Store, settings: Settings) -> None:
    recorder = Recorder(store)
    for _ in range(2 * BATCH + 7):
        recorder.entry(ENTRY)
    recorder.comparison(COMPARISON)
    for _ in range(BATCH + 1):
        recorder.attempt(ATTEMPT)
    recorder.repeat(REPEAT)
    assert await recorder.write()
    assert (count(settings, "ledger"), count(settings, "comparisons")) == (2 * BATCH + 7, 1)
    assert (count(settings, "attempts"), count(settings, "repeats")) == (BATCH + 1, 1)
    assert recorder.waiting == 0


async def test_what_does_not_fit_is_dropped_and_counted(store: Store, settings: Settings) -> None:
    recorder = Recorder(store, limit=3)
    for _ in range(5):
        recorder.entry(ENTRY)
        recorder.comparison(COMPARISON)
        recorder.attempt(ATTEMPT)
        recorder.repeat(REPEAT)
    assert (recorder.dropped_entries, recorder.dropped_comparisons) == (2, 4)
    assert recorder.dropped_attempts == 2
    assert await recorder.write()
    assert count(settings, "ledger") == 3


async def test_entries_wait_while_the_database_cannot_be_opened(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.database_path.write_bytes(b"this is no database" * 100)
    clock = [0.0]
    store = Store(settings.database_path, clock=lambda: clock[0])
    recorder = Recorder(store)
    recorder.entry(ENTRY)
    assert not await recorder.write()
    assert "not an Apprentice database" in recorder.problem
    settings.database_path.unlink()
    assert not await recorder.write()  # it is not tried again at once
    clock[0] = 60.0
    assert await recorder.write()
    assert (count(settings, "ledger"), recorder.problem) == (1, "")
    await store.close()


async def test_entries_wait_while_another_process_writes(store: Store, settings: Settings) -> None:
    database = await store.database()
    await database.read("PRAGMA busy_timeout=50")
    other = sqlite3.connect(settings.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recorder = Recorder(store)
    recorder.entry(ENTRY)
    assert not await recorder.write()
    assert recorder.waiting == 1
    other.execute("ROLLBACK")
    other.close()
    assert await recorder.write()
    assert count(settings, "ledger") == 1


async def test_an_entry_that_no_table_can_hold_does_not_block_the_next(
    store: Store, settings: Settings
) -> None:
    recorder = Recorder(store)
    recorder.entry(replace(ENTRY, prompt_tokens=10**30))
    recorder.entry(replace(ENTRY, model="\ud800"))
    assert await recorder.write()
    assert recorder.dropped_entries == 2
    recorder.entry(ENTRY)
    assert await recorder.write()
    assert count(settings, "ledger") == 1


async def test_an_entry_that_no_table_can_hold_costs_none_of_those_beside_it(
    store: Store, settings: Settings
) -> None:
    recorder = Recorder(store)
    for number in range(BATCH + 50):
        recorder.entry(replace(ENTRY, request_id=f"r-{number}"))
        if number == 20:
            recorder.entry(replace(ENTRY, model="\ud800"))
    recorder.comparison(COMPARISON)
    assert await recorder.write()
    assert (recorder.dropped_entries, recorder.dropped_comparisons) == (1, 0)
    assert (count(settings, "ledger"), count(settings, "comparisons")) == (BATCH + 50, 1)
    assert recorder.waiting == 0
