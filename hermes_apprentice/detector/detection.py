"""Look for patterns, and keep what is found: the detector's two entry points.

``detect`` stores patterns and proposes the mature ones, ``survey`` only tells.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from hermes_apprentice.detector.batches import View
from hermes_apprentice.detector.description import Finding
from hermes_apprentice.detector.findings import Findings, look
from hermes_apprentice.detector.maturity import Prices, is_close, maturity, unformed
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Pattern
from hermes_apprentice.embedding.base import Embedder, FloatArray
from hermes_apprentice.settings import DetectorSettings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.patterns import PatternStore

Progress = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""

BATCH = 128
"""Requests embedded between two writes; an interrupted run goes on after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionReport:
    """What one detection found."""

    exchanges: int
    """Eligible exchanges that were looked at."""

    embedded: int
    """Requests that were embedded by this run."""

    new_patterns: tuple[Pattern, ...]
    """Patterns that were not known before."""

    updated: tuple[Pattern, ...]
    """Known patterns, as they are now."""

    lost: tuple[str, ...]
    """Ids of patterns that were not found again and are forgotten."""

    candidates: tuple[Candidate, ...]
    """Patterns proposed by this run."""

    unassigned_share: float
    """Share of the exchanges that belong to no pattern, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyRow:
    """One group of requests that keep coming back."""

    pattern: Pattern
    """What is known about it."""

    missing: tuple[str, ...]
    """What it lacks to be proposed; empty when it is mature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look found, without anything being written."""

    exchanges: int
    """Eligible exchanges that were looked at."""

    rows: tuple[SurveyRow, ...]
    """Patterns and what may become one, largest first."""

    unassigned_share: float
    """Share of the exchanges that are in no row, 0 to 1."""


def detect(
    database: Database,
    embedder: Embedder,
    settings: DetectorSettings,
    prices: Prices,
    now: float,
    *,
    progress: Progress | None = None,
    on_candidate: Callable[[sqlite3.Connection, Candidate], object] | None = None,
) -> DetectionReport:
    """Look for patterns, store them, and make candidates of the mature ones.

    Patterns keep their ids and names between runs. A pattern becomes a
    candidate once. Embeddings are stored as they are made; everything else is
    written in one transaction.

    Args:
        database: Exchanges and patterns.
        embedder: Makes vectors of requests that have none.
        settings: When requests count as a pattern.
        prices: What a call costs.
        now: Unix time.
        progress: Told how far the work is.
        on_candidate: Called for each new candidate inside the transaction.

    Raises:
        StorageError: The database cannot be read or written.
    """
    embedded = _embed_missing(database, embedder, progress)
    if progress is not None:
        progress("looking for patterns", 0.9)
    findings = look(View(database, embedder.digest, {}, settings, prices, now))
    kept = [item for item in findings.found if item.settled or _is_formed(item, settings)]
    with database.transaction() as connection:
        store = PatternStore(connection)
        _write(store, kept, findings, now)
        candidates = _propose(store, kept, settings, now)
        for candidate in candidates:
            if on_candidate is not None:
                on_candidate(connection, candidate)
    if progress is not None:
        progress("looking for patterns", 1.0)
    return DetectionReport(
        exchanges=findings.exchanges,
        embedded=embedded,
        new_patterns=tuple(item.pattern for item in kept if not item.known),
        updated=tuple(item.pattern for item in kept if item.known),
        lost=findings.lost,
        candidates=tuple(candidates),
        unassigned_share=_unassigned([item.pattern for item in kept], findings.exchanges),
    )


def survey(
    database: Database,
    embedder: Embedder,
    settings: DetectorSettings,
    prices: Prices,
    now: float,
    *,
    progress: Progress | None = None,
) -> Survey:
    """Tell which patterns there are and what each lacks; writes nothing.

    The arguments are those of ``detect``. Requests without a vector are
    embedded in memory, so a survey before the first detection takes longer.
    Groups too loose to become a pattern are left out.
    """
    store = ExchangeStore(database)
    exchanges = store.unembedded(embedder.digest)
    fresh: dict[str, FloatArray] = {}
    for start in range(0, len(exchanges), BATCH):
        batch = exchanges[start : start + BATCH]
        vectors = embedder.embed([one.request for one in batch])
        fresh |= {one.exchange_id: vector for one, vector in zip(batch, vectors, strict=True)}
        if progress is not None:
            progress("embedding requests", 0.9 * len(fresh) / len(exchanges))
    findings = look(View(database, embedder.digest, fresh, settings, prices, now))
    rows = tuple(
        SurveyRow(pattern=item.pattern, missing=maturity(item.pattern, settings))
        for item in findings.found
        if (item.settled and item.pattern.size) or is_close(item.pattern, settings)
    )
    return Survey(
        exchanges=findings.exchanges,
        rows=rows,
        unassigned_share=_unassigned([row.pattern for row in rows], findings.exchanges),
    )


def _embed_missing(database: Database, embedder: Embedder, progress: Progress | None) -> int:
    store = ExchangeStore(database)
    done = 0
    while exchanges := store.unembedded(embedder.digest):
        for start in range(0, len(exchanges), BATCH):
            batch = exchanges[start : start + BATCH]
            vectors = embedder.embed([one.request for one in batch])
            store.save_embeddings(embedder.digest, [one.exchange_id for one in batch], vectors)
            done += len(batch)
            if progress is not None:
                progress("embedding requests", 0.9 * (start + len(batch)) / len(exchanges))
    return done


def _is_formed(item: Finding, settings: DetectorSettings) -> bool:
    return not unformed(item.pattern, settings)


def _write(store: PatternStore, kept: list[Finding], findings: Findings, now: float) -> None:
    store.remove_ineligible_members()
    for pattern_id in findings.lost:
        store.delete(pattern_id)
    for item in kept:
        store.save(item.stored, now)
        if not item.settled:
            store.remove_members(item.pattern.pattern_id)
    for item in kept:  # after every removal, because members move from one to another
        store.add_members(item.pattern.pattern_id, item.members)
    store.gather()  # a merge may have been finished while we looked


def _propose(
    store: PatternStore, kept: list[Finding], settings: DetectorSettings, now: float
) -> list[Candidate]:
    existing = store.candidates()
    proposed = store.kept()
    ids = {candidate.candidate_id for candidate in existing}
    new = []
    for item in kept:
        if item.pattern.pattern_id in proposed or maturity(item.pattern, settings):
            continue
        candidate = Candidate(
            candidate_id=_candidate_id(item.pattern.pattern_id, ids),
            pattern=item.pattern,
            state=CandidateState.OPEN,
            created_at=now,
        )
        store.add_candidate(candidate)
        ids.add(candidate.candidate_id)
        new.append(candidate)
    return new


def _candidate_id(pattern_id: str, taken: set[str]) -> str:
    """Return ``gc-`` and the pattern's first four digits, or more where those are taken."""
    digits = pattern_id.removeprefix("pt-")
    length = next(
        length for length in range(4, len(digits) + 1) if f"gc-{digits[:length]}" not in taken
    )
    return f"gc-{digits[:length]}"


def _unassigned(patterns: list[Pattern], exchanges: int) -> float:
    inside = sum(pattern.size for pattern in patterns)
    return max(0.0, 1.0 - inside / exchanges) if exchanges else 0.0
