from __future__ import annotations

import asyncio
import sqlite3

import pytest

from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.store import REST_SECONDS, Store
from hermes_apprentice.settings import Settings


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
