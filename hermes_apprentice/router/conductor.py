"""Move specialists along their rollout as comparisons come in.

Reads what is new about once a second, lets the pure rules decide, and writes the
step together with its message. Two sidecars on one database agree, because a
step is only taken from where both saw it. Knows nothing about requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.rollout import Progress, next_rollout, notice_of, progress
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.storage.rollouts import HISTORY, Seen, change_rollout, read_history

INTERVAL = 1.0
"""Seconds between two looks."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Account:
    version: int
    seen: list[Seen] = field(default_factory=list)
    judged: tuple[Rollout, int] | None = None
    progress: Progress | None = None


class Conductor:
    """Takes the steps."""

    def __init__(
        self,
        store: Store,
        specialists: Specialists,
        settings: RolloutSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.problem = ""
        self._store = store
        self._specialists = specialists
        self._settings = settings
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def run(self) -> None:
        """Take steps until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.step()

    async def step(self) -> bool:
        """Look at every specialist once; returns whether one of them moved."""
        moved = False
        for rollout in list(self._specialists.now.rollouts.values()):
            try:
                moved = await self._judge(rollout) or moved
            except StorageError as error:
                self.problem = str(error)
                return moved
        self.problem = ""
        if moved:
            await self._specialists.refresh()
        return moved

    def progress_of(self, slug: str) -> Progress | None:
        """Return what the comparisons of a specialist said last time."""
        account = self._accounts.get(slug)
        return account.progress if account is not None else None

    async def _judge(self, rollout: Rollout) -> bool:
        account = self._accounts.get(rollout.slug)
        if account is None or account.version != rollout.version:
            account = self._accounts[rollout.slug] = _Account(rollout.version)
        last = account.seen[-1].comparison_id if account.seen else 0
        database = await self._store.database()
        account.seen += await read_history(database, rollout.slug, rollout.version, last)
        del account.seen[:-HISTORY]
        state = (rollout, account.seen[-1].comparison_id if account.seen else 0)
        if account.progress is None or account.judged != state:
            account.progress = await asyncio.to_thread(
                progress, rollout, account.seen, self._settings
            )
            account.judged = state
        now = self._clock()
        after = next_rollout(rollout, account.progress, self._settings, now)
        if after is None:
            return False
        moved = await change_rollout(database, rollout, after, notice_of(rollout, after), now)
        if moved:
            _log.info("%s: %s at %.0f%%", after.slug, after.stage, 100 * after.share)
        return moved
