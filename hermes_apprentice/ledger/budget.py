"""How much of this month's ceiling for paid training is spent, and what may still start.

A month is a calendar month in UTC. Its ceiling is the setting plus what a person
raised it by in that month. Ordinary requests to the upstream are the operator's own
and do not count; only what Apprentice itself spends does. Knows nothing about what
the money buys, and raises nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite

from hermes_apprentice.domain.money import MICRO, dollars
from hermes_apprentice.errors import ConfigError, StorageError
from hermes_apprentice.settings import BudgetSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.spending import Raise, raises_between, spent_between

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
    """What may be spent, raises included; 0 means that nothing is paid for."""

    spent: int
    """What was spent so far."""

    raises: tuple[Raise, ...] = ()
    """How the ceiling came to be above the setting, oldest first."""

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
    def may_go_on(self) -> bool:
        """Whether a paid run that has started may go on."""
        return self.spent < self.ceiling

    @property
    def reached(self) -> tuple[float, ...]:
        """The alerts that are due, lowest first; none where nothing may be spent."""
        return tuple(share for share in ALERTS if self.ceiling and self.used >= share)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetVerdict:
    """Whether a paid run may start."""

    allowed: bool
    """The answer; no whenever the budget is unknown."""

    reason: str
    """Why, in a sentence for the operator."""


def budget(database: Database, settings: BudgetSettings, now: float) -> Budget:
    """Return the budget of the month that ``now`` (Unix time) lies in.

    Raises:
        ConfigError: The ceiling is not a finite number.
        StorageError: The database cannot be read.
    """
    if not isfinite(settings.monthly_dollars):
        raise ConfigError("budget.monthly_dollars must be a finite number; 0 pays for nothing.")
    start = datetime.fromtimestamp(now, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    # The 1st and 32 days always lie in the next month, whatever its length.
    end = (start + timedelta(days=32)).replace(day=1)
    period = (start.timestamp(), end.timestamp())
    raises = tuple(raises_between(database, *period))
    return Budget(
        month=start.strftime("%Y-%m"),
        ceiling=round(settings.monthly_dollars * MICRO) + sum(one.amount for one in raises),
        spent=spent_between(database, *period),
        raises=raises,
    )


def may_start(
    database: Database, settings: BudgetSettings, now: float, estimate: int
) -> BudgetVerdict:
    """Tell whether a new paid run may start; where the budget cannot be read, it may not.

    Two runs cannot both get the last dollar if each asks, and records what it will
    spend, within one ``database.transaction()``.

    Args:
        database: Where spending and raises are recorded.
        settings: The ceiling before raises.
        now: Unix time.
        estimate: What the run is expected to cost at most, micro-dollars.
    """
    try:
        month = budget(database, settings, now)
    except (StorageError, ConfigError) as error:
        return BudgetVerdict(
            allowed=False, reason=f"Nothing paid starts, because the budget is unknown: {error}"
        )
    refusal = _refusal(month, estimate)
    return BudgetVerdict(
        allowed=not refusal,
        reason=refusal or f"{dollars(month.left)} is left in {month.month}.",
    )


def _refusal(month: Budget, estimate: int) -> str:
    """Return why a run may not start; empty where it may."""
    spent = f"{dollars(month.spent)} of {dollars(month.ceiling)} is spent in {month.month}"
    if month.ceiling <= 0:
        return "Nothing is paid for: the ceiling is $0.00 (budget.monthly_dollars)."
    if not month.may_go_on:
        return f"{spent}: nothing paid runs any more."
    if not month.may_start:
        return f"{spent}: from {NO_NEW_RUN:.0%} on no new paid run starts."
    if estimate < 0:
        return f"An estimate of {estimate} micro-dollars is below 0; nothing was started."
    if estimate > month.left:
        return f"{spent}: a run of about {dollars(estimate)} would pass the ceiling."
    return ""
