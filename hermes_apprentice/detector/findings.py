"""One look at the stored exchanges: which patterns are there, old and new.

Reads, never writes; ``detection`` stores what is found. A pattern that was
found often enough is settled: its members stay, new requests are assigned to
it, and only what is left is clustered, so the cost grows with what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hermes_apprentice.detector.batches import Batch, Settled, View, joined, load, load_settled
from hermes_apprentice.detector.clustering import LEAF_SIZE, Labels, cluster
from hermes_apprentice.detector.description import Finding, group_finding, settled_finding
from hermes_apprentice.detector.maturity import unformed
from hermes_apprentice.detector.merging import Corpus, Group, Home, assign, belongs, settle
from hermes_apprentice.settings import DetectorSettings
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.transfers import imported_patterns

MAX_POOL = 20_000
"""Most requests that are clustered; the newest count."""

MIN_DISTINCT = 0.5
"""Different requests a group needs, as a share of the exchanges a pattern needs; "yes" and
"go on" come back often, and mean something else every time."""

FOUND_AGAIN = 0.5
"""Share of a pattern's members that a group must hold to be that pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The outcome of a look."""

    found: tuple[Finding, ...]
    """Every group of similar requests, largest first, whether or not it is a pattern yet."""

    lost: tuple[str, ...]
    """Stored patterns that were never settled and are none any more."""

    exchanges: int
    """Eligible exchanges that were looked at."""


def look(view: View) -> Findings:
    """Find the patterns among everything that is stored; writes nothing."""
    with view.database.transaction() as connection:
        store = PatternStore(connection)
        patterns = store.stored()
        ids, taken = store.names()
        kept = store.kept()
        settled_ids = {
            one.pattern.pattern_id
            for one in patterns
            if one.pattern.pattern_id in kept
            or one.pattern.runs_stable >= view.settings.min_runs_stable
        }
        members = {
            one.pattern.pattern_id: store.members(one.pattern.pattern_id) for one in patterns
        }
        brought = imported_patterns(connection)
        loose = store.loose(sorted(settled_ids), MAX_POOL)
        settled = [
            load_settled(view, one, members[one.pattern.pattern_id])
            for one in patterns
            if one.pattern.pattern_id in settled_ids
        ]
        pool = load(view, loose)
    unsettled = [one for one in patterns if one.pattern.pattern_id not in settled_ids]
    placed = {
        number
        for number, one in enumerate(settled)
        if one.sample.exchanges
        # One from another machine has a place before it has a request of this one.
        or (one.stored.pattern.pattern_id in brought and one.stored.embedder == view.embedder)
    }
    sorting = _sort(settled, sorted(placed), pool, view.settings)
    found = [
        settled_finding(view, one, pool, np.flatnonzero(sorting.owner == number), regrouped)
        for number, (one, regrouped) in enumerate(zip(settled, sorting.regrouped, strict=True))
    ]
    again = _match(unsettled, members, sorting.groups, pool)
    for number, group in enumerate(sorting.groups):
        old = again.get(number)
        finding = group_finding(view, group, pool, old.pattern if old else None, taken, ids)
        taken.add(finding.pattern.slug)
        ids.add(finding.pattern.pattern_id)
        found.append(finding)
    formed = {
        finding.pattern.pattern_id
        for finding in found
        if not unformed(finding.pattern, view.settings)
    }
    return Findings(
        found=tuple(sorted(found, key=lambda item: (-item.pattern.size, item.pattern.slug))),
        lost=tuple(
            one.pattern.pattern_id for one in unsettled if one.pattern.pattern_id not in formed
        ),
        exchanges=len(pool.exchanges) + sum(one.size for one in settled),
    )


# --- sorting --------------------------------------------------------------------------


class _Sorting(NamedTuple):
    owner: Labels
    """Settled pattern of each pool row, or -1."""

    regrouped: list[bool]
    """Which settled patterns took in a whole group."""

    groups: list[Group]
    """What is none of the settled patterns."""


def _sort(
    settled: Sequence[Settled], usable: Sequence[int], pool: Batch, settings: DetectorSettings
) -> _Sorting:
    homes = [_home(settled[number]) for number in usable]
    owner = np.full(len(pool.exchanges), -1, dtype=np.int64)
    regrouped = [False] * len(settled)
    if not pool.exchanges:
        return _Sorting(owner, regrouped, [])
    samples = [settled[number].sample for number in usable]
    assigned = assign(
        homes,
        joined(pool.corpus, *(one.corpus for one in samples)),
        np.concatenate(
            [owner, *(np.full(len(one.exchanges), at) for at, one in enumerate(samples))]
        ),
    )[: len(owner)]
    owner[assigned >= 0] = np.array(usable, dtype=np.int64)[assigned[assigned >= 0]]
    rest = np.flatnonzero(owner < 0)
    corpus = Corpus(
        pool.corpus.embeddings[rest],
        [pool.corpus.requests[row] for row in rest.tolist()],
        [pool.corpus.answers[row] for row in rest.tolist()],
    )
    smallest = min(LEAF_SIZE, settings.min_exchanges)
    labels = cluster(corpus.embeddings, corpus.requests, smallest)
    groups = []
    for group in settle(labels, corpus, smallest):
        fitting = [at for at, home in enumerate(homes) if belongs(group, home)]
        if fitting:
            nearest = max(fitting, key=lambda at: float(group.centre @ homes[at].centre))
            owner[rest[group.rows]] = usable[nearest]
            regrouped[usable[nearest]] = True
        elif _distinct(group) >= MIN_DISTINCT * settings.min_exchanges:
            groups.append(Group(pool.corpus, rest[group.rows]))
    return _Sorting(owner, regrouped, groups)


def _distinct(group: Group) -> int:
    texts = (group.corpus.requests[row] for row in group.rows.tolist())
    return len({" ".join(text.casefold().split()) for text in texts})


def _home(one: Settled) -> Home:
    near = one.sample.corpus.embeddings @ one.stored.centre if one.sample.exchanges else np.zeros(0)
    return Home(
        one.stored.pattern.shape,
        one.stored.centre,
        one.stored.radius,
        float(np.quantile(near, 0.1)) if len(near) else np.inf,
    )


def _match(
    patterns: Sequence[StoredPattern],
    members: Mapping[str, Sequence[str]],
    groups: Sequence[Group],
    pool: Batch,
) -> dict[int, StoredPattern]:
    """Return which group is which unsettled pattern, found again; the largest choose first."""
    group_of = {
        pool.exchanges[row].exchange_id: number
        for number, group in enumerate(groups)
        for row in group.rows.tolist()
    }
    found: dict[int, StoredPattern] = {}
    for one in sorted(patterns, key=lambda one: (-one.pattern.size, one.pattern.pattern_id)):
        ids = members[one.pattern.pattern_id]
        numbers = [group_of[key] for key in ids if key in group_of]
        if numbers:
            best = max(sorted(set(numbers)), key=numbers.count)
            if numbers.count(best) >= FOUND_AGAIN * len(ids) and best not in found:
                found[best] = one
    return found
