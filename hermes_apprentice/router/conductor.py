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
from hermes_apprentice.ledger.agreement import self_agreement_in_words
from hermes_apprentice.router.guards import SETTLED, Conduct, alarm, conduct
from hermes_apprentice.router.rollout import (
    Progress,
    audit_share,
    next_rollout,
    notice_of,
    progress,
)
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.storage.conduct import (
    ATTEMPTS,
    Attempted,
    Reception,
    SelfAgreement,
    read_attempts,
    read_reception,
    read_self_agreement,
)
from hermes_apprentice.storage.rollouts import HISTORY, Seen, change_rollout, read_history

INTERVAL = 1.0
"""Seconds between two looks."""

RECEPTION_INTERVAL = 30.0
"""Seconds between two looks at what users turned down."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that is known about how a version does, to be shown."""

    target: float
    """Agreement that is to be shown, 0 to 1."""

    progress: Progress
    """What its comparisons say."""

    conduct: Conduct
    """What its runs and its users say."""

    audit_share: float
    """Share of its answers that are audited now, 0 to 1."""

    self_agreement: SelfAgreement | None
    """How often the upstream agrees with itself on such requests, where that was measured. It
    never moves the target."""

    def in_words(self) -> list[str]:
        """Return a line or two for a person."""
        seen = self.progress
        return [
            f"{seen.agreed} of {seen.compared} compared answers equal the upstream's; "
            f"the target is {self.target:.0%}.",
            self_agreement_in_words(self.self_agreement, self.target),
        ]


@dataclass(slots=True)
class _Account:
    version: int
    judged_from: float
    seen: list[Seen] = field(default_factory=list)
    attempts: list[Attempted] = field(default_factory=list)
    reception: Reception = field(default_factory=Reception)
    reception_at: float = float("-inf")
    self_agreement: SelfAgreement | None = None
    judged: tuple[object, ...] = ()
    progress: Progress | None = None
    conduct: Conduct = field(default_factory=Conduct)

    @property
    def last_seen(self) -> int:
        return self.seen[-1].comparison_id if self.seen else 0

    @property
    def last_attempt(self) -> int:
        return self.attempts[-1].attempt_id if self.attempts else 0


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

    async def look(self, rollout: Rollout) -> None:
        """Read what is known about a specialist, and take no step.

        Raises:
            StorageError: The database cannot be read.
        """
        await self._read(rollout)

    def progress_of(self, slug: str) -> Progress | None:
        """Return what the comparisons of a specialist said last time."""
        account = self._accounts.get(slug)
        return account.progress if account is not None else None

    def standing_of(self, slug: str) -> Standing | None:
        """Return all that was known about a specialist last time."""
        account = self._accounts.get(slug)
        rollout = self._specialists.now.rollouts.get(slug)
        if account is None or account.progress is None or rollout is None:
            return None
        return Standing(
            target=self._settings.target_agreement,
            progress=account.progress,
            conduct=account.conduct,
            audit_share=self.audit_share(rollout),
            self_agreement=account.self_agreement,
        )

    def audit_share(self, rollout: Rollout) -> float:
        """Return the share of a specialist's answers that are audited now."""
        account = self._accounts.get(rollout.slug)
        known = account is not None and account.version == rollout.version
        return audit_share(rollout, account.progress if account and known else None, self._settings)

    async def _read(self, rollout: Rollout) -> _Account:
        account = self._accounts.get(rollout.slug)
        wanted = (rollout.version, rollout.judged_from)
        if account is None or (account.version, account.judged_from) != wanted:
            account = self._accounts[rollout.slug] = _Account(*wanted)
        name, since, now = (rollout.slug, rollout.version), rollout.judged_from, self._clock()
        database = await self._store.database()
        account.seen += await read_history(database, *name, account.last_seen, since)
        del account.seen[:-HISTORY]
        account.attempts += await read_attempts(database, *name, account.last_attempt, since)
        del account.attempts[:-ATTEMPTS]
        if not 0 <= now - account.reception_at < RECEPTION_INTERVAL:
            account.reception = await read_reception(database, *name, since, now - SETTLED)
            account.self_agreement = await read_self_agreement(database, rollout.slug)
            account.reception_at = now
        state = (rollout, account.last_seen, account.last_attempt, account.reception)
        if account.progress is None or account.judged != state:
            account.progress, account.conduct = await asyncio.to_thread(
                lambda: (
                    progress(rollout, account.seen, self._settings),
                    conduct(account.attempts, account.reception, self._timed(rollout)),
                )
            )
            account.judged = state
        return account

    def _timed(self, rollout: Rollout) -> RolloutSettings:
        """Return the settings with the deadline of this specialist's kind."""
        found = self._specialists.now.find(rollout.slug)
        if found is None or found[0].deadline is None:
            return self._settings
        return self._settings.model_copy(update={"deadline_seconds": found[0].deadline})

    async def _judge(self, rollout: Rollout) -> bool:
        account = await self._read(rollout)
        assert account.progress is not None
        now = self._clock()
        against = alarm(account.conduct, self._timed(rollout))
        after = next_rollout(rollout, account.progress, self._settings, now, against)
        if after is None:
            return False
        database = await self._store.database()
        moved = await change_rollout(database, rollout, after, notice_of(rollout, after), now)
        if moved:
            _log.info("%s: %s at %.0f%%", after.slug, after.stage, 100 * after.share)
        return moved
