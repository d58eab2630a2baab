"""Who asks, and whether they may: keys, rates, quotas and budgets of tenants.

Nothing here waits: a request is judged by a copy of the tables that a task of its own
renews about once a second. A copy that could not be renewed for ``STALE_SECONDS`` no
longer lets anybody in. While there are no tenants, no key is asked for. Knows nothing
about what a request says.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.domain.money import dollars
from hermes_apprentice.domain.routing import Route
from hermes_apprentice.domain.tenant import Limits, Use, key_id_of, proves, reached
from hermes_apprentice.errors import StorageError
from hermes_apprentice.ledger.budget import ALERTS
from hermes_apprentice.router.quotas import Quotas
from hermes_apprentice.router.refusals import (
    NO_ADMIN_KEY,
    NO_KEY,
    NOT_METERED,
    UNREADABLE,
    WRONG_KEY,
    Refusal,
    spent,
    too_often,
)
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.token_bucket import TokenBucket
from hermes_apprentice.storage.tenant_usage import tell
from hermes_apprentice.storage.tenants import Directory, read_directory

POLL_SECONDS = 1.0
"""Between two renewals."""

STALE_SECONDS = 60.0
"""How old the copy of the tables may become, while the database cannot be read or written,
before everybody is refused. A revoked key counts no longer than that."""

LAST_WRITE = 3.0
"""Seconds to write what is left when the sidecar stops."""

UNKNOWN_AT_ONCE = 8
"""Requests at once for a tenant with a budget or a limit on tokens, until one of its calls has
shown what they cost."""

UNPRICED = frozenset({"models", "plugins", "web_search_options"})
"""Fields of a request that make it dearer than its model's price: other models, paid extras."""

_ONE = Use(requests=1)
_PAID = (Route.UPSTREAM, Route.FALLBACK, Route.AUDIT)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A tenant who was let in."""

    name: str
    """The tenant."""

    limits: Limits
    """What it may use."""

    hidden: frozenset[str]
    """Specialists that are somebody else's: for this tenant they do not exist."""

    def may_ask(self, body: Mapping[str, Any], *, priced: bool) -> bool:
        """Whether what a completion will cost can be counted, where it must be.

        Args:
            body: The parsed request; empty where it could not be read.
            priced: Whether the model that it names has a price.
        """
        if self.limits.monthly_budget is None:
            return True
        return priced and bool(body) and UNPRICED.isdisjoint(body)


class Tenants:
    """Judges requests by their key."""

    def __init__(
        self,
        store: Store,
        *,
        exposed: bool,
        marker: Path,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is needed.

        Args:
            store: The database.
            exposed: Whether other machines can reach the sidecar; then keys are always needed.
            marker: The file that says that there are tenants.
            clock: Unix time, for keys that end and for days.
            ticks: Seconds that only ever grow, for rates and ages.
        """
        self.problem = ""
        self.keys_needed = exposed or marker.exists()
        self.admin_key_needed = exposed
        self.quotas = Quotas(store, clock)
        self._store = store
        self._exposed = exposed
        self._marker = marker
        self._clock = clock
        self._ticks = ticks
        self._directory = Directory()
        self._guests: dict[str, Guest] = {}
        self._buckets: dict[str, tuple[Limits, TokenBucket]] = {}
        self._read_at = float("-inf")
        self._kept_at = float("-inf")
        self._told: set[str] = set()
        self._inside: Counter[str] = Counter()
        self._dearest: dict[str, Use] = {}

    def guest(self, name: str) -> Guest | None:
        """Return a tenant as requests see it."""
        return self._guests.get(name)

    def admit(self, key: str | None, named: str | None, *, metered: bool) -> Guest | Refusal:
        """Let a request in, and count it, or say why not.

        Args:
            key: What it proves itself with.
            named: The tenant that it claims to be from, if it does.
            metered: Whether what the upstream charges for it will be known.
        """
        now = self._ticks()
        if now - self._read_at > STALE_SECONDS:
            return UNREADABLE
        if key is None:
            return NO_KEY
        owner = self._owner(key)
        guest = self._guests.get(owner) if owner else None
        if guest is None or (named is not None and named != guest.name):
            return WRONG_KEY
        limits = guest.limits
        if limits.per_minute is not None:
            wait = self._bucket(guest.name, limits).take(now)
            if wait > 0:
                return too_often(math.ceil(wait))
        if limits.counted:
            refusal = self._over(guest, now, metered)
            if refusal is not None:
                return refusal
            self._inside[guest.name] += limits.metered
        self.quotas.add(guest.name, _ONE)
        return guest

    def leave(self, guest: Guest) -> None:
        """Note that a request that was let in is done."""
        if guest.limits.metered:
            self._inside[guest.name] -= 1

    def admit_operator(self, key: str | None) -> Refusal | None:
        """Return why the admin endpoints stay closed, or ``None``."""
        if self._ticks() - self._read_at > STALE_SECONDS:
            return UNREADABLE
        return None if key and self._owner(key) is None else NO_ADMIN_KEY

    def charge(self, entry: LedgerEntry) -> None:
        """Count what the upstream charged for a tenant's call."""
        if entry.tenant and entry.route in _PAID:
            tokens = entry.prompt_tokens + entry.completion_tokens
            use = Use(tokens=tokens, cost=entry.cost or 0)
            self.quotas.add(entry.tenant, use)
            known = self._dearest.get(entry.tenant, use)
            self._dearest[entry.tenant] = Use(
                tokens=max(known.tokens, use.tokens), cost=max(known.cost, use.cost)
            )

    async def run(self) -> None:
        """Renew until cancelled, then write what is left."""
        try:
            while True:
                await self.renew()
                await asyncio.sleep(POLL_SECONDS)
        except asyncio.CancelledError:
            if self.quotas.waiting:
                try:
                    async with asyncio.timeout(LAST_WRITE):
                        await self.quotas.synchronise()
                except (TimeoutError, StorageError) as error:
                    _log.error("the last counts of tenants were not written: %s", error)
            raise

    async def renew(self) -> None:
        """Read the tables again, and write what was counted."""
        try:
            began = self._ticks()
            self.adopt(await read_directory(await self._store.database()), began)
            if self.keys_needed:
                began = self._ticks()
                await self.quotas.synchronise()
                self._kept_at = began
                await self._alert()
        except StorageError as error:
            self.problem = str(error)
            self.keys_needed = self.keys_needed or self._marker.exists()
        else:
            self.problem = self._emptied()

    def adopt(self, directory: Directory, read_at: float | None = None) -> None:
        """Judge by these tables from now on.

        Args:
            directory: The tables.
            read_at: When their reading began, in ticks; now by default.
        """
        if directory != self._directory:
            self._guests = {
                name: Guest(
                    name=name,
                    limits=tenant.limits,
                    hidden=directory.hidden_from(name),
                )
                for name, tenant in directory.tenants.items()
                if tenant.revoked_at is None
            }
            self._buckets = {
                name: held for name, held in self._buckets.items() if name in self._guests
            }
            self._directory = directory
        self.keys_needed = self._exposed or bool(directory.tenants) or self._marker.exists()
        self.admin_key_needed = self._exposed or directory.has_admin_key
        self._read_at = self._ticks() if read_at is None else read_at

    def _owner(self, key: str) -> str | None:
        """Return whose key this is: a tenant's name, ``None`` for the operator, else empty."""
        stored = self._directory.keys.get(key_id_of(key) or "")
        proven = proves(key, stored.digest if stored is not None else None)
        if stored is None or not proven:
            return ""
        if stored.ends_at is not None and stored.ends_at <= self._clock():
            return ""
        return stored.tenant

    def _bucket(self, name: str, limits: Limits) -> TokenBucket:
        held = self._buckets.get(name)
        if held is None or held[0] != limits:
            bucket = TokenBucket(per_minute=limits.per_minute or 1, size=limits.bucket)
            held = self._buckets[name] = (limits, bucket)
        return held[1]

    def _over(self, guest: Guest, now: float, metered: bool) -> Refusal | None:
        if now - self._kept_at > STALE_SECONDS:
            return UNREADABLE
        if guest.limits.metered and not metered:
            return NOT_METERED
        periods = self.quotas.periods()
        day = self.quotas.used(guest.name, periods.day)
        month = self.quotas.used(guest.name, periods.month)
        over = reached(guest.limits, day, month, periods)
        if over is not None:
            return spent(over.what, max(1, math.ceil(over.until - self._clock())))
        inside = self._inside[guest.name]
        if not inside:
            return None
        # What is under way has no price yet: each is taken to cost what the dearest one did.
        dearest = self._dearest.get(guest.name)
        if dearest is None:
            return too_often(1) if inside >= UNKNOWN_AT_ONCE else None
        held = Use(tokens=inside * dearest.tokens, cost=inside * dearest.cost)
        full = reached(guest.limits, day.plus(held), month.plus(held), periods) is not None
        return too_often(1) if full else None

    def _emptied(self) -> str:
        if self._directory.tenants or not self._marker.exists():
            return ""
        return (
            f"{self._marker} says that there are tenants, and the database has none: every "
            "request is refused. Restore the database, or create the tenants again; "
            "remove the file only if nobody needs a key any more."
        )

    async def _alert(self) -> None:
        """Tell the operator, once each, how much of a tenant's budget is spent."""
        periods, due = self.quotas.periods(), []
        for guest in self._guests.values():
            budget = guest.limits.monthly_budget
            if not budget:
                continue
            used = self.quotas.used(guest.name, periods.month).cost
            for share in ALERTS:
                key = f"tenant-budget:{guest.name}:{periods.month}:{budget}:{share:.2f}"
                if used >= share * budget and key not in self._told:
                    text = (
                        f"Tenant '{guest.name}' has used {dollars(used)} of its "
                        f"{dollars(budget)} for {periods.month} ({share:.0%}). "
                        + ("Its requests are refused now." if used >= budget else "")
                    )
                    due.append((f"tenant:{guest.name}", key, text.strip()))
        if due:
            await tell(await self._store.database(), due, self._clock())
            self._told.update(key for _, key, _ in due)
