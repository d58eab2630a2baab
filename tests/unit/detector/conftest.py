from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.testing import FakeEmbedder

TOWNS = ("Linz", "Graz", "Wels", "Krems", "Steyr", "Villach", "Bregenz", "Lustenau", "Traun")
WORDS = (
    "acorn bicycle candle desert engine feather glacier hammer island jungle kettle lemon "
    "marble needle orchid pepper quartz ribbon saddle timber umbrella velvet walnut yoghurt zinc "
    "anchor barrel copper dragon eagle forest garlic harbour insect jacket"
).split()


@pytest.fixture
def word_embedder() -> FakeEmbedder:
    """Texts that share words are close."""
    return FakeEmbedder(96)


@pytest.fixture
def fill(
    database: Database, make_exchange: Callable[..., Exchange]
) -> Callable[..., list[Exchange]]:
    """Put pairs of request and answer into the database, a minute apart."""
    written = 0

    def put(pairs: Sequence[tuple[str, str]], **changes: Any) -> list[Exchange]:
        nonlocal written
        exchanges = []
        for request, answer in pairs:
            written += 1
            at = 1_780_000_000.0 + 60 * written
            values = {"session_id": f"s{written}", "asked_at": at, "answered_at": at + 1}
            exchanges.append(make_exchange(request, answer, **(values | changes)))
        ExchangeStore(database).upsert(
            [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in exchanges], at
        )
        return exchanges

    return put


@pytest.fixture
def orders() -> Callable[..., list[tuple[str, str]]]:
    """Orders to be read: one task, many subjects."""

    def make(count: int, seed: int = 0) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        pairs = []
        for _ in range(count):
            item, town, number = rng.choice(WORDS), rng.choice(TOWNS), rng.randint(2, 99)
            pairs.append(
                (
                    f"extract order as json please : send {number} {item} to {town}",
                    f'{{"item": "{item}", "count": {number}, "town": "{town}"}}',
                )
            )
        return pairs

    return make


@pytest.fixture
def moods() -> Callable[..., list[tuple[str, str]]]:
    """Remarks to be labelled."""

    def make(count: int, seed: int = 0) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        said = {"good": "lovely", "bad": "awful", "neutral": "average"}
        pairs = []
        for _ in range(count):
            label = rng.choice(list(said))
            text = f"what mood has this remark one word : the {rng.choice(WORDS)} was {said[label]}"
            pairs.append((text, label))
        return pairs

    return make


@pytest.fixture
def chats() -> Callable[..., list[tuple[str, str]]]:
    """One-off questions that have little in common."""

    def make(count: int, seed: int = 0) -> list[tuple[str, str]]:
        rng = random.Random(seed)
        return [
            (
                " ".join(f"{rng.choice(WORDS)}{rng.randint(0, 9)}" for _ in range(8)),
                " ".join(rng.choices(WORDS, k=rng.randint(12, 40))),
            )
            for _ in range(count)
        ]

    return make
