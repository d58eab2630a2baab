"""Fit the matcher: which requests belong to which specialist, and which to none.

The rows are the operator's own requests. Members of a registered specialist's
pattern are its class, together with the vectors that came with a specialist of another
machine; everything else that a person typed is background. What
may be either (its answer fits a specialist's shape, yet the detector did not
count it as a member; or there is no answer to tell) is left out, because as
background it would teach the matcher to refuse the very requests it is for.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.domain.routing import FILTER_FILE, MATCHER_FILE
from hermes_apprentice.domain.shape import ShapeKind
from hermes_apprentice.domain.shape_inference import fits_request
from hermes_apprentice.domain.specialist import Manifest, Specialist
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.errors import ApprenticeError, RegistryError
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.registry.matchers import MATCHERS_KEPT
from hermes_apprentice.statistics.open_set import METHOD, fit_open_set
from hermes_apprentice.statistics.risk_control import BACKGROUND, ClassBound
from hermes_apprentice.statistics.word_filter import RECIPE as WORDS_RECIPE
from hermes_apprentice.statistics.word_filter import fit_word_filter
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.forgotten import forgotten_sessions
from hermes_apprentice.storage.merges import merge_into
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.specialists import list_specialists
from hermes_apprentice.storage.transfers import (
    MATCHER,
    highest_number,
    imported_vectors,
    remember_number,
)

GROWTH = 1.2
"""The matcher is fitted anew when there are this many times more requests than last time."""

PATTERNS = "patterns"
"""The entry in a matcher's details that says what is proven about each pattern's false routes."""

UNTOLD = (Ineligible.UNANSWERED, Ineligible.ATTACHMENT, Ineligible.SEVERAL_CALLS)
"""Exchanges whose stored answer does not tell which task they were."""


def refit_matcher(shop: Workshop) -> bool:
    """Fit and sign a new matcher if the specialists or the traffic changed.

    Returns:
        Whether a new one was published.
    """
    with shop.database.transaction() as connection:
        patterns = PatternStore(connection)
        registered = [
            one
            for one in list_specialists(connection)
            if one.version is not None
            # Until a merged specialist is live its requests are told by its parents' classes.
            and merge_into(connection, one.slug) is None
            and not patterns.is_merged(one.pattern_id)
        ]
        forgotten = len(forgotten_sessions(connection))
    manifests = _verified(shop, registered)
    before = _present(shop)
    if not manifests:
        if before.get("forgotten", 0) != forgotten:
            shop.registry.drop_matchers()
        return False
    details = {
        "embedder": shop.embedder.digest,
        "vector": RECIPE,
        "method": METHOD,
        "filter": WORDS_RECIPE,
        "specialists": {one.slug: one.version for one in manifests},
        "false_route_rate": shop.settings.matcher.false_route_rate,
        "requests": ExchangeStore(shop.database).counts().total,
        "forgotten": forgotten,
    }
    if not changed(before, details):
        return False
    shop.progress("fitting the matcher", 0.0)
    _embed_the_rest(shop)
    # An older matcher holds vectors and words of what was forgotten since.
    keep = MATCHERS_KEPT if before.get("forgotten", 0) == forgotten else 1
    _publish(shop, manifests, details, keep)
    return True


def _verified(shop: Workshop, registered: list[Specialist]) -> list[Manifest]:
    """Return the manifests of the versions in service; a damaged one is told once, not used."""
    manifests = []
    for one in registered:
        try:
            manifests.append(shop.registry.open_version(one.slug, one.version or 0).manifest)
        except RegistryError as error:
            with shop.database.transaction() as connection:
                add_message(
                    connection,
                    one.candidate_id,
                    f"damaged:{one.slug}:{one.version}",
                    f"'{one.slug}' is not served: {error}",
                    shop.clock(),
                )
    return manifests


def _present(shop: Workshop) -> dict[str, Any]:
    try:
        with shop.database.transaction() as connection:
            least = highest_number(connection, MATCHER)
        return dict(shop.registry.open_matcher(least).details)
    except ApprenticeError:
        return {}  # none yet, a damaged one or one that was put back: a new one replaces it


def bound_of(shop: Workshop, slug: str) -> ClassBound | None:
    """Return what the present matcher proves about a specialist's false routes.

    ``None`` where it does not know the specialist, or cannot be verified.
    """
    found = _present(shop).get(PATTERNS, {}).get(slug)
    if found is None:
        return None
    try:
        return ClassBound(**found)
    except TypeError:  # written by another version: the next tick fits a new one
        return None


def changed(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether what a matcher was fitted on differs enough from what there is now.

    Args:
        old: Details of the present one; empty where there is none.
        new: What a new one would be fitted on.
    """
    if any(old.get(name) != new[name] for name in new if name != "requests"):
        return True
    return bool(new["requests"] > old["requests"] and new["requests"] >= GROWTH * old["requests"])


def _embed_the_rest(shop: Workshop) -> None:
    """Make the vectors of everything that people typed; those made before are kept."""
    store, key = ExchangeStore(shop.database), _key(shop)
    while rest := store.unembedded(key, eligible_only=False, limit=256):
        vectors = matching_vectors(shop.embedder.encode([one.request for one in rest]))
        store.save_embeddings(key, [one.exchange_id for one in rest], vectors)


def _key(shop: Workshop) -> str:
    """Name the matcher's vectors in the table of embeddings."""
    return f"{shop.embedder.digest}/{RECIPE}"


def _publish(shop: Workshop, manifests: list[Manifest], details: dict[str, Any], keep: int) -> None:
    store = ExchangeStore(shop.database)
    embeddings = store.embeddings(_key(shop))
    known = set(embeddings.exchange_ids)
    with shop.database.transaction() as connection:
        patterns = PatternStore(connection)
        members = {one.slug: known & set(patterns.members(one.pattern_id)) for one in manifests}
        imported = imported_vectors(connection, _key(shop))
        above = highest_number(connection, MATCHER)
    # A pattern whose sessions were all deleted in Hermes has nothing left to be matched by.
    manifests = [one for one in manifests if members[one.slug] or one.pattern_id in imported]
    if not manifests:
        if keep == 1:
            shop.registry.drop_matchers()
        return
    class_of = {
        exchange_id: index
        for index, manifest in enumerate(manifests)
        for exchange_id in members[manifest.slug]
    }
    exchanges = {one.exchange_id: one for one in store.by_ids(embeddings.exchange_ids)}
    labels = [
        _label(class_of.get(name), exchanges.get(name), manifests)
        for name in embeddings.exchange_ids
    ]
    kept = [row for row, label in enumerate(labels) if label is not None]
    numbers = np.array([labels[row] for row in kept], dtype=np.int64)
    brought = [imported.get(manifest.pattern_id) for manifest in manifests]
    rows = [embeddings.vectors[kept]] if kept else []
    rows += [vectors for vectors in brought if vectors is not None]
    model = fit_open_set(
        np.concatenate(rows),
        np.concatenate(
            [numbers, *(np.full(len(v), at) for at, v in enumerate(brought) if v is not None)]
        ),
        tuple(manifest.slug for manifest in manifests),
        shop.settings.matcher.false_route_rate,
        shop.settings.trainer.seed,
    )
    bound = model.bound
    files = {MATCHER_FILE: model.to_bytes()}
    texts = [exchanges[embeddings.exchange_ids[row]].request for row in kept]
    # Vectors have no words: the filter would turn away what it never saw a text of.
    told = all(
        vectors is None or int((numbers == at).sum()) >= len(vectors)
        for at, vectors in enumerate(brought)
    )
    words = fit_word_filter(texts, numbers, len(manifests)) if told else None
    if words is not None:
        files[FILTER_FILE] = words.to_bytes()
        details = {**details, "words": words.evidence._asdict()}
    number = shop.registry.publish_matcher(
        files,
        {
            **details,
            "background": bound.background,
            "bound_achieved": bound.achieved,
            "upper": bound.upper,
            "confidence": bound.confidence,
            PATTERNS: {
                slug: asdict(model.bound_of(index)) for index, slug in enumerate(model.classes)
            },
        },
        above,
        keep,
    )
    with shop.database.transaction() as connection:
        remember_number(connection, MATCHER, number)


def _label(
    member_of: int | None, exchange: Exchange | None, manifests: list[Manifest]
) -> int | None:
    """Return the class of a row, ``BACKGROUND``, or ``None`` for a row to leave out."""
    if exchange is None:
        return None
    if member_of is not None:
        return member_of
    if exchange.ineligible in UNTOLD:
        return None
    closed = (one for one in manifests if one.shape.kind is not ShapeKind.TEXT)
    if exchange.eligible and any(
        fits_request(one.shape, exchange.request, exchange.answer) for one in closed
    ):
        return None
    return BACKGROUND
