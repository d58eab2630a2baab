"""Describe groups of requests as patterns.

Knows nothing about how the groups were found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hermes_apprentice.detector.batches import MAX_SAMPLE, Batch, Settled, View, joined
from hermes_apprentice.detector.clustering import Labels
from hermes_apprentice.detector.maturity import first_asked, forecast, mean_cost, usual_turn
from hermes_apprentice.detector.merging import Group
from hermes_apprentice.detector.naming import name
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Pattern
from hermes_apprentice.domain.shape import kind_for
from hermes_apprentice.storage.patterns import StoredPattern

MAX_OTHERS = 2_000
"""Requests of other kinds that a name is chosen against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A pattern as it is seen now."""

    stored: StoredPattern
    """The pattern and its place, ready to be saved."""

    members: tuple[tuple[str, float], ...]
    """Exchange ids and cosines: of a settled pattern those that are new, of another all."""

    known: bool
    """Whether it was stored before."""

    settled: bool
    """Whether its members stay with it."""

    @property
    def pattern(self) -> Pattern:
        """The pattern."""
        return self.stored.pattern


def settled_finding(
    view: View, one: Settled, pool: Batch, rows: Labels, regrouped: bool
) -> Finding:
    """Describe a settled pattern; from its members only where they changed."""
    stored, old = one.stored, one.stored.pattern
    size = one.size + len(rows)
    new = [pool.exchanges[row] for row in rows.tolist()]
    if size and size != old.size:
        offset = len(one.sample.exchanges)
        group = Group(
            joined(one.sample.corpus, pool.corpus),
            np.concatenate([np.arange(offset), offset + rows]),
        )
        if regrouped:
            stored = replace(stored, centre=group.centre, radius=group.radius)
        pattern = described(view, group, [*one.sample.exchanges, *new], old, size)
    else:
        cost = old.forecast.cost_per_request if old.forecast.priced else None
        expected = forecast(size, old.first_seen, cost, view.settings.coverage_assumed, view.now)
        pattern = replace(old, size=size, forecast=expected)
    cosines = (float(pool.corpus.embeddings[row] @ stored.centre) for row in rows.tolist())
    return Finding(
        stored=replace(stored, pattern=replace(pattern, runs_stable=old.runs_stable + 1)),
        members=tuple(zip((item.exchange_id for item in new), cosines, strict=True)),
        known=True,
        settled=True,
    )


def group_finding(
    view: View,
    group: Group,
    pool: Batch,
    old: Pattern | None,
    taken: set[str],
    ids: set[str],
) -> Finding:
    """Describe a group as a new pattern, or as the unsettled pattern ``old``.

    Args:
        view: What a look needs to know.
        group: The group, its rows pointing into ``pool``.
        pool: The exchanges that are looked at.
        old: The pattern that the group is, if it is known.
        taken: Slugs in use.
        ids: Pattern ids in use.
    """
    exchanges = [pool.exchanges[row] for row in group.rows.tolist()]
    if old is None:
        pattern_id = _new_id(exchanges, ids)
        inside = set(group.rows.tolist())
        others = [text for row, text in enumerate(pool.corpus.requests) if row not in inside]
        called = name(
            [one.request for one in exchanges[-MAX_SAMPLE:]],
            others[-MAX_OTHERS:],
            taken=taken,
            mark=pattern_id[3:7],
            avoid=group.shape.labels,
        )
        old = Pattern(
            pattern_id=pattern_id,
            slug=called.slug,
            label=called.label,
            size=0,
            tightness=0.0,
            shape=group.shape,
            kind=kind_for(group.shape),
            runs_stable=0,
            first_seen=first_asked(exchanges, view.now),
            last_seen=0.0,
            max_turn_index=0,
            forecast=forecast(0, view.now, None, view.settings.coverage_assumed, view.now),
        )
    pattern = described(view, group, exchanges, old, len(exchanges))
    return Finding(
        stored=StoredPattern(
            pattern=replace(pattern, runs_stable=old.runs_stable + 1),
            embedder=view.embedder,
            centre=group.centre,
            radius=group.radius,
        ),
        members=tuple(
            (one.exchange_id, float(cosine))
            for one, cosine in zip(exchanges, group.cosines, strict=True)
        ),
        known=pattern.pattern_id in ids,
        settled=False,
    )


def described(
    view: View, group: Group, exchanges: Sequence[Exchange], old: Pattern, size: int
) -> Pattern:
    """Return a pattern as its members show it, under its old name."""
    first_seen = min(old.first_seen, first_asked(exchanges, old.first_seen))
    cost = mean_cost(exchanges, view.prices)
    return replace(
        old,
        size=size,
        tightness=float(group.cosines.mean()),
        shape=group.shape,
        kind=kind_for(group.shape),
        first_seen=first_seen,
        last_seen=max(old.last_seen, *(one.asked_at for one in exchanges)),
        max_turn_index=usual_turn(exchanges),
        forecast=forecast(size, first_seen, cost, view.settings.coverage_assumed, view.now),
    )


def _new_id(exchanges: Sequence[Exchange], ids: set[str]) -> str:
    """Return an id made from the first member; the same data give the same id."""
    number = 0
    while True:
        key = f"{exchanges[0].exchange_id}\x00{number}"
        pattern_id = "pt-" + hashlib.sha256(key.encode()).hexdigest()[:12]
        if pattern_id not in ids:
            return pattern_id
        number += 1
