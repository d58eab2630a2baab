from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest

from hermes_apprentice.domain.tenant import Use
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.quotas import Quotas
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import Settings

NOW = 1_790_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    opened = Store(settings.database_path)
    yield opened
    await opened.close()


def both(quotas: Quotas, tenant: str = "ann") -> tuple[Use, Use]:
    periods = quotas.periods()
    return quotas.used(tenant, periods.day), quotas.used(tenant, periods.month)


async def test_what_is_added_counts_at_once_and_after_it_was_written(store: Store) -> None:
    quotas = Quotas(store, Clock())
    quotas.add("ann", Use(1, 20, 300))
    quotas.add("ann", Use(1))
    assert both(quotas) == (Use(2, 20, 300), Use(2, 20, 300))
    await quotas.synchronise()
    assert both(quotas) == (Use(2, 20, 300), Use(2, 20, 300))
    assert both(quotas, "bob") == (Use(), Use())
    assert not quotas.waiting


async def test_a_new_start_knows_what_was_written(store: Store) -> None:
    before, after = Quotas(store, Clock()), Quotas(store, Clock())
    before.add("ann", Use(3, 4, 5))
    await before.synchronise()
    await after.synchronise()
    assert both(after) == (Use(3, 4, 5), Use(3, 4, 5))


async def test_two_sidecars_add_up(store: Store) -> None:
    one, two = Quotas(store, Clock()), Quotas(store, Clock())
    for quotas in (one, two, one, two):
        quotas.add("ann", Use(1, 10, 100))
        await quotas.synchronise()
    await one.synchronise()
    assert both(one) == both(two) == (Use(4, 40, 400), Use(4, 40, 400))


async def test_what_is_counted_during_a_write_is_neither_lost_nor_counted_twice(
    store: Store,
) -> None:
    quotas = Quotas(store, Clock())
    await quotas.synchronise()
    quotas.add("ann", Use(5))
    writing = asyncio.create_task(quotas.synchronise())
    seen = set()
    while not writing.done():
        seen.add(both(quotas)[0].requests)
        await asyncio.sleep(0)
    quotas.add("ann", Use(1))
    assert seen == {5}
    await quotas.synchronise()
    assert both(quotas)[0] == Use(6)


async def test_what_cannot_be_written_is_kept(store: Store, settings: Settings) -> None:
    quotas = Quotas(store, Clock())
    await quotas.synchronise()
    quotas.add("ann", Use(2, 3, 4))
    with sqlite3.connect(settings.database_path, isolation_level=None) as breaker:
        breaker.execute("ALTER TABLE tenant_usage RENAME TO gone")
        with pytest.raises(StorageError):
            await quotas.synchronise()
        assert both(quotas)[0] == Use(2, 3, 4)
        quotas.add("ann", Use(1))
        breaker.execute("ALTER TABLE gone RENAME TO tenant_usage")
    breaker.close()
    await quotas.synchronise()
    assert both(quotas)[0] == Use(3, 3, 4)
    again = Quotas(store, Clock())
    await again.synchronise()
    assert both(again)[0] == Use(3, 3, 4)


async def test_a_new_day_begins_with_nothing_and_its_month_goes_on(store: Store) -> None:
    clock = Clock()
    quotas = Quotas(store, clock)
    quotas.add("ann", Use(7, 8, 9))
    await quotas.synchronise()
    clock.now = quotas.periods().day_ends
    assert both(quotas) == (Use(), Use(7, 8, 9))
    quotas.add("ann", Use(1))
    await quotas.synchronise()
    assert both(quotas) == (Use(1), Use(8, 8, 9))
    clock.now = quotas.periods().month_ends + 60
    assert both(quotas) == (Use(), Use())
    clock.now = NOW  # a clock that is set back finds the old day again
    await quotas.synchronise()
    assert both(quotas)[0] == Use(7, 8, 9)
