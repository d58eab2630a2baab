"""Write the ledger and the comparisons without ever making a request wait.

A request appends to a list in memory; a task of its own writes batches. While
the database cannot be written the list grows up to a limit, and what comes after
that is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from hermes_apprentice.domain.accounting import Attempt, Comparison, LedgerEntry, Repeat
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.store import Store
from hermes_apprentice.storage.ledger import append

LIMIT = 20_000
"""Entries, and as many comparisons and attempts, that wait at most."""

BATCH = 1_000
"""Entries written in one transaction."""

INTERVAL = 0.25
"""Seconds between two writes."""

LAST_WRITE = 3.0
"""Seconds to write what is left when the sidecar stops."""


class Recorder:
    """Collects what happened and writes it in batches."""

    def __init__(
        self,
        store: Store,
        limit: int = LIMIT,
        charge: Callable[[LedgerEntry], None] | None = None,
    ) -> None:
        self.dropped_entries = 0
        self.dropped_comparisons = 0
        self.dropped_attempts = 0
        self.problem = ""
        self._store = store
        self._limit = limit
        self._charge = charge
        self._entries: deque[LedgerEntry] = deque()
        self._comparisons: deque[Comparison] = deque()
        self._attempts: deque[Attempt] = deque()
        self._repeats: deque[Repeat] = deque()
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """What is not written yet."""
        return sum(map(len, self._queues))

    @property
    def _queues(self) -> tuple[deque[Any], ...]:
        return self._entries, self._comparisons, self._attempts, self._repeats

    def entry(self, entry: LedgerEntry) -> None:
        """Record one routed call; a tenant's counts against its quotas, written or not."""
        if entry.tenant and self._charge is not None:
            self._charge(entry)
        if len(self._entries) >= self._limit:
            self.dropped_entries += 1
        else:
            self._entries.append(entry)

    def comparison(self, comparison: Comparison) -> None:
        """Record one comparison."""
        if len(self._comparisons) >= self._limit:
            self.dropped_comparisons += 1
        else:
            self._comparisons.append(comparison)

    def attempt(self, attempt: Attempt) -> None:
        """Record one run of a specialist."""
        if len(self._attempts) >= self._limit:
            self.dropped_attempts += 1
        else:
            self._attempts.append(attempt)

    def repeat(self, repeat: Repeat) -> None:
        """Record the upstream beside itself; what does not fit counts as a comparison dropped."""
        if len(self._repeats) >= self._limit:
            self.dropped_comparisons += 1
        else:
            self._repeats.append(repeat)

    async def run(self) -> None:
        """Write batches until cancelled, then what is left."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                await self.write()
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(LAST_WRITE):
                    await self.write()
            except TimeoutError:
                self.problem = f"{self.waiting} entries were not written in time"
            raise

    async def write(self) -> bool:
        """Write what waits now, not what arrives meanwhile; returns whether it worked."""
        async with self._writing:
            longest = max(map(len, self._queues))
            for _ in range(0, longest, BATCH):
                batch = [list(islice(queue, BATCH)) for queue in self._queues]
                try:
                    await append(await self._store.database(), *batch)
                except StorageError as error:
                    self.problem = str(error)
                    return False
                except (OverflowError, ValueError):
                    # Something no table can hold; it must not block what comes after it.
                    entries, comparisons, attempts, repeats = map(len, batch)
                    self.dropped_entries += entries
                    self.dropped_comparisons += comparisons + repeats
                    self.dropped_attempts += attempts
                for queue, written in zip(self._queues, batch, strict=True):
                    for _ in written:
                        queue.popleft()
            self.problem = ""
            return True
