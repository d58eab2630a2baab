"""What each tenant has, may use and used, for an operator to read.

As the sidecars wrote it, so about a second old. Knows nothing about requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from hermes_apprentice.domain.tenant import Tenant, Use, periods_at
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenant_usage import usage
from hermes_apprentice.storage.tenants import TenantStore


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantAccount:
    """One tenant."""

    tenant: Tenant
    """Its name and limits."""

    today: Use
    """What it used since midnight, UTC."""

    month: Use
    """What it used since the first of the month."""

    keys: tuple[str, ...]
    """Ids of the keys that count now."""

    patterns: tuple[str, ...]
    """Slugs of the patterns that only it sees."""

    profiles: tuple[str, ...]
    """Hermes profiles whose sessions are its own."""


def tenant_accounts(database: Database, now: float) -> list[TenantAccount]:
    """Return every tenant's account at ``now`` (Unix time), by name.

    Raises:
        StorageError: The database cannot be read.
    """
    periods = periods_at(now)
    directory = TenantStore(database).directory()
    used = usage(database, periods)
    return [
        TenantAccount(
            tenant=tenant,
            today=used.get((name, periods.day), Use()),
            month=used.get((name, periods.month), Use()),
            keys=tuple(
                key.key_id
                for key in directory.keys.values()
                if key.tenant == name and (key.ends_at is None or key.ends_at > now)
            ),
            patterns=tuple(slug for slug, owner in directory.owners.items() if owner == name),
            profiles=tuple(one for one, owner in directory.profiles.items() if owner == name),
        )
        for name, tenant in directory.tenants.items()
    ]
