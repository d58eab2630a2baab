"""Deliver the waiting messages: at least once, in order within a topic, by one deliverer at a time.

There are two deliverers: a live gateway (the courier, which can attach buttons)
and Hermes' scheduler, which prints. While a courier is at work the scheduler
leaves it the messages, except those that it failed to get rid of. Knows nothing
about platforms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import NamedTuple

from hermes_apprentice.approvals.plain_text import fitting
from hermes_apprentice.errors import DeliveryError
from hermes_apprentice.storage.approvals import (
    Claimed,
    claim_next,
    courier_seen,
    mark_delivered,
    mark_failed,
    show_courier,
)
from hermes_apprentice.storage.database import Database

LEASE = 60.0
"""Seconds that one deliverer holds a message; a killed one holds it no longer."""

COURIER_ALIVE = 30.0
"""Seconds for which a courier counts as being at work after it was last seen."""

OVERDUE = 600.0
"""Seconds after which a message is anybody's, whether a courier is at work or not."""

SENT_AGAIN = "(Sent again: the first attempt may have reached you.)\n"
"""Opens a message that may be a duplicate."""


class Delivery(NamedTuple):
    """What became of the waiting messages."""

    delivered: int
    """Sent and recorded as sent."""

    failed: int
    """Still waiting."""


def deliver(
    database: Database, send: Callable[[str, str], None], now: float, limit: int = 50
) -> Delivery:
    """Send the waiting messages, oldest first, unless a courier does.

    Args:
        database: Where the outbox is.
        send: Takes the idempotency key and the text; raises ``DeliveryError``.
        now: Unix time.
        limit: Most messages of one call.
    """
    delivered = failed = 0
    blocked: set[str] = set()
    while delivered + failed < limit:
        claimed = take(database, "scheduler", now, without=blocked)
        if claimed is None:
            break
        message = claimed.message
        try:
            send(message.key, worded(claimed))
        except DeliveryError as error:
            blocked.add(message.topic)
            failed += 1
            with database.transaction() as connection:
                mark_failed(connection, message.message_id, str(error))
            continue
        with database.transaction() as connection:
            mark_delivered(connection, message.message_id, now)
        delivered += 1
    return Delivery(delivered, failed)


def take(
    database: Database,
    holder: str,
    now: float,
    *,
    courier: bool = False,
    without: Collection[str] = (),
) -> Claimed | None:
    """Take the next message to send, for ``LEASE`` seconds; ``None`` when there is none.

    Args:
        database: Where the outbox is.
        holder: Who takes it; for a courier, its name.
        now: Unix time.
        courier: Whether this is a live gateway; it is then recorded as being at work.
        without: Topics to leave alone.
    """
    with database.transaction() as connection:
        if courier:
            show_courier(connection, holder, now)
        yields = not courier and courier_seen(connection, now - COURIER_ALIVE)
        return claim_next(
            connection,
            holder,
            now,
            lease=LEASE,
            written_before=now - OVERDUE if yields else math.inf,
            without=without,
        )


def worded(claimed: Claimed) -> str:
    """Return the text to send, fit for every platform: one that may be a duplicate says so."""
    text = fitting(claimed.message.text)
    return SENT_AGAIN + text if claimed.again else text


def pause_after(attempts: int) -> float:
    """Return the seconds to wait after a failed attempt: doubling, five minutes at most."""
    return float(min(5 * 2 ** min(attempts, 6), 300))
