"""Whether the upstream may be asked a second time, only to see if it agrees with itself.

Costs what the request cost, and helps nobody at once. So there is a limit for
each specialist, and none is asked once this month's budget is used up, or while
it cannot be read. Knows nothing about answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hermes_apprentice.errors import ConfigError, StorageError
from hermes_apprentice.ledger.budget import budget
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.conduct import read_self_agreement
from hermes_apprentice.storage.database import Database

MOST = 100
"""Requests of one specialist that a model is asked twice; with them the bounds are some ten
points apart, and more would hardly narrow them."""


class Repeats:
    """Says yes or no."""

    def __init__(
        self, store: Store, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock

    async def allowed(self, slug: str, model: str) -> bool:
        """Whether to ask a model again on behalf of a specialist; no where that is unknown."""
        try:
            found = await read_self_agreement(await self._store.database(), slug)
            if found is not None and found.model == model and found.asked >= MOST:
                return False
            return await asyncio.to_thread(self._affordable)
        except (StorageError, ConfigError):
            return False

    def _affordable(self) -> bool:
        with Database(self._settings.database_path) as database:
            month = budget(database, self._settings.budget, self._clock())
        # A ceiling of 0 is about training; these calls are switched on by a share of their own.
        return month.ceiling == 0 or month.may_go_on
