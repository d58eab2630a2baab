from __future__ import annotations

import asyncio
import sqlite3

import pytest

from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.store import REST_SECONDS, Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database

NOTE = "INSERT INTO tenant_usage (tenant, period, requests, tokens, cost) VALUES ('a', ?, 1, 0, 0)"


async def count(database: AsyncDatabase) -> int:
    return int((await database.read("SELECT COUNT(*) FROM tenant_usage"))[0][0])


async def test_whoever_gives_up_waiting_for_a_lock_leaves_no_transaction_behind(
    settings: Settings,
) -> None:
    Database(settings.database_path).close()
    database = await AsyncDatabase.open(settings.database_path)
    other = sqlite3.connect(settings.database_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write(period: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(NOTE, (period,))

    impatient = asyncio.create_task(write("1"))
    await asyncio.sleep(0.05)
    impatient.cancel()
    other.execute("ROLLBACK")
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    await write("2")
    assert await count(database) == 1
    await database.close()


async def test_a_closed_database_is_a_storage_error(settings: Settings) -> None:
    database = await AsyncDatabase.open(settings.database_path)
    await database.close()
    with pytest.raises(StorageError, match="closed"):
        await database.read("SELECT 1")
    with pytest.raises(StorageError, match="closed"):
        async with database.transaction():
            pass


async def test_another_file_in_its_place_is_opened(settings: Settings) -> None:
    store = Store(settings.database_path)
    first = await store.database()
    assert await store.database() is first
    async with first.transaction() as connection:
        await connection.execute(NOTE, ("1",))
    for ending in ("", "-wal", "-shm"):
        settings.database_path.with_name(f"{settings.database_path.name}{ending}").unlink()
    Database(settings.database_path).close()
    second = await store.database()
    assert second is not first
    assert await count(second) == 0
    await store.close()


async def test_a_damaged_file_is_told_and_read_again_once_it_is_whole(settings: Settings) -> None:
    now = 0.0
    store = Store(settings.database_path, clock=lambda: now)
    database = await store.database()
    async with database.transaction() as connection:
        await connection.execute(NOTE, ("1",))
    await database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = settings.database_path.read_bytes()
    settings.database_path.write_bytes(whole[:100] + b"\x07" * (len(whole) - 100))
    with sqlite3.connect(settings.database_path, isolation_level=None) as other:
        with pytest.raises(sqlite3.DatabaseError):
            other.execute("SELECT * FROM tenant_usage").fetchall()
    other.close()
    await database.read("PRAGMA shrink_memory")
    with pytest.raises(StorageError, match="damaged"):
        await database.read("SELECT * FROM tenant_usage")
    with pytest.raises(StorageError, match="damaged"):
        await store.database()
    settings.database_path.write_bytes(whole)
    now = REST_SECONDS + 1
    assert await count(await store.database()) == 1
    assert store.problem == ""
    await store.close()


def test_a_write_into_a_full_database_says_what_is_wrong_and_the_next_one_works(
    settings: Settings,
) -> None:
    with Database(settings.database_path) as database:
        pages = int(database.read("PRAGMA page_count")[0][0])
        database.read(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StorageError, match="disk is full"):
            with database.transaction() as connection:
                connection.execute(NOTE, ("x" * 100_000,))
        database.read("PRAGMA max_page_count=100000")
        with database.transaction() as connection:
            connection.execute(NOTE, ("1",))
