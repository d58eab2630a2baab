"""Writes support tickets together with the one label that is right for each.

A ticket is put together from an opening, a sentence that states the matter,
one or two that add to it, and an ending. Only the matter decides the label:
invoices, parcels, logins and thanks are mentioned under other labels, too.
"""

from __future__ import annotations

import random
from types import MappingProxyType

from hermes_apprentice.demo.phrasing import names
from hermes_apprentice.demo.phrasing import ticket_business as business
from hermes_apprentice.demo.phrasing import ticket_frames as frames
from hermes_apprentice.demo.phrasing import ticket_trouble as trouble
from hermes_apprentice.demo.request import DemoRequest

PHRASES = MappingProxyType(
    {
        "billing": business.BILLING,
        "bug": trouble.BUG,
        "outage": trouble.OUTAGE,
        "feature-request": business.FEATURE_REQUEST,
        "account-access": trouble.ACCOUNT_ACCESS,
        "shipping": business.SHIPPING,
        "praise": business.PRAISE,
    }
)
"""Per label, the sentences that state the matter and those that may follow."""

LABELS = tuple(PHRASES)
"""The closed set of answers."""


def write_ticket(rng: random.Random, label: str) -> DemoRequest:
    """Write a ticket of ``label``, together with the request to label it."""
    ticket = write_ticket_text(rng, label)
    if rng.random() < 0.2:
        request = f"{ticket}\n\n{rng.choice(frames.INSTRUCTIONS_AFTER)}"
    else:
        request = f"{rng.choice(frames.INSTRUCTIONS_BEFORE)}{rng.choice(frames.FENCES)}{ticket}"
    return DemoRequest(task="ticket", request=request, answer=label)


def write_ticket_text(rng: random.Random, label: str) -> str:
    """Write a ticket of ``label`` without any instruction."""
    matters, details = PHRASES[label]
    slots = _slots(rng)
    sentences = [rng.choice(matters), *rng.sample(details, k=rng.choice((1, 1, 2)))]
    parts = [rng.choice(frames.OPENINGS), *sentences, rng.choice(frames.ENDINGS)]
    filled = (part.format(**slots) for part in parts if part)
    return rng.choice((" ", " ", "\n")).join(text[0].upper() + text[1:] for text in filled)


def _slots(rng: random.Random) -> dict[str, str]:
    price = f"{rng.randint(9, 900)}.{rng.randint(10, 99)}"
    return {
        "area": rng.choice(frames.AREAS),
        "device": rng.choice(frames.DEVICES),
        "people": rng.choice(frames.PEOPLE),
        "browser": rng.choice(frames.BROWSERS),
        "plan": rng.choice(frames.PLANS),
        "first": rng.choice(names.FIRST_NAMES),
        "last": rng.choice(names.LAST_NAMES),
        "firm": f"{rng.choice(names.FIRM_ROOTS)} {rng.choice(names.FIRM_TRADES)}",
        "town": rng.choice(names.TOWNS),
        "street": rng.choice(names.STREETS),
        "house": str(rng.randint(1, 180)),
        "weekday": rng.choice(names.WEEKDAYS),
        "month": rng.choice(names.MONTHS),
        "date": f"{rng.randint(1, 28)} {rng.choice(names.MONTHS)}",
        "hour": f"{rng.randint(6, 17)}:{rng.choice(('00', '10', '25', '40'))}",
        "n": str(rng.randint(3, 95)),
        "price": rng.choice((f"{price} EUR", f"${price}")),
        "inv": f"INV-{rng.randint(1000, 9999)}",
        "track": f"{rng.choice('JRT')}{rng.randint(10**9, 10**10 - 1)}",
    }
