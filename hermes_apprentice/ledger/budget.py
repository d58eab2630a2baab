"""How much of this month's ceiling for paid training is spent.

A month is a calendar month in UTC. Ordinary requests to the upstream are the
operator's own and do not count; only what Apprentice itself spends does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from hermes_apprentice.domain.money import MICRO
from hermes_apprentice.settings import BudgetSettings
from hermes_apprentice.storage.database import Database

ALERTS = (0.80, 0.95, 1.0)
"""Shares of the ceiling at which the operator is told."""

NO_NEW_RUN = 0.95
"""Share from which no new paid run starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One month; amounts in micro-dollars."""

    month: str
    """``YYYY-MM``."""

    ceiling: int
    """What may be spent; 0 means that nothing is paid for."""

    spent: int
    """What was spent so far."""

    @property
    def left(self) -> int:
        """What is left, never below 0."""
        return max(0, self.ceiling - self.spent)

    @property
    def used(self) -> float:
        """Share of the ceiling that is spent; 1 where nothing may be."""
        return self.spent / self.ceiling if self.ceiling else 1.0

    @property
    def may_start(self) -> bool:
        """Whether a new paid run may start."""
        return self.ceiling > 0 and self.used < NO_NEW_RUN

    @property
    def reached(self) -> tuple[float, ...]:
        """The alerts that are due, lowest first; none where nothing may be spent."""
        return tuple(share for share in ALERTS if self.ceiling and self.used >= share)


def budget(database: Database, settings: BudgetSettings, now: float) -> Budget:
    """Return the budget of the month that ``now`` (Unix time) lies in.

    Raises:
        StorageError: The database cannot be read.
    """
    start = datetime.fromtimestamp(now, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    rows = database.read(
        "SELECT COALESCE(SUM(amount), 0) AS amount FROM spending WHERE at >= ?",
        (start.timestamp(),),
    )
    return Budget(
        month=start.strftime("%Y-%m"),
        ceiling=round(settings.monthly_dollars * MICRO),
        spent=int(rows[0]["amount"]),
    )
