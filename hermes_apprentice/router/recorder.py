"""Write the ledger and the comparisons without ever making a request wait.

A request appends to a list in memory, and its call to a file that outlives the
process; a task of its own writes batches. While the database cannot be written the
list grows up to a limit, and what comes after that is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from hermes_apprentice.domain.accounting import Attempt, Comparison, LedgerEntry, Repeat
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.store import Store
from hermes_apprentice.storage.ledger import append
from hermes_apprentice.storage.spool import Place, Spool

LIMIT = 20_000
"""Entries, and as many comparisons and attempts, that wait at most."""

BATCH = 1_000
"""Entries written in one transaction."""

INTERVAL = 0.25
"""Seconds between two writes."""

RETRY_SECONDS = 5.0
"""Between two tries to take over what an earlier run left behind."""

LAST_WRITE = 3.0
"""Seconds to write what is left when the sidecar stops."""

_log = logging.getLogger(__name__)


class Recorder:
    """Collects what happened and writes it in batches."""

    def __init__(
        self,
        store: Store,
        limit: int = LIMIT,
        charge: Callable[[LedgerEntry], None] | None = None,
        spool: Spool | None = None,
    ) -> None:
        """Take what is needed.

        Args:
            store: The database.
            limit: Entries that wait at most.
            charge: Told of every tenant's call.
            spool: Keeps calls through a kill until they are written.
        """
        self.dropped_entries = 0
        self.dropped_comparisons = 0
        self.dropped_attempts = 0
        self.problem = ""
        self._store = store
        self._limit = limit
        self._charge = charge
        self._spool = spool
        self.recovered = 0
        """Calls of earlier runs that were put into the ledger."""
        self._entries: deque[tuple[LedgerEntry, Place | None]] = deque()
        self._comparisons: deque[Comparison] = deque()
        self._attempts: deque[Attempt] = deque()
        self._repeats: deque[Repeat] = deque()
        self._writing = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """What is not written yet."""
        return sum(map(len, self._queues))

    @property
    def problems(self) -> dict[str, str]:
        """What does not work now, by part."""
        spool = self._spool
        found = {
            "ledger": self.problem,
            "spool": spool.problem if spool is not None else "",
            "spool.left": spool.left_alone if spool is not None else "",
        }
        return {name: text for name, text in found.items() if text}

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
            place = self._spool.add(entry) if self._spool is not None else None
            self._entries.append((entry, place))

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
        taking_over = asyncio.create_task(self._take_over(), name="apprentice-spool")
        writing: asyncio.Task[bool] | None = None
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                # Cut off in its commit, nobody would know whether a batch is in the ledger.
                writing = asyncio.create_task(self.write())
                await asyncio.shield(writing)
                if self._spool is not None:
                    self._spool.tend()
        except asyncio.CancelledError:
            await self._last_write(writing)
            raise
        finally:
            taking_over.cancel()
            await asyncio.wait({taking_over})

    async def _last_write(self, writing: asyncio.Task[bool] | None) -> None:
        under_way = {writing} if writing is not None else set()
        try:
            async with asyncio.timeout(LAST_WRITE):
                if under_way:
                    await asyncio.wait(under_way)
                await self.write()
        except TimeoutError:
            self.problem = f"{self.waiting} entries were not written in time"
            for task in under_way:
                task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        if self._spool is not None:
            self._spool.close()

    async def _take_over(self) -> None:
        """Put what earlier runs left behind into the ledger, as soon as it can be written."""
        while self._spool is not None:
            try:
                self.recovered += await self._spool.take_over(await self._store.database())
            except (StorageError, OSError) as error:
                _log.warning("what an earlier run left behind waits: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if self.recovered:
                    _log.info("%d calls of an earlier run are in the ledger now", self.recovered)
                return

    async def write(self) -> bool:
        """Write what waits now, not what arrives meanwhile; returns whether it worked."""
        async with self._writing:
            left, one_by_one = max(map(len, self._queues)), 0
            while left > 0:
                size = 1 if one_by_one else BATCH
                batch = [list(islice(queue, size)) for queue in self._queues]
                try:
                    await self._append(*batch)
                except StorageError as error:
                    self.problem = str(error)
                    return False
                except (OverflowError, ValueError):
                    # Something no table can hold; it must block neither what came with it nor
                    # what comes after it.
                    if size > 1:
                        one_by_one = BATCH
                        continue
                    entries, comparisons, attempts, repeats = map(len, batch)
                    self.dropped_entries += entries
                    self.dropped_comparisons += comparisons + repeats
                    self.dropped_attempts += attempts
                for queue, written in zip(self._queues, batch, strict=True):
                    for _ in written:
                        queue.popleft()
                left, one_by_one = left - size, max(0, one_by_one - 1)
            self.problem = ""
            return True

    async def _append(
        self,
        entries: list[tuple[LedgerEntry, Place | None]],
        comparisons: list[Comparison],
        attempts: list[Attempt],
        repeats: list[Repeat],
    ) -> None:
        database, spool = await self._store.database(), self._spool
        calls = [entry for entry, _ in entries]
        if spool is None:
            await append(database, calls, comparisons, attempts, repeats)
            return
        places = [place for _, place in entries]
        forget = spool.forgettable()
        await append(
            database,
            calls,
            comparisons,
            attempts,
            repeats,
            marks=spool.marks(places),
            forget=forget,
        )
        spool.written(places)
