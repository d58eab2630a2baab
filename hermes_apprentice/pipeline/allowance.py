"""The operator's side of the budget: a person raises it, and is told when it runs low.

Knows nothing about what is paid for.
"""

from __future__ import annotations

from hermes_apprentice.approvals import desk, messages
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.ledger.budget import budget
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.spending import Raise, add_raise

AGENT = "agent"
"""Hermes' agent, which reads texts that anybody may have written."""


def raise_ceiling(shop: Workshop, amount: int, who: str) -> str:
    """Raise this month's ceiling, and return what to tell them.

    Money is stricter than the other decisions: the agent never raises it, not even where
    it is listed as a decider, and an empty list leaves it to the CLI alone.

    Args:
        shop: Settings, database and clock.
        amount: By how much, micro-dollars.
        who: ``cli``, or a platform and its user id.

    Raises:
        ReplyError: They may not, or the amount is nothing.
        StorageError: The database cannot be written.
    """
    if who == AGENT:
        raise ReplyError("The agent never raises the budget; reply yourself: budget increase 10")
    deciders = shop.settings.approvals.deciders
    if who != "cli" and not deciders:
        raise ReplyError(
            f'{who} may not raise the budget. To allow it, add "{who}" to approvals.deciders in '
            "Apprentice's settings.toml, or use: apprentice reply 'budget increase 10'"
        )
    desk.require_decider(deciders, who, "about the budget")
    if amount <= 0:
        raise ReplyError("By how much? An amount above 0, in dollars: budget increase 10")
    now = shop.clock()
    with shop.database.transaction() as connection:
        add_raise(connection, Raise(at=now, amount=amount, who=who))
        month = budget(shop.database, shop.settings.budget, now)
    return messages.budget_raised(month.month, amount, month.ceiling, month.spent, who)


def tell_reached(shop: Workshop) -> bool:
    """Tell the operator the highest alert that is due, once per month; returns whether it is new.

    A jump over several alerts is one message: the highest says it all.

    Raises:
        StorageError: The database cannot be read or written.
    """
    now = shop.clock()
    with shop.database.transaction() as connection:
        month = budget(shop.database, shop.settings.budget, now)
        if not month.reached:
            return False
        key = f"budget:{month.month}:{month.reached[-1]:.0%}"
        text = messages.budget_alert(
            month.month,
            month.spent,
            month.ceiling,
            may_start=month.may_start,
            may_go_on=month.may_go_on,
        )
        return add_message(connection, "budget", key, text, now)
