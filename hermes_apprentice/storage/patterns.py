"""Patterns, their members and the candidates among them, as tables.

Works on a connection inside a transaction, so that a pattern, its members, its
candidate and the question to the operator are written together. Knows nothing
about how patterns are found.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.pattern import Candidate, CandidateState, Pattern
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import ReplyError, StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPattern:
    """A pattern, and where it lies in the space of one embedder."""

    pattern: Pattern
    """What is known about it."""

    embedder: str
    """Digest of the embedder that the centre belongs to."""

    centre: npt.NDArray[np.float32]
    """Mean direction of its members, of unit length."""

    radius: float
    """Least cosine to the centre of what belongs to it."""


class PatternStore:
    """The tables ``patterns``, ``pattern_members`` and ``candidates``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- patterns -------------------------------------------------------------------------

    def save(self, stored: StoredPattern, now: float) -> None:
        """Insert a pattern, or replace what is known about it.

        Raises:
            StorageError: Another pattern has this slug.
        """
        pattern = stored.pattern
        centre = np.ascontiguousarray(stored.centre, dtype="<f4").tobytes()
        try:
            self._connection.execute(
                """
                INSERT INTO patterns (pattern_id, slug, record, embedder, centre, radius,
                                      updated_at)
                VALUES (?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (pattern_id) DO UPDATE SET
                    slug = excluded.slug, record = excluded.record, embedder = excluded.embedder,
                    centre = excluded.centre, radius = excluded.radius,
                    updated_at = excluded.updated_at
                """,
                (
                    pattern.pattern_id,
                    pattern.slug,
                    _dump(pattern),
                    stored.embedder,
                    centre,
                    stored.radius,
                    now,
                ),
            )
        except sqlite3.IntegrityError as error:
            raise StorageError(f"There is a pattern '{pattern.slug}' already.") from error

    def delete(self, pattern_id: str) -> None:
        """Remove a pattern and its memberships.

        Raises:
            StorageError: It was proposed; such a pattern is kept.
        """
        try:
            self._connection.execute("DELETE FROM patterns WHERE pattern_id = ?", (pattern_id,))
        except sqlite3.IntegrityError as error:
            raise StorageError(f"The pattern {pattern_id} was proposed and is kept.") from error

    def stored(self) -> list[StoredPattern]:
        """Return every pattern with its place, by id; those merged into another are left out."""
        rows = self._connection.execute(
            "SELECT * FROM patterns WHERE pattern_id NOT IN "
            "(SELECT pattern_id FROM merged_patterns) ORDER BY pattern_id"
        )
        return [
            StoredPattern(
                pattern=_pattern(row["record"]),
                embedder=row["embedder"],
                centre=np.frombuffer(row["centre"], dtype="<f4").astype(np.float32),
                radius=row["radius"],
            )
            for row in rows
        ]

    def patterns(self) -> list[Pattern]:
        """Return every pattern, by id."""
        return [stored.pattern for stored in self.stored()]

    def pattern(self, pattern_id: str) -> Pattern:
        """Return one pattern.

        Raises:
            StorageError: There is no such pattern.
        """
        row = self._connection.execute(
            "SELECT record FROM patterns WHERE pattern_id = ?", (pattern_id,)
        ).fetchone()
        if row is None:
            raise StorageError(f"There is no pattern {pattern_id}.")
        return _pattern(row["record"])

    def choose_kind(self, pattern_id: str, kind: Kind | None) -> None:
        """Keep the kind that the operator wants for a pattern; ``None`` leaves it to the shape."""
        if kind is None:
            self._connection.execute("DELETE FROM chosen_kinds WHERE pattern_id = ?", (pattern_id,))
            return
        self._connection.execute(
            "INSERT INTO chosen_kinds (pattern_id, kind) VALUES (?, ?) "
            "ON CONFLICT (pattern_id) DO UPDATE SET kind = excluded.kind",
            (pattern_id, kind),
        )

    def chosen_kind(self, pattern_id: str) -> Kind | None:
        """Return the kind that the operator wants for a pattern, ``None`` if they never said."""
        row = self._connection.execute(
            "SELECT kind FROM chosen_kinds WHERE pattern_id = ?", (pattern_id,)
        ).fetchone()
        return Kind(row["kind"]) if row else None

    def names(self) -> tuple[set[str], set[str]]:
        """Return the ids and the slugs that are taken, by merged patterns, too."""
        rows = self._connection.execute("SELECT pattern_id, slug FROM patterns").fetchall()
        return {row[0] for row in rows}, {row[1] for row in rows}

    def kept(self) -> set[str]:
        """Return the ids of patterns that were proposed or have a specialist."""
        rows = self._connection.execute(
            "SELECT pattern_id FROM candidates UNION SELECT pattern_id FROM specialists"
        )
        return {row[0] for row in rows}

    def is_merged(self, pattern_id: str) -> bool:
        """Tell whether a pattern became part of another."""
        row = self._connection.execute(
            "SELECT 1 FROM merged_patterns WHERE pattern_id = ?", (pattern_id,)
        ).fetchone()
        return row is not None

    def absorb(self, pattern_id: str, parts: Sequence[str]) -> None:
        """Let a pattern take the place of others, with all that belongs to them now or later."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO merged_patterns (pattern_id, merged_into) VALUES (?, ?)",
            [(part, pattern_id) for part in parts],
        )
        self.gather()

    def gather(self) -> None:
        """Move what still counts to a merged pattern to the one that took its place."""
        while self._connection.execute(
            """
            UPDATE pattern_members SET pattern_id =
                (SELECT merged_into FROM merged_patterns
                 WHERE merged_patterns.pattern_id = pattern_members.pattern_id)
            WHERE pattern_id IN (SELECT pattern_id FROM merged_patterns)
            """
        ).rowcount:
            pass  # a pattern that was merged twice takes two rounds

    # --- members --------------------------------------------------------------------------

    def members(self, pattern_id: str) -> list[str]:
        """Return the ids of a pattern's exchanges, oldest first.

        Exchanges that were taken back since are left out.
        """
        rows = self._connection.execute(
            """
            SELECT exchange_id FROM pattern_members JOIN exchanges USING (exchange_id)
            WHERE pattern_id = ? AND ineligible IS NULL ORDER BY asked_at, exchange_id
            """,
            (pattern_id,),
        )
        return [row[0] for row in rows]

    def answered_here(self, pattern_id: str) -> set[str]:
        """Return the members whose answer a specialist gave, and not the upstream.

        Told by the ledger: the same session, and a time within the exchange's; Hermes rounds
        the times of some platforms to seconds. Calls without Hermes' own name of the session
        are told by the time alone.
        """
        rows = self._connection.execute(
            """
            SELECT exchange_id FROM pattern_members JOIN exchanges USING (exchange_id)
            WHERE pattern_id = ? AND EXISTS
                (SELECT 1 FROM ledger
                 WHERE at BETWEEN asked_at - 2 AND answered_at + 2 AND route = 'specialist'
                   AND (session = session_id OR session LIKE 'fp-%'))
            """,
            (pattern_id,),
        )
        return {row[0] for row in rows}

    def add_members(self, pattern_id: str, members: Iterable[tuple[str, float]]) -> None:
        """Put exchanges into a pattern, out of any other.

        Exchanges that were forgotten meanwhile are passed over.

        Args:
            pattern_id: The pattern, already saved.
            members: Exchange ids with their cosine to the centre.
        """
        self._connection.executemany(
            """
            INSERT OR REPLACE INTO pattern_members (exchange_id, pattern_id, cosine)
            SELECT exchange_id, ?, ? FROM exchanges WHERE exchange_id = ?
            """,
            [(pattern_id, cosine, exchange_id) for exchange_id, cosine in members],
        )

    def remove_members(self, pattern_id: str) -> None:
        """Take every exchange out of a pattern."""
        self._connection.execute("DELETE FROM pattern_members WHERE pattern_id = ?", (pattern_id,))

    def remove_ineligible_members(self) -> int:
        """Take out exchanges that were withdrawn after they became members; returns how many."""
        return self._connection.execute(
            """
            DELETE FROM pattern_members WHERE exchange_id IN
                (SELECT exchange_id FROM exchanges WHERE ineligible IS NOT NULL)
            """
        ).rowcount

    def sizes(self) -> dict[str, int]:
        """Return how many members each pattern has, those that were taken back left out."""
        rows = self._connection.execute(
            """
            SELECT pattern_id, COUNT(*) FROM pattern_members JOIN exchanges USING (exchange_id)
            WHERE ineligible IS NULL GROUP BY pattern_id
            """
        )
        return {row[0]: row[1] for row in rows}

    def loose(self, settled: Sequence[str], limit: int) -> list[str]:
        """Return eligible exchanges that are in none of the settled patterns, oldest first.

        Args:
            settled: Pattern ids whose members are left alone.
            limit: Most that are returned; the newest count.
        """
        marks = ", ".join("?" * len(settled))
        rows = self._connection.execute(
            f"""
            SELECT exchange_id FROM exchanges WHERE ineligible IS NULL AND NOT EXISTS
                (SELECT 1 FROM pattern_members WHERE exchange_id = exchanges.exchange_id
                 AND pattern_id IN ({marks}))
            ORDER BY asked_at DESC, exchange_id DESC LIMIT ?
            """,
            (*settled, limit),
        )
        return [row[0] for row in rows][::-1]

    # --- candidates -----------------------------------------------------------------------

    def add_candidate(self, candidate: Candidate) -> None:
        """Store a new candidate.

        Raises:
            StorageError: The id is taken, or the pattern was proposed before.
        """
        try:
            self._connection.execute(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?)",
                (
                    candidate.candidate_id,
                    candidate.pattern.pattern_id,
                    candidate.state,
                    _dump(candidate.pattern),
                    candidate.created_at,
                ),
            )
        except sqlite3.IntegrityError as error:
            raise StorageError(
                f"{candidate.candidate_id} or its pattern was proposed before."
            ) from error

    def candidates(self, state: CandidateState | None = None) -> list[Candidate]:
        """Return candidates, oldest first; of one state or of all."""
        rows = self._connection.execute(
            "SELECT * FROM candidates WHERE ? IS NULL OR state = ? "
            "ORDER BY created_at, candidate_id",
            (state, state),
        )
        return [_candidate(row, row["evidence"]) for row in rows]

    def find_candidate(self, candidate_id: str) -> Candidate | None:
        """Return a candidate with the evidence it was proposed on."""
        row = self._connection.execute(
            "SELECT * FROM candidates WHERE candidate_id = ?", (candidate_id,)
        ).fetchone()
        return _candidate(row, row["evidence"]) if row else None

    def present_candidate(self, candidate_id: str) -> Candidate | None:
        """Return a candidate with what is known about its pattern now."""
        row = self._connection.execute(
            "SELECT candidates.*, record FROM candidates JOIN patterns USING (pattern_id) "
            "WHERE candidate_id = ?",
            (candidate_id,),
        ).fetchone()
        return _candidate(row, row["record"]) if row else None

    def candidate(self, candidate_id: str) -> Candidate:
        """Return a candidate with the evidence it was proposed on.

        Raises:
            ReplyError: There is no such candidate.
        """
        found = self.find_candidate(candidate_id)
        if found is None:
            raise ReplyError(f"There is no candidate {candidate_id}; see 'apprentice candidates'.")
        return found

    def set_candidate_state(self, candidate_id: str, state: CandidateState) -> None:
        """Record what became of a candidate.

        Raises:
            ReplyError: There is no such candidate.
        """
        changed = self._connection.execute(
            "UPDATE candidates SET state = ? WHERE candidate_id = ?", (state, candidate_id)
        )
        if not changed.rowcount:
            raise ReplyError(f"There is no candidate {candidate_id}; see 'apprentice candidates'.")


@cache
def _adapter() -> TypeAdapter[Pattern]:
    return TypeAdapter(Pattern)


def _dump(pattern: Pattern) -> str:
    return _adapter().dump_json(pattern).decode()


def _pattern(record: str) -> Pattern:
    try:
        return _adapter().validate_json(record)
    except ValidationError as error:
        raise StorageError(
            "A stored pattern cannot be read; it was written by another version or damaged."
        ) from error


def _candidate(row: Any, record: str) -> Candidate:
    return Candidate(
        candidate_id=row["candidate_id"],
        pattern=_pattern(record),
        state=CandidateState(row["state"]),
        created_at=row["created_at"],
    )
