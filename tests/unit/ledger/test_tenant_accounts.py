from __future__ import annotations

from hermes_apprentice.domain.tenant import Limits, Use, periods_at
from hermes_apprentice.ledger.tenant_accounts import tenant_accounts
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

NOW = 1_790_000_000.0


def test_an_account_shows_what_counts_now(database: Database) -> None:
    office = TenantStore(database)
    office.rotate_admin(NOW - 99)
    first = office.create("ann", Limits(per_minute=6), NOW - 99)
    second = office.rotate("ann", NOW - 50, grace=20)
    office.create("bob", Limits(), NOW)
    office.revoke("bob", NOW)
    periods = periods_at(NOW)
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO rollouts (slug, version, stage, share, held, step_started_at, reason, "
            "updated_at) VALUES ('s', 1, 'live', 1, 0, 1, '', 1)"
        )
        connection.executemany(
            "INSERT INTO tenant_usage VALUES (?, ?, ?, ?, ?)",
            [
                ("ann", periods.day, 1, 2, 3),
                ("ann", periods.month, 4, 5, 6),
                ("ann", "2001-01", 7, 8, 9),
            ],
        )
    office.assign("s", "ann")
    ann, bob = tenant_accounts(database, NOW)
    assert (ann.today, ann.month) == (Use(1, 2, 3), Use(4, 5, 6))
    assert ann.keys == (second.key_id,)
    assert set(tenant_accounts(database, NOW - 40)[0].keys) == {first.key_id, second.key_id}
    assert ann.patterns == ("s",)
    assert (bob.today, bob.keys, bob.tenant.revoked_at) == (Use(), (), NOW)
