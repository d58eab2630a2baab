"""Lets Hermes in at a sidecar that wants a key: makes the tenant that Hermes is."""

from __future__ import annotations

from collections.abc import Iterator

from hermes_apprentice.domain.tenant import PREFIX, Limits, key_id_of, proves
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import Directory, TenantStore

TENANT = "hermes"
"""Hermes' name among those who share the sidecar."""


def admitted(directory: Directory, key: str) -> bool:
    """Whether a key is one of a tenant that is not turned away."""
    stored = directory.keys.get(key_id_of(key) or "")
    if stored is None or stored.tenant is None or not proves(key, stored.digest):
        return False
    tenant = directory.tenants.get(stored.tenant)
    return tenant is not None and tenant.revoked_at is None and stored.ends_at is None


def admit(database: Database, key: str, now: float) -> None:
    """Make Hermes' tenant with this very key, or give it to the one that is there.

    Args:
        database: Apprentice's own.
        key: A key that was made before, because it is written down in Hermes' home as well.
        now: Unix time.

    Raises:
        ConfigError: That is no key.
        TenantError: The tenant was revoked.
    """
    if key_id_of(key) is None:
        raise ConfigError(f"Hermes' key is none of ours; it begins with '{PREFIX}'. Remove it.")
    parts: Iterator[bytes] = map(bytes.fromhex, key.removeprefix(PREFIX).split("-"))
    store = TenantStore(database, lambda _: next(parts))
    directory = store.directory()
    if admitted(directory, key):
        return
    if TENANT in directory.tenants:
        store.rotate(TENANT, now)
    else:
        store.create(TENANT, Limits(), now)
