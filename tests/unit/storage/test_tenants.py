from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.tenant import Limits, proves
from hermes_apprentice.errors import StorageError, TenantError
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.tenants import TenantStore, marker_of, read_directory, settle_owner

NOW = 1_790_000_000.0
LIMITS = Limits(per_minute=60, burst=3, daily_requests=9, monthly_budget=5_000_000)


@pytest.fixture
def office(database: Database) -> TenantStore:
    return TenantStore(database, random.Random(7).randbytes)


async def test_what_was_made_is_read_back_by_both_readers(
    office: TenantStore, database: Database
) -> None:
    office.create("ann", LIMITS, NOW)
    office.create("bob", Limits(), NOW + 1)
    office.rotate_admin(NOW)
    found = office.directory()
    assert found.tenants["ann"].limits == LIMITS
    assert found.tenants["bob"].limits == Limits()
    assert found.has_admin_key
    other = await AsyncDatabase.open(database.path)
    try:
        assert await read_directory(other) == found
    finally:
        await other.close()


def test_no_file_holds_a_key(office: TenantStore, database: Database) -> None:
    keys = [office.create("ann", LIMITS, NOW), office.rotate("ann", NOW), office.rotate_admin(NOW)]
    database.close()
    written = b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    for key in keys:
        secret = key.text.rpartition("-")[2]
        assert secret.encode() not in written and bytes.fromhex(secret) not in written
        assert key.digest in written or key is keys[0]


def test_a_name_is_given_once(office: TenantStore) -> None:
    key = office.create("ann", LIMITS, NOW)
    with pytest.raises(TenantError, match="already"):
        office.create("ann", Limits(), NOW)
    (stored,) = office.directory().keys.values()
    assert proves(key.text, stored.digest)


def test_a_refused_creation_leaves_no_trace(office: TenantStore, database: Database) -> None:
    with pytest.raises(TenantError):
        office.create("ann", Limits(burst=1), NOW)
    with pytest.raises(TenantError):
        office.create("Ann", Limits(), NOW)
    assert office.directory().tenants == {}
    assert not marker_of(database.path).exists()


def test_a_rotation_ends_the_older_keys_and_never_lengthens_them(office: TenantStore) -> None:
    first = office.create("ann", Limits(), NOW)
    second = office.rotate("ann", NOW, grace=100)
    third = office.rotate("ann", NOW + 50, grace=500)
    ends = {key.key_id: key.ends_at for key in office.directory().keys.values()}
    assert ends == {first.key_id: NOW + 100, second.key_id: NOW + 550, third.key_id: None}
    last = office.rotate("ann", NOW + 60)
    assert set(office.directory().keys) == {last.key_id}


def test_a_rotation_touches_nobody_elses_key(office: TenantStore) -> None:
    bobs, admin = office.create("bob", Limits(), NOW), office.rotate_admin(NOW)
    office.create("ann", Limits(), NOW)
    office.rotate("ann", NOW)
    assert {bobs.key_id, admin.key_id} < set(office.directory().keys)
    newer = office.rotate_admin(NOW)
    assert admin.key_id not in office.directory().keys
    assert {bobs.key_id, newer.key_id} < set(office.directory().keys)


def test_a_revoked_tenant_has_no_key_and_gets_none(office: TenantStore) -> None:
    office.create("ann", Limits(), NOW)
    office.revoke("ann", NOW + 5)
    office.revoke("ann", NOW + 9)
    found = office.directory()
    assert (found.tenants["ann"].revoked_at, found.keys) == (NOW + 5, {})
    with pytest.raises(TenantError, match="revoked"):
        office.rotate("ann", NOW)
    with pytest.raises(TenantError, match="already"):
        office.create("ann", Limits(), NOW)


def test_the_marker_lasts_as_long_as_any_tenant(office: TenantStore, database: Database) -> None:
    marker = marker_of(database.path)
    for name in ("ann", "bob"):
        office.create(name, Limits(), NOW)
    with pytest.raises(TenantError, match="Revoke"):
        office.delete("ann")
    for name in ("ann", "bob"):
        assert marker.exists()
        office.revoke(name, NOW)
        assert marker.exists()
        office.delete(name)
    assert not marker.exists()
    assert office.directory().tenants == {}


def test_who_owns_a_pattern_cannot_be_deleted(office: TenantStore, database: Database) -> None:
    _serve(database, "label-ticket")
    office.create("ann", Limits(), NOW)
    assert office.assign("label-ticket", "ann") == "label-ticket"
    office.revoke("ann", NOW)
    with pytest.raises(TenantError, match="label-ticket"):
        office.delete("ann")
    assert office.directory().hidden_from("bob") == {"label-ticket"}
    office.assign("label-ticket", None)
    office.delete("ann")


def test_a_pattern_has_one_owner_or_none(office: TenantStore, database: Database) -> None:
    _serve(database, "label-ticket")
    for name in ("ann", "bob"):
        office.create(name, Limits(), NOW)
        office.assign("label-ticket", name)
    assert office.directory().owners == {"label-ticket": "bob"}
    assert office.directory().hidden_from("bob") == frozenset()
    with pytest.raises(TenantError, match="no tenant 'eve'"):
        office.assign("label-ticket", "eve")
    assert office.directory().owners == {"label-ticket": "bob"}
    with pytest.raises(TenantError, match="known: label-ticket"):
        office.assign("label-tickets", "ann")


def test_a_candidate_is_assigned_before_anything_is_trained(
    office: TenantStore, database: Database, make_candidate: Callable[..., Candidate]
) -> None:
    import numpy as np

    candidate = make_candidate()
    with database.transaction() as connection:
        store = PatternStore(connection)
        stored = StoredPattern(
            pattern=candidate.pattern, embedder="e", centre=np.ones(3, np.float32), radius=0.5
        )
        store.save(stored, NOW)
        store.add_candidate(candidate)
    office.create("ann", Limits(), NOW)
    assert office.assign(candidate.candidate_id, "ann") == candidate.pattern.slug
    assert office.directory().owners == {candidate.pattern.slug: "ann"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE tenant_keys SET digest = 'text'",
        "UPDATE tenant_keys SET digest = x'00'",
        "UPDATE tenants SET daily_requests = 1.5",
        "UPDATE tenants SET created_at = 'then'",
        "UPDATE tenants SET monthly_budget = 'much'",
    ],
)
async def test_a_damaged_table_is_an_error_and_not_a_tenant_without_limits(
    office: TenantStore, database: Database, damage: str
) -> None:
    office.create("ann", LIMITS, NOW)
    with database.transaction() as connection:
        connection.execute(damage)
    with pytest.raises(StorageError, match="damaged"):
        office.directory()
    other = await AsyncDatabase.open(database.path)
    try:
        with pytest.raises(StorageError, match="damaged"):
            await read_directory(other)
    finally:
        await other.close()


def _serve(database: Database, slug: str) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO rollouts (slug, version, stage, share, held, step_started_at, reason, "
            "updated_at) VALUES (?, 1, 'live', 1.0, 0, 1.0, '', 1.0)",
            (slug,),
        )


@pytest.mark.parametrize(
    ("profiles", "owner"),
    [
        (["default"] * 3, None),
        (["work"] * 3, "ann"),
        (["work", "default"], "ann"),
        (["work", "home"], "ann"),
        (["work", "shop"], None),
    ],
)
def test_a_candidate_is_the_one_tenants_from_whose_sessions_it_comes(
    office: TenantStore,
    database: Database,
    make_candidate: Callable[..., Candidate],
    make_exchange: Callable[..., Exchange],
    profiles: list[str],
    owner: str | None,
) -> None:
    import numpy as np

    for name in ("ann", "bob"):
        office.create(name, Limits(), NOW)
    for profile, name in (("work", "ann"), ("home", "ann"), ("shop", "bob")):
        office.map_profile(profile, name)
    office.map_profile("default", "bob")
    office.map_profile("default", None)
    pattern = make_candidate().pattern
    exchanges = [
        make_exchange(f"label this: {number}", profile=profile)
        for number, profile in enumerate(profiles)
    ]
    ExchangeStore(database).upsert(
        [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in exchanges], NOW
    )
    with database.transaction() as connection:
        store = PatternStore(connection)
        store.save(
            StoredPattern(pattern=pattern, embedder="e", centre=np.ones(3, np.float32), radius=0.5),
            NOW,
        )
        store.add_members(pattern.pattern_id, [(one.exchange_id, 0.9) for one in exchanges])
        assert settle_owner(connection, pattern.pattern_id, pattern.slug) == owner
    expected = {pattern.slug: owner} if owner else {}
    assert office.directory().owners == expected
