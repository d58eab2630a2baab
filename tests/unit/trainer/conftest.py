"""Small invented tasks with answers that follow from the request."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import pytest

from hermes_apprentice.domain.dataset import Example, Split

TOWNS = ("Aldmere", "Bronnholm", "Castelvar", "Dunwick", "Esterby", "Falkrona", "Grimsund")
GUESTS = ("Ida", "Mehmet", "Zoë", "Łukasz", "Nneka", "Søren", "Yuki", "Ömer")
WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


@pytest.fixture(scope="session")
def make_examples() -> Callable[[Sequence[tuple[str, str]]], list[Example]]:
    """Examples from requests and answers, each a group of its own."""

    def make(rows: Sequence[tuple[str, str]]) -> list[Example]:
        return [
            Example(
                example_id=f"ex-{number}",
                group=f"g{number}",
                split=Split.TRAIN,
                request=request,
                answer=answer,
                asked_at=float(number),
            )
            for number, (request, answer) in enumerate(rows)
        ]

    return make


@pytest.fixture(scope="session")
def bookings() -> list[tuple[str, str]]:
    """Requests for rooms with their JSON: spans, a number, a choice, a constant, missing keys."""
    rng = random.Random(4)
    rows = []
    for _ in range(90):
        town, guest, nights = rng.choice(TOWNS), rng.choice(GUESTS), rng.choice(list(WORDS))
        spoken = WORDS[nights] if rng.random() < 0.4 else str(nights)
        late = rng.random() < 0.4
        named = rng.random() < 0.6
        parts = [
            rng.choice(("Room in {t} for {n} nights.", "I need {n} nights in {t}!")).format(
                t=town, n=spoken
            )
        ]
        if named:
            parts.append(rng.choice(("It is for {g}.", "Guest: {g}")).format(g=guest))
        if late:
            parts.append(rng.choice(("We arrive after midnight.", "Arrival will be very late.")))
        answer = {
            "town": town.upper(),
            "nights": nights,
            "guest": guest if named else None,
            "late": late,
            "kind": "room",
        }
        rows.append((" ".join(parts), json.dumps(answer, ensure_ascii=False, indent=1)))
    return rows


@pytest.fixture(scope="session")
def tickets() -> list[tuple[str, str]]:
    """Tickets with one of three labels."""
    rng = random.Random(6)
    matters = {
        "Bug": ("the app crashes", "it shows an error", "the screen stays black"),
        "Billing": ("the invoice is wrong", "you charged me twice", "refund my payment"),
        "Praise": ("great work", "I love the product", "thank you so much"),
    }
    rows = []
    for _ in range(60):
        label = rng.choice(list(matters))
        rows.append((f"{rng.choice(matters[label])} {rng.choice(('today', 'again', '!'))}", label))
    return rows
