from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.store import CHECK_SECONDS, REST_SECONDS, Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database


async def test_waiting_for_a_locked_database_does_not_stop_the_event_loop(
    settings: Settings,
) -> None:
    settings.home.mkdir(parents=True)
    other = sqlite3.connect(settings.database_path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = Store(settings.database_path)
    opening = asyncio.create_task(store.database())
    try:
        for _ in range(10):
            await asyncio.wait_for(asyncio.sleep(0.01), 1)
        assert not opening.done()
    finally:
        other.execute("ROLLBACK")
        other.close()
    database = await asyncio.wait_for(opening, 10)
    assert await database.read("SELECT * FROM rollouts") == []
    await store.close()


async def test_a_database_that_cannot_be_opened_is_left_alone_for_a_while(
    settings: Settings,
) -> None:
    settings.home.mkdir(parents=True)
    settings.database_path.mkdir()
    now = 0.0
    store = Store(settings.database_path, clock=lambda: now)
    with pytest.raises(StorageError):
        await store.database()
    assert store.problem
    settings.database_path.rmdir()
    with pytest.raises(StorageError):
        await store.database()
    now = REST_SECONDS + 1
    await store.database()
    assert store.problem == ""
    await store.close()


NOTE = "INSERT INTO tenant_usage (tenant, period, requests, tokens, cost) VALUES (?, 'd', 1, 0, 0)"


@pytest.fixture
async def opened() -> AsyncIterator[list[Store]]:
    """Closes what a failed test leaves open: its thread would outlive the tests."""
    stores: list[Store] = []
    yield stores
    for store in stores:
        await store.close()


async def note(database: AsyncDatabase, tenant: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(NOTE, (tenant,))


def overwrite(path: Path) -> None:
    """Leave nothing of a file but its size, while what changed last is in the log as well."""
    with path.open("r+b") as stream:
        stream.write(os.urandom(path.stat().st_size))


async def test_an_overwritten_file_is_told_although_log_and_memory_still_hold_what_is_asked(
    settings: Settings, tmp_path: Path, opened: list[Store]
) -> None:
    now = 0.0
    store = Store(settings.database_path, clock=lambda: now)
    opened.append(store)
    database = await store.database()
    await note(database, "ann")
    with Database(settings.database_path) as whole:
        whole.copy_to(tmp_path / "copy.db").close()
    overwrite(settings.database_path)
    await note(database, "bob")  # nothing looks at the file
    assert len(await database.read("SELECT * FROM tenant_usage")) == 2
    assert await store.database() is database
    for turn in range(1, 4):  # and it stays told, though closing writes the header back
        now = turn * (CHECK_SECONDS + REST_SECONDS)
        with pytest.raises(StorageError, match=r"damaged|not an Apprentice database"):
            await store.database()
        assert store.problem
    for ending in ("-wal", "-shm"):
        settings.database_path.with_name(f"{settings.database_path.name}{ending}").unlink(
            missing_ok=True
        )
    os.replace(tmp_path / "copy.db", settings.database_path)
    now += REST_SECONDS
    assert len(await (await store.database()).read("SELECT * FROM tenant_usage")) == 1
    assert store.problem == ""


async def test_a_whole_file_is_looked_at_for_ever_and_nothing_is_told(
    settings: Settings, opened: list[Store]
) -> None:
    now = 0.0
    store = Store(settings.database_path, clock=lambda: now)
    opened.append(store)
    database = await store.database()
    for turn in range(20):
        await note(database, f"t-{turn}")
        now += CHECK_SECONDS
        assert await store.database() is database
    assert store.problem == ""
