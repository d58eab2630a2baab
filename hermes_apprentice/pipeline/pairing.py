"""Look at two specialists as one: what a proposal to merge them says.

Reads, never writes. Knows nothing about how a merge is decided or carried out.
"""

from __future__ import annotations

import sqlite3
from itertools import combinations

from hermes_apprentice.detector.batches import View
from hermes_apprentice.detector.merging import MERGE_COSINE
from hermes_apprentice.detector.pairs import Pair, Part, pair_up
from hermes_apprentice.domain.merge import Merge, MergeState, Parent, merge_digest
from hermes_apprentice.domain.pattern import Pattern
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.errors import RegistryError, ReplyError
from hermes_apprentice.pipeline.past import is_imported
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.merges import find_merge, list_merges
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import find_rollout, tally
from hermes_apprentice.storage.specialists import find_specialist, list_specialists
from hermes_apprentice.storage.tenants import owner_of
from hermes_apprentice.storage.transfers import imported_patterns

SERVING = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)
"""Stages in which a specialist may be merged."""

LOOKS = 20
"""Pairs, the closest first, that one detection looks at."""

_UNDER_WAY = (Step.APPROVED, Step.DATASET_BUILT, Step.TRAINED, Step.VALIDATED, Step.REGISTERED)


def look(shop: Workshop, left: str, right: str, asked_by: str) -> Merge:
    """Compare two specialists and their patterns."""
    left, right = sorted((left, right))
    if left == right:
        raise ReplyError(f"'{left}' is one specialist; name two to merge.")
    digits = merge_digest(left, right)
    with shop.database.transaction() as connection:
        store = PatternStore(connection)
        pair = [_servant(connection, slug) for slug in (left, right)]
        owners = [owner_of(connection, slug) or "everybody" for slug in (left, right)]
        stored = {one.pattern.pattern_id: one for one in store.stored()}
        parts = [Part(stored[one.pattern_id], store.members(one.pattern_id)) for one in pair]
        counts = [tally(connection, one.slug, one.version or 0) for one in pair]
        brought = imported_patterns(connection)
        merge_id = _handle(connection, digits, (left, right))
        known = find_merge(connection, merge_id)
        _, taken = store.names()
    for servant in pair:
        if servant.pattern_id in brought and _tested_elsewhere(shop, servant):
            raise ReplyError(
                f"'{servant.slug}' came from another machine, and its test stayed there, so "
                "nothing can be proven to be no worse; train it again here first."
            )
    if owners[0] != owners[1]:
        raise ReplyError(
            f"'{left}' belongs to {owners[0]} and '{right}' to {owners[1]}; what one tenant's "
            "requests taught must not answer another's, so they stay apart."
        )
    one, other = (part.stored for part in parts)
    if one.embedder != other.embedder:
        raise ReplyError("The two were placed by different embedders; run 'apprentice detect'.")
    if one.pattern.kind is not other.pattern.kind:
        raise ReplyError(
            f"'{left}' is for {one.pattern.kind.with_article} and '{right}' for "
            f"{other.pattern.kind.with_article}; their answers are of different shapes "
            "and stay apart."
        )
    whole = _together(
        shop,
        (parts[0], parts[1]),
        f"pt-{digits[:12]}",
        taken,
        known.pattern if known is not None else None,
    )
    if whole.stored.pattern.kind is not one.pattern.kind:
        raise ReplyError(
            f"The answers of '{left}' and '{right}' have no shape in common that "
            f"{one.pattern.kind.with_article} can give; they stay apart."
        )
    parents = [
        Parent(
            slug=servant.slug,
            version=servant.version or 0,
            pattern=part.stored.pattern,
            compared=count.compared,
            agreed=count.agreed,
            fit=fit,
        )
        for servant, part, count, fit in zip(pair, parts, counts, whole.fits, strict=True)
    ]
    return Merge(
        merge_id=merge_id,
        left=parents[0],
        right=parents[1],
        pattern=whole.stored.pattern,
        cosine=whole.cosine,
        alike=whole.alike,
        asked_by=asked_by,
        state=MergeState.PROPOSED,
        updated_at=shop.clock(),
    )


def _tested_elsewhere(shop: Workshop, specialist: Specialist) -> bool:
    """Whether the present version was judged on another machine.

    Raises:
        ReplyError: It is damaged.
    """
    try:
        version = shop.registry.open_version(specialist.slug, specialist.version or 0)
    except RegistryError as error:
        raise ReplyError(f"'{specialist.slug}' cannot be merged: {error}") from error
    return is_imported(version.manifest)


def _servant(connection: sqlite3.Connection, slug: str) -> Specialist:
    """Return a specialist that may be merged.

    Raises:
        ReplyError: There is none, or it may not.
    """
    found = find_specialist(connection, slug)
    if found is None:
        names = ", ".join(one.slug for one in list_specialists(connection)) or "none"
        raise ReplyError(f"There is no specialist '{slug}'; known: {names}.")
    rollout = find_rollout(connection, slug)
    if found.step is not Step.REGISTERED or rollout is None:
        raise ReplyError(f"'{slug}' is not registered ({found.step}), so it cannot be merged.")
    if rollout.stage not in SERVING:
        raise ReplyError(f"'{slug}' is {rollout.stage}, so it cannot be merged.")
    if PatternStore(connection).is_merged(found.pattern_id):
        raise ReplyError(f"'{slug}' was merged into another specialist already.")
    for merge in list_merges(connection, MergeState.ACCEPTED):
        if slug in (*merge.slugs, merge.pattern.slug) and is_under_way(connection, merge):
            raise ReplyError(f"'{slug}' takes part in {merge.merge_id}; let that end first.")
    return found


def _handle(connection: sqlite3.Connection, digits: str, slugs: tuple[str, str]) -> str:
    """Return ``mp-`` and the pair's first four digits, or more where another pair has those."""
    for length in range(4, 13):
        handle = f"mp-{digits[:length]}"
        known = find_merge(connection, handle)
        if known is None or known.slugs == slugs:
            return handle
    raise ReplyError(f"There is no free handle for {slugs[0]} and {slugs[1]}.")


def close_pairs(shop: Workshop) -> list[tuple[str, str]]:
    """Return the pairs that may be alike, going by kind and centres, the closest first."""
    with shop.database.transaction() as connection:
        stored = {one.pattern.pattern_id: one for one in PatternStore(connection).stored()}
        serving = []
        for one in list_specialists(connection):
            try:
                serving.append((one.slug, stored[_servant(connection, one.slug).pattern_id]))
            except (ReplyError, KeyError):
                continue
    near = []
    for (left, here), (right, there) in combinations(serving, 2):
        if here.embedder != there.embedder or here.pattern.kind is not there.pattern.kind:
            continue
        cosine = float(here.centre @ there.centre)
        if cosine >= MERGE_COSINE and here.pattern.kind is not Kind.GENERATOR:
            near.append((cosine, left, right))
    return [(left, right) for _, left, right in sorted(near, reverse=True)[:LOOKS]]


def is_under_way(connection: sqlite3.Connection, merge: Merge) -> bool:
    """Whether an accepted merge still goes on; one that the gate refused does not."""
    specialist = find_specialist(connection, merge.pattern.slug)
    return specialist is not None and specialist.step in _UNDER_WAY


def whole_of(shop: Workshop, merge: Merge) -> StoredPattern | None:
    """Return the common pattern with its place among today's requests."""
    with shop.database.transaction() as connection:
        store = PatternStore(connection)
        stored = {one.pattern.pattern_id: one for one in store.stored()}
        parts = [
            Part(stored[parent.pattern.pattern_id], store.members(parent.pattern.pattern_id))
            for parent in (merge.left, merge.right)
        ]
    try:
        return _together(
            shop, (parts[0], parts[1]), merge.pattern.pattern_id, set(), merge.pattern
        ).stored
    except ReplyError:
        return None  # no sessions are left to place it by; the next detection will


def _together(
    shop: Workshop,
    parts: tuple[Part, Part],
    pattern_id: str,
    taken: set[str],
    known: Pattern | None,
) -> Pair:
    view = View(
        shop.database,
        parts[0].stored.embedder,
        {},
        shop.settings.detector,
        shop.prices.cost_of,
        shop.clock(),
    )
    return pair_up(view, parts[0], parts[1], pattern_id, taken, known)
