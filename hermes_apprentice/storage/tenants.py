"""Tenants, the hashes of their keys and the patterns that are theirs, as tables.

Beside the database lies an empty file, ``tenants.required``, from the first tenant on.
It tells a sidecar that cannot read the database, or finds it emptied, that requests
without a key must be refused. Knows nothing about requests.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from hermes_apprentice.domain.tenant import (
    IssuedKey,
    Limits,
    StoredKey,
    Tenant,
    checked_limits,
    checked_name,
    new_key,
    with_changes,
)
from hermes_apprentice.errors import StorageError, TenantError
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import write_atomically

_LIMITS = ", ".join(Limits.__slots__)
_TENANTS = "SELECT * FROM tenants ORDER BY name"
_KEYS = "SELECT * FROM tenant_keys ORDER BY key_id"
_OWNERS = "SELECT slug, tenant FROM pattern_owners ORDER BY slug"
_PROFILES = "SELECT profile, tenant FROM tenant_profiles ORDER BY profile"
_EVERYTHING = (_TENANTS, _KEYS, _OWNERS, _PROFILES)
_LEARNED_FROM = """
SELECT DISTINCT tenant FROM pattern_members JOIN exchanges USING (exchange_id)
JOIN tenant_profiles USING (profile) WHERE pattern_id = ?
"""
_PROPOSED = """
SELECT COALESCE(specialists.slug, json_extract(candidates.evidence, '$.slug')) AS slug
FROM candidates LEFT JOIN specialists USING (candidate_id) WHERE candidates.candidate_id = ?
"""
_KNOWN = """
SELECT slug FROM patterns UNION SELECT slug FROM specialists UNION SELECT slug FROM rollouts
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Everything that decides who may ask for what."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """By name, revoked ones included."""

    keys: Mapping[str, StoredKey] = field(default_factory=dict)
    """By id; the operator's as well."""

    owners: Mapping[str, str] = field(default_factory=dict)
    """Whose a pattern is, by slug; what is not named is everybody's."""

    profiles: Mapping[str, str] = field(default_factory=dict)
    """Whose sessions a Hermes profile holds, where somebody said so."""

    @property
    def has_admin_key(self) -> bool:
        """Whether the operator made a key for the admin endpoints."""
        return any(key.tenant is None for key in self.keys.values())

    def hidden_from(self, name: str) -> frozenset[str]:
        """Return the specialists that do not exist for a tenant: those of the others."""
        return frozenset(slug for slug, owner in self.owners.items() if owner != name)


class TenantStore:
    """What an operator does with tenants; every method is one transaction."""

    def __init__(
        self, database: Database, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self._database = database
        self._random_bytes = random_bytes

    def directory(self) -> Directory:
        """Return everything.

        Raises:
            StorageError: It cannot be read.
        """
        with self._database.transaction():
            return _directory(*map(self._database.read, _EVERYTHING))

    def create(self, name: str, limits: Limits, now: float) -> IssuedKey:
        """Make a tenant and its first key.

        Raises:
            TenantError: The name is taken or unfit, or a limit makes no sense.
        """
        values = (checked_name(name), *astuple(checked_limits(limits)), now)
        marks = ", ".join("?" * len(values))
        with self._database.transaction() as connection:
            if _find(connection, name) is not None:
                raise TenantError(f"There is a tenant '{name}' already.")
            connection.execute(
                f"INSERT INTO tenants (name, {_LIMITS}, created_at) VALUES ({marks})", values
            )
            key = self._issue(connection, name, now)
            # Before the commit: a crash in between leaves requests refused, not let in.
            _write(marker_of(self._database.path))
            return key

    def change(
        self, name: str, changes: Mapping[str, int | None], lifted: Collection[str] = ()
    ) -> Limits:
        """Change or lift some of a tenant's limits; returns all of them.

        Args:
            name: The tenant.
            changes: New values by name; ``None`` leaves one as it is.
            lifted: Names of those that end.

        Raises:
            TenantError: There is no such tenant or limit, or a value makes no sense.
        """
        columns = ", ".join(f"{column} = ?" for column in Limits.__slots__)
        with self._database.transaction() as connection:
            limits = with_changes(_tenant(_need(connection, name)).limits, changes, lifted)
            connection.execute(
                f"UPDATE tenants SET {columns} WHERE name = ?", (*astuple(limits), name)
            )
            return limits

    def rotate(self, name: str, now: float, grace: float = 0.0) -> IssuedKey:
        """Give a tenant a new key; its others end.

        Args:
            name: The tenant.
            now: Unix time.
            grace: Seconds for which its other keys still count.

        Raises:
            TenantError: There is no such tenant, or it was revoked.
        """
        with self._database.transaction() as connection:
            if _need(connection, name)["revoked_at"] is not None:
                raise TenantError(f"'{name}' was revoked; delete it and create it again.")
            return self._replace(connection, name, now, grace)

    def rotate_admin(self, now: float, grace: float = 0.0) -> IssuedKey:
        """Make the operator's key for the admin endpoints; an older one ends."""
        with self._database.transaction() as connection:
            return self._replace(connection, None, now, grace)

    def revoke(self, name: str, now: float) -> None:
        """End every key of a tenant at once; what is its own stays hidden from others.

        Raises:
            TenantError: There is no such tenant.
        """
        with self._database.transaction() as connection:
            _need(connection, name)
            connection.execute(
                "UPDATE tenants SET revoked_at = COALESCE(revoked_at, ?) WHERE name = ?",
                (now, name),
            )
            connection.execute("DELETE FROM tenant_keys WHERE tenant = ?", (name,))

    def delete(self, name: str) -> None:
        """Forget a revoked tenant and its quotas; its ledger stays.

        After the last one, requests need no key any more.

        Raises:
            TenantError: There is no such tenant, it was not revoked, or it owns patterns.
        """
        with self._database.transaction() as connection:
            if _need(connection, name)["revoked_at"] is None:
                raise TenantError(f"Revoke '{name}' first: apprentice tenants revoke {name}")
            owned = connection.execute(
                "SELECT slug FROM pattern_owners WHERE tenant = ? ORDER BY slug", (name,)
            ).fetchall()
            if owned:
                names = ", ".join(row["slug"] for row in owned)
                raise TenantError(
                    f"'{name}' owns {names}; deleting it would give them to everybody. "
                    "Assign them first: apprentice tenants assign PATTERN TENANT"
                )
            connection.execute("DELETE FROM tenant_keys WHERE tenant = ?", (name,))
            connection.execute("DELETE FROM tenant_profiles WHERE tenant = ?", (name,))
            connection.execute("DELETE FROM tenant_usage WHERE tenant = ?", (name,))
            connection.execute("DELETE FROM tenants WHERE name = ?", (name,))
            if connection.execute("SELECT 1 FROM tenants").fetchone() is None:
                marker_of(self._database.path).unlink(missing_ok=True)

    def assign(self, subject: str, name: str | None) -> str:
        """Give a pattern to a tenant, or to everybody; returns its slug.

        Args:
            subject: A candidate's handle, or the name of a pattern or specialist.
            name: The tenant; ``None`` is everybody.

        Raises:
            TenantError: There is no such pattern or tenant.
        """
        with self._database.transaction() as connection:
            slug = _slug_of(connection, subject)
            connection.execute("DELETE FROM pattern_owners WHERE slug = ?", (slug,))
            if name is not None:
                _need(connection, name)
                connection.execute(
                    "INSERT INTO pattern_owners (slug, tenant) VALUES (?, ?)", (slug, name)
                )
            return slug

    def map_profile(self, profile: str, name: str | None) -> None:
        """Say whose sessions a Hermes profile holds; ``None`` is everybody's.

        What is proposed from then on out of them is that tenant's; older patterns stay.

        Raises:
            TenantError: There is no such tenant.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM tenant_profiles WHERE profile = ?", (profile,))
            if name is not None:
                _need(connection, name)
                connection.execute(
                    "INSERT INTO tenant_profiles (profile, tenant) VALUES (?, ?)", (profile, name)
                )

    def _replace(
        self, connection: sqlite3.Connection, name: str | None, now: float, grace: float
    ) -> IssuedKey:
        connection.execute(
            "UPDATE tenant_keys SET ends_at = MIN(COALESCE(ends_at, ?), ?) WHERE tenant IS ?",
            (now + grace, now + grace, name),
        )
        connection.execute("DELETE FROM tenant_keys WHERE ends_at <= ?", (now,))
        return self._issue(connection, name, now)

    def _issue(self, connection: sqlite3.Connection, name: str | None, now: float) -> IssuedKey:
        key = new_key(self._random_bytes)
        connection.execute(
            "INSERT INTO tenant_keys (key_id, tenant, digest, created_at) VALUES (?, ?, ?, ?)",
            (key.key_id, name, key.digest, now),
        )
        return key


def settle_owner(connection: sqlite3.Connection, pattern_id: str, slug: str) -> str | None:
    """Give a new candidate to the tenant whose requests it was learned from.

    Requests of profiles that are nobody's do not count. Where several tenants ask for
    the same, the pattern is everybody's.

    Returns:
        The tenant, or ``None`` for everybody.
    """
    tenants = [str(row["tenant"]) for row in connection.execute(_LEARNED_FROM, (pattern_id,))]
    if len(tenants) != 1:
        return None
    connection.execute(
        "INSERT OR IGNORE INTO pattern_owners (slug, tenant) VALUES (?, ?)", (slug, tenants[0])
    )
    return tenants[0]


def owner_of(connection: sqlite3.Connection, slug: str) -> str | None:
    """Return the tenant that a pattern belongs to; ``None`` is everybody."""
    row = connection.execute("SELECT tenant FROM pattern_owners WHERE slug = ?", (slug,)).fetchone()
    return str(row[0]) if row else None


def pass_on(connection: sqlite3.Connection, slug: str, heir: str) -> None:
    """Give ``heir`` to whomever ``slug`` belongs."""
    connection.execute("DELETE FROM pattern_owners WHERE slug = ?", (heir,))
    connection.execute(
        "INSERT INTO pattern_owners (slug, tenant) "
        "SELECT ?, tenant FROM pattern_owners WHERE slug = ?",
        (heir, slug),
    )


def marker_of(database_path: Path) -> Path:
    """Return the file that says that requests need a key, whatever the database says."""
    return database_path.with_name("tenants.required")


async def read_directory(database: AsyncDatabase) -> Directory:
    """Return everything to the sidecar.

    Raises:
        StorageError: It cannot be read, or is damaged.
    """
    # One connection: what is read in between others' commits is corrected a second later.
    return _directory(*[await database.read(sql) for sql in _EVERYTHING])


def _directory(
    tenants: Sequence[sqlite3.Row],
    keys: Sequence[sqlite3.Row],
    owners: Sequence[sqlite3.Row],
    profiles: Sequence[sqlite3.Row],
) -> Directory:
    try:
        return Directory(
            tenants={row["name"]: _tenant(row) for row in tenants},
            keys={row["key_id"]: _key(row) for row in keys},
            owners={str(row["slug"]): str(row["tenant"]) for row in owners},
            profiles={str(row["profile"]): str(row["tenant"]) for row in profiles},
        )
    except (TenantError, TypeError, ValueError) as error:
        raise StorageError(f"The table of tenants is damaged: {error}") from error


def _tenant(row: sqlite3.Row) -> Tenant:
    limits = Limits(**{name: row[name] for name in Limits.__slots__})
    revoked = row["revoked_at"]
    return Tenant(
        name=checked_name(row["name"]),
        limits=checked_limits(limits),
        created_at=float(row["created_at"]),
        revoked_at=None if revoked is None else float(revoked),
    )


def _key(row: sqlite3.Row) -> StoredKey:
    digest, ends = row["digest"], row["ends_at"]
    if not isinstance(digest, bytes) or len(digest) != 32:
        raise ValueError(f"the digest of the key {row['key_id']} is none")
    return StoredKey(
        key_id=row["key_id"],
        tenant=row["tenant"],
        digest=digest,
        created_at=float(row["created_at"]),
        ends_at=None if ends is None else float(ends),
    )


def _find(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute("SELECT * FROM tenants WHERE name = ?", (name,)).fetchone()


def _need(connection: sqlite3.Connection, name: str) -> Any:
    row = _find(connection, name)
    if row is None:
        raise TenantError(f"There is no tenant '{name}'; see: apprentice tenants list")
    return row


def _slug_of(connection: sqlite3.Connection, subject: str) -> str:
    row = connection.execute(_PROPOSED, (subject,)).fetchone()
    if row is not None:
        return str(row["slug"])
    known = sorted(row["slug"] for row in connection.execute(_KNOWN))
    if subject not in known:
        names = ", ".join(known) or "none yet"
        raise TenantError(f"There is no pattern or specialist '{subject}'; known: {names}.")
    return subject


def _write(marker: Path) -> None:
    try:
        write_atomically(marker, b"")
    except OSError as error:
        raise StorageError(f"{marker} cannot be written: {error}") from error
