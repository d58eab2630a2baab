"""What each tenant has used today and this month, in memory and, soon after, in the database.

A request only adds numbers here. About once a second the differences are written and the
sums of all sidecars read back. Knows nothing about limits, keys or requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from hermes_apprentice.domain.tenant import Periods, Use, periods_at
from hermes_apprentice.router.store import Store
from hermes_apprentice.storage.tenant_usage import Account, add_and_read

_NOTHING = Use()


class Quotas:
    """Counts, by tenant and period."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._written: Mapping[Account, Use] = {}
        self._writing: dict[Account, Use] = {}
        self._fresh: dict[Account, Use] = {}
        self._periods = periods_at(clock())
        self._synchronising = asyncio.Lock()

    def periods(self) -> Periods:
        """Return the present day and month, UTC."""
        now, known = self._clock(), self._periods
        if not known.day_ends - 86_400 <= now < known.day_ends:
            known = self._periods = periods_at(now)
        return known

    def used(self, tenant: str, period: str) -> Use:
        """Return what a tenant used in a period, everything not yet written included."""
        account = (tenant, period)
        total = self._written.get(account, _NOTHING)
        for part in (self._writing, self._fresh):
            more = part.get(account)
            if more is not None:
                total = total.plus(more)
        return total

    def add(self, tenant: str, use: Use) -> None:
        """Count something for the present day and month."""
        periods = self.periods()
        for period in (periods.day, periods.month):
            account = (tenant, period)
            before = self._fresh.get(account)
            self._fresh[account] = use if before is None else before.plus(use)

    @property
    def waiting(self) -> bool:
        """Whether something is not written yet."""
        return bool(self._fresh or self._writing)

    async def synchronise(self) -> None:
        """Write what is new and read what all sidecars wrote.

        Raises:
            StorageError: It could not be done; nothing is lost, and all of it is tried again.
        """
        async with self._synchronising:
            database = await self._store.database()
            periods = self.periods()
            self._writing, self._fresh = self._fresh, {}
            try:
                self._written = await add_and_read(database, self._writing, periods)
            except BaseException:
                # Cut off in its commit it may be counted twice: that errs on the safe side.
                for account, use in self._writing.items():
                    after = self._fresh.get(account)
                    self._fresh[account] = use if after is None else use.plus(after)
                raise
            finally:
                self._writing = {}
