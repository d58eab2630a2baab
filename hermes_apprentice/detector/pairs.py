"""Two patterns seen as one: do task and shape agree, and what would the whole be?

Reads, never writes. Knows nothing about specialists or about who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hermes_apprentice.detector.batches import MAX_SAMPLE, View, joined, load
from hermes_apprentice.detector.clustering import Labels
from hermes_apprentice.detector.description import described
from hermes_apprentice.detector.merging import MERGE_COSINE, Corpus, Group, united
from hermes_apprentice.detector.naming import name
from hermes_apprentice.domain.pattern import Pattern
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import fits
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.storage.patterns import StoredPattern


class Part(NamedTuple):
    """One of the two patterns."""

    stored: StoredPattern
    """The pattern and its place."""

    members: Sequence[str]
    """Its exchanges, oldest first."""


class Pair(NamedTuple):
    """Two patterns as one."""

    stored: StoredPattern
    """The whole, with its place."""

    cosine: float
    """Cosine of the two centres."""

    fits: tuple[float, float]
    """Share of each part's answers that fit the shape of the whole, 0 to 1."""

    alike: bool
    """Whether the detector would have made one pattern of them."""


def pair_up(
    view: View, left: Part, right: Part, pattern_id: str, taken: set[str], known: Pattern | None
) -> Pair:
    """Look at two patterns as one.

    Args:
        view: What a look needs to know; its embedder is the one that both were placed by.
        left: One pattern.
        right: The other.
        pattern_id: Of the whole.
        taken: Slugs in use.
        known: The whole as it was called before, if it was.

    Raises:
        ReplyError: One of them has no exchanges that can be looked at.
    """
    batches = [load(view, part.members[-MAX_SAMPLE:]) for part in (left, right)]
    for part, batch in zip((left, right), batches, strict=True):
        if not batch.exchanges:
            raise ReplyError(
                f"'{part.stored.pattern.slug}' has no exchanges to look at; "
                "run 'apprentice detect' first."
            )
    corpus = joined(*(batch.corpus for batch in batches))
    first = len(batches[0].exchanges)
    groups = [
        Group(corpus, np.arange(first)),
        Group(corpus, np.arange(first, len(corpus.requests))),
    ]
    whole = Group(corpus, np.arange(len(corpus.requests)))
    exchanges = [one for batch in batches for one in batch.exchanges]
    if known is None:
        parts = (left.stored.pattern, right.stored.pattern)
        called = name(
            corpus.requests,
            [],
            taken=taken,
            mark=pattern_id[3:7],
            avoid=whole.shape.labels,
        )
        known = replace(
            parts[0],
            pattern_id=pattern_id,
            slug=called.slug,
            label=called.label,
            first_seen=min(part.first_seen for part in parts),
            last_seen=max(part.last_seen for part in parts),
        )
    size = len(left.members) + len(right.members)
    pattern = described(view, whole, exchanges, known, size)
    cosine = float(groups[0].centre @ groups[1].centre)
    runs = max(one.stored.pattern.runs_stable for one in (left, right))
    return Pair(
        stored=StoredPattern(
            pattern=replace(pattern, runs_stable=runs),
            embedder=view.embedder,
            centre=whole.centre,
            radius=whole.radius,
        ),
        cosine=cosine,
        fits=(
            _share(whole.shape, corpus, groups[0].rows),
            _share(whole.shape, corpus, groups[1].rows),
        ),
        alike=left.stored.pattern.kind is right.stored.pattern.kind
        and cosine >= MERGE_COSINE
        and united(groups[0], groups[1]) is not None,
    )


def _share(shape: Shape, corpus: Corpus, rows: Labels) -> float:
    return sum(fits(shape, corpus.answers[row]) for row in rows.tolist()) / max(1, len(rows))
