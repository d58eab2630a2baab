"""Exchanges with their vectors, read for one look.

Knows nothing about how patterns are found or described.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hermes_apprentice.detector.maturity import Prices
from hermes_apprentice.detector.merging import Corpus, Group
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.settings import DetectorSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.patterns import StoredPattern

MAX_SAMPLE = 2_000
"""Newest members that a settled pattern is described by."""


class View(NamedTuple):
    """What a look needs to know."""

    database: Database
    """Where exchanges and patterns are stored."""

    embedder: str
    """Digest of the embedder."""

    fresh: Mapping[str, FloatArray]
    """Vectors that are not stored, by exchange id."""

    settings: DetectorSettings
    """When requests count as a pattern."""

    prices: Prices
    """What a call costs."""

    now: float
    """Unix time."""


class Batch(NamedTuple):
    """Some exchanges and their vectors."""

    exchanges: list[Exchange]
    """In the order asked for."""

    corpus: Corpus
    """The same, row by row."""


class Settled(NamedTuple):
    """A pattern whose members stay with it."""

    stored: StoredPattern
    """The pattern, its centre in the space of the present embedder."""

    sample: Batch
    """Its newest members."""

    size: int
    """All its members."""


def load(view: View, exchange_ids: Sequence[str]) -> Batch:
    """Read exchanges; those without a vector are left out."""
    store = ExchangeStore(view.database)
    stored = store.embeddings(view.embedder, exchange_ids)
    vectors = dict(zip(stored.exchange_ids, stored.vectors, strict=True))
    vectors |= {key: view.fresh[key] for key in exchange_ids if key in view.fresh}
    exchanges = [one for one in store.by_ids(exchange_ids) if one.exchange_id in vectors]
    rows = [vectors[one.exchange_id] for one in exchanges]
    corpus = Corpus(
        np.stack(rows) if rows else np.zeros((0, 1), dtype=np.float32),
        [one.request for one in exchanges],
        [one.answer for one in exchanges],
    )
    return Batch(exchanges, corpus)


def load_settled(view: View, stored: StoredPattern, members: list[str]) -> Settled:
    """Read the newest members of a pattern, and place it anew if the embedder changed."""
    sample = load(view, members[-MAX_SAMPLE:])
    if stored.embedder != view.embedder and sample.exchanges:
        # The centre lies in the space of another embedder, where nothing can be compared.
        group = Group(sample.corpus, np.arange(len(sample.exchanges)))
        stored = replace(stored, embedder=view.embedder, centre=group.centre, radius=group.radius)
    return Settled(stored, sample, len(members))


def joined(*parts: Corpus) -> Corpus:
    """Return the rows of all parts, in order; at least one must have rows."""
    filled = [part for part in parts if part.requests]
    return Corpus(
        np.concatenate([part.embeddings for part in filled]),
        [text for part in filled for text in part.requests],
        [text for part in filled for text in part.answers],
    )
