from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.router.refusals import (
    NO_ADMIN_KEY,
    NO_KEY,
    NOT_METERED,
    UNREADABLE,
    WRONG_KEY,
    Refusal,
)
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.tenants import STALE_SECONDS, UNKNOWN_AT_ONCE, Guest, Tenants
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore, marker_of

NOW = 1_790_000_000.0


class Clock:
    """Unix time and ticks in one; moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(settings: Settings, clock: Clock) -> AsyncIterator[Store]:
    opened = Store(settings.database_path, clock)
    yield opened
    await opened.close()


@pytest.fixture
def office(database: Database) -> TenantStore:
    return TenantStore(database)


def judge(store: Store, settings: Settings, clock: Clock, *, exposed: bool = False) -> Tenants:
    marker = marker_of(settings.database_path)
    return Tenants(store, exposed=exposed, marker=marker, clock=clock, ticks=clock)


def admit(tenants: Tenants, key: str | None, named: str | None = None) -> Guest | Refusal:
    return tenants.admit(key, named, metered=True)


def paid(tenant: str, **changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "at": NOW,
        "request_id": "r",
        "session": "s",
        "call_kind": CallKind.FIRST,
        "route": Route.UPSTREAM,
        "model": "m",
        "status": 200,
        "tenant": tenant,
        "prompt_tokens": 70,
        "completion_tokens": 30,
        "cost": 500,
    } | changes
    return LedgerEntry(**values)


async def test_a_key_opens_for_its_tenant(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert tenants.keys_needed
    found = admit(tenants, key, "ann")
    assert isinstance(found, Guest) and found.name == "ann"
    assert admit(tenants, None) is NO_KEY
    assert admit(tenants, "ap-wrong") is WRONG_KEY
    assert admit(tenants, key, "bob") is WRONG_KEY
    assert admit(tenants, key, "") is WRONG_KEY


async def test_before_anything_was_read_nobody_comes_in(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(), NOW).text
    tenants = judge(store, settings, clock)
    assert tenants.keys_needed
    assert admit(tenants, key) is UNREADABLE
    assert tenants.admit_operator(key) is UNREADABLE


async def test_keys_are_needed_where_others_can_reach_it_whatever_the_database_says(
    store: Store, settings: Settings, clock: Clock
) -> None:
    tenants = judge(store, settings, clock, exposed=True)
    assert tenants.keys_needed and tenants.admin_key_needed
    await tenants.renew()
    assert tenants.keys_needed and tenants.admin_key_needed
    assert admit(tenants, None) is NO_KEY


async def test_a_revoked_key_counts_no_longer_than_said(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    office.revoke("ann", NOW)
    with sqlite3.connect(settings.database_path, isolation_level=None) as breaker:
        breaker.execute("ALTER TABLE tenants RENAME TO gone")
    breaker.close()
    clock.now += STALE_SECONDS
    await tenants.renew()
    assert tenants.problem
    assert isinstance(admit(tenants, key), Guest)  # a short trouble turns nobody away
    clock.now += 0.001
    assert admit(tenants, key) is UNREADABLE
    with sqlite3.connect(settings.database_path, isolation_level=None) as breaker:
        breaker.execute("ALTER TABLE gone RENAME TO tenants")
    breaker.close()
    await tenants.renew()
    assert admit(tenants, key) is WRONG_KEY
    assert not tenants.problem


async def test_a_quota_that_cannot_be_kept_closes_for_its_tenant_only(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    limited = office.create("ann", Limits(daily_requests=100), NOW).text
    free = office.create("bob", Limits(per_minute=600), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    with sqlite3.connect(settings.database_path, isolation_level=None) as breaker:
        breaker.execute("ALTER TABLE tenant_usage RENAME TO gone")
    breaker.close()
    clock.now += STALE_SECONDS + 1
    await tenants.renew()
    assert admit(tenants, limited) is UNREADABLE
    assert isinstance(admit(tenants, free), Guest)


async def test_a_key_ends_at_its_hour_without_the_database(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    old = office.create("ann", Limits(), NOW).text
    new = office.rotate("ann", NOW, grace=10).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert isinstance(admit(tenants, old), Guest)
    clock.now += 10
    assert admit(tenants, old) is WRONG_KEY
    assert isinstance(admit(tenants, new), Guest)


async def test_a_refused_request_uses_nothing_up(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(per_minute=1, burst=1, daily_requests=5), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert isinstance(admit(tenants, key), Guest)
    for _ in range(9):
        late = admit(tenants, key)
        assert isinstance(late, Refusal) and late.status == 429
        assert dict(late.headers)[b"retry-after"] == b"60"
        admit(tenants, "ap-wrong")
    assert tenants.quotas.used("ann", tenants.quotas.periods().day).requests == 1


async def test_what_the_upstream_charged_counts_and_a_specialists_answer_does_not(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(monthly_budget=1_000, daily_tokens=250), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    for _ in range(9):
        tenants.charge(paid("ann", route=Route.SPECIALIST, cost=0))
        tenants.charge(paid("bob"))
        tenants.charge(paid(""))
    first = admit(tenants, key)
    assert isinstance(first, Guest)
    tenants.charge(paid("ann"))
    tenants.charge(paid("ann", route=Route.AUDIT, cost=499))
    tenants.leave(first)
    second = admit(tenants, key)
    assert isinstance(second, Guest)
    tenants.leave(second)
    tenants.charge(paid("ann", route=Route.FALLBACK, cost=1, prompt_tokens=0, completion_tokens=0))
    over = admit(tenants, key)
    assert isinstance(over, Refusal)
    assert b"budget" in over.body
    month = tenants.quotas.used("ann", tenants.quotas.periods().month)
    assert (month.requests, month.tokens, month.cost) == (2, 200, 1_000)


async def test_who_is_metered_may_not_use_what_is_not(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    metered = office.create("ann", Limits(monthly_tokens=10), NOW).text
    counted = office.create("bob", Limits(monthly_requests=10), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert tenants.admit(metered, None, metered=False) is NOT_METERED
    assert isinstance(tenants.admit(counted, None, metered=False), Guest)


async def test_a_changed_limit_counts_and_others_buckets_stay(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    anns = office.create("ann", Limits(per_minute=1, burst=1), NOW).text
    bobs = office.create("bob", Limits(per_minute=1, burst=1), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert isinstance(admit(tenants, anns), Guest) and isinstance(admit(tenants, bobs), Guest)
    office.change("ann", {"burst": 2})
    await tenants.renew()
    assert isinstance(admit(tenants, anns), Guest)
    assert isinstance(admit(tenants, bobs), Refusal)


async def test_each_alert_is_written_once(
    store: Store, settings: Settings, clock: Clock, office: TenantStore, database: Database
) -> None:
    office.create("ann", Limits(monthly_budget=1_000), NOW)
    told: list[int] = []
    for cost in (700, 99, 1, 150, 50, 500):
        tenants = judge(store, settings, clock)  # as after a restart, every time
        await tenants.renew()
        tenants.charge(paid("ann", cost=cost))
        await tenants.renew()
        await tenants.renew()
        told.append(database.read("SELECT COUNT(*) FROM outbox")[0][0])
    assert told == [0, 0, 1, 2, 3, 3]


async def test_the_operators_key_opens_the_operators_pages_only(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert not tenants.admin_key_needed
    admin = office.rotate_admin(NOW).text
    await tenants.renew()
    assert tenants.admin_key_needed
    assert tenants.admit_operator(admin) is None
    for wrong in (None, "", key, "ap-wrong"):
        assert tenants.admit_operator(wrong) is NO_ADMIN_KEY
    assert admit(tenants, admin) is WRONG_KEY


async def test_what_is_counted_when_it_stops_is_written(
    store: Store, settings: Settings, clock: Clock, office: TenantStore, database: Database
) -> None:
    key = office.create("ann", Limits(), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    running = asyncio.create_task(tenants.run())
    await asyncio.sleep(0)
    assert isinstance(admit(tenants, key), Guest)
    running.cancel()
    await asyncio.wait({running})
    found = database.read("SELECT requests FROM tenant_usage WHERE tenant = 'ann'")
    assert [row[0] for row in found] == [1, 1]


async def test_without_tenants_the_database_may_fail(
    store: Store, settings: Settings, clock: Clock
) -> None:
    settings.database_path.parent.mkdir(parents=True)
    settings.database_path.write_bytes(b"not a database" * 400)
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert tenants.problem and not tenants.keys_needed
    marker_of(settings.database_path).touch()
    clock.now += 60
    await tenants.renew()
    assert tenants.keys_needed
    assert admit(tenants, "ap-x") is UNREADABLE


async def test_calls_under_way_are_held_against_a_budget(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(monthly_budget=2_500), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    unknown = [admit(tenants, key) for _ in range(UNKNOWN_AT_ONCE + 2)]
    inside = [found for found in unknown if isinstance(found, Guest)]
    assert len(inside) == UNKNOWN_AT_ONCE
    for guest in inside:
        tenants.leave(guest)
    tenants.charge(paid("ann", cost=400))
    tenants.charge(paid("ann", cost=100))  # 2,000 are left, and the dearest call cost 400
    inside = []
    while isinstance(found := admit(tenants, key), Guest):
        inside.append(found)
    assert len(inside) == 5
    assert isinstance(found, Refusal) and dict(found.headers)[b"retry-after"] == b"1"
    office.change("ann", {"monthly_budget": 2_900})
    await tenants.renew()
    assert isinstance(admit(tenants, key), Guest)
    assert isinstance(admit(tenants, key), Refusal)
    tenants.leave(inside.pop())
    assert isinstance(admit(tenants, key), Guest)


async def test_who_has_no_budget_is_not_held_up_by_calls_under_way(
    store: Store, settings: Settings, clock: Clock, office: TenantStore
) -> None:
    key = office.create("ann", Limits(daily_requests=1_000), NOW).text
    tenants = judge(store, settings, clock)
    await tenants.renew()
    assert all(isinstance(admit(tenants, key), Guest) for _ in range(5 * UNKNOWN_AT_ONCE))
