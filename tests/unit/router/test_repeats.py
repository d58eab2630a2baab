from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hermes_apprentice.domain.accounting import Repeat
from hermes_apprentice.router.repeats import MOST, Repeats
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import BudgetSettings, Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.ledger import append
from hermes_apprentice.storage.spending import add_spending

NOW = 1_790_000_000.0


@pytest.fixture
async def store(settings: Settings, database: Database) -> AsyncIterator[Store]:
    found = Store(settings.database_path)
    yield found
    await found.close()


def repeats(settings: Settings, store: Store, dollars: float = 0.0) -> Repeats:
    budget = BudgetSettings(monthly_dollars=dollars)
    return Repeats(store, settings.model_copy(update={"budget": budget}), clock=lambda: NOW)


async def test_a_model_is_asked_twice_up_to_a_limit_for_each_specialist(
    settings: Settings, store: Store
) -> None:
    one = Repeat(slug="label-ticket", at=NOW, model="big-one", agreed=None)
    asked = repeats(settings, store)
    await append(await store.database(), [], [], [], [one] * (MOST - 1))
    assert await asked.allowed("label-ticket", "big-one")
    await append(await store.database(), [], [], [], [one])
    assert not await asked.allowed("label-ticket", "big-one")
    assert await asked.allowed("label-ticket", "another-one")
    assert await asked.allowed("route-mail", "big-one")


async def test_nothing_is_asked_twice_once_the_months_budget_is_used_up(
    settings: Settings, store: Store, database: Database
) -> None:
    assert await repeats(settings, store, dollars=1).allowed("label-ticket", "big-one")
    with database.transaction() as connection:
        add_spending(connection, at=NOW, purpose="training", amount=1_000_000)
    assert not await repeats(settings, store, dollars=1).allowed("label-ticket", "big-one")
    assert await repeats(settings, store, dollars=2).allowed("label-ticket", "big-one")


async def test_nothing_is_asked_twice_while_the_database_cannot_be_read(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    settings.database_path.write_bytes(b"not a database, whatever it is called " * 40)
    store = Store(settings.database_path)
    assert not await repeats(settings, store).allowed("label-ticket", "big-one")
    await store.close()
