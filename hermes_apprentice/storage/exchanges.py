"""Exchanges in Apprentice's database: copied from Hermes once, kept, forgotten on request.

The only place that reads and writes the tables ``exchanges``, ``embeddings``
and ``observer_cursors``. Knows nothing about how Hermes stores its sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import orjson

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchange_records import (
    Cursor,
    Embeddings,
    ExchangeCounts,
    RowReference,
    StoredExchange,
)

if TYPE_CHECKING:
    import sqlite3

    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Cursor",
    "Embeddings",
    "ExchangeCounts",
    "ExchangeStore",
    "RowReference",
    "StoredExchange",
]

_CHUNK = 500
"""Values in one ``IN (...)`` list; every SQLite accepts this many."""

_COLUMNS = (
    "exchange_id, profile, session_id, source, turn_index, request, answer, model, asked_at, "
    "answered_at, context_chars, input_tokens, output_tokens, corrected, ineligible"
)


class ExchangeStore:
    """Exchanges, their embeddings and the observer's cursors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- writing --------------------------------------------------------------------------

    def upsert(self, records: Iterable[StoredExchange], observed_at: float) -> None:
        """Insert exchanges, or overwrite what is stored under their ids.

        Those of forgotten sessions are passed over, whoever asks.

        Args:
            records: What to keep; ids never change, so a repeated call changes nothing.
            observed_at: Unix time; kept from the first sight.
        """
        values = [_values(record, observed_at) for record in records]
        with self._database.transaction() as connection:
            connection.executemany(
                f"INSERT INTO exchanges ({_COLUMNS}, user_row, answer_row, observed_at) "
                "SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? "
                "WHERE ?3 NOT IN (SELECT session_id FROM forgotten_sessions) "
                "ON CONFLICT (exchange_id) DO UPDATE SET source = excluded.source, "
                "turn_index = excluded.turn_index, answer = excluded.answer, "
                "model = excluded.model, answered_at = excluded.answered_at, "
                "context_chars = excluded.context_chars, input_tokens = excluded.input_tokens, "
                "output_tokens = excluded.output_tokens, corrected = excluded.corrected, "
                "ineligible = excluded.ineligible, user_row = excluded.user_row, "
                "answer_row = excluded.answer_row",
                values,
            )

    def mark_withdrawn(self, exchange_ids: Iterable[str]) -> int:
        """Record that the user took these turns back; they are never training data again.

        Returns:
            How many were not withdrawn before.
        """
        changed = 0
        with self._database.transaction() as connection:
            for chunk in _chunks(list(exchange_ids)):
                changed += connection.execute(
                    f"UPDATE exchanges SET ineligible = ? WHERE exchange_id IN ({_marks(chunk)}) "
                    "AND ineligible IS NOT ?",
                    [Ineligible.WITHDRAWN, *chunk, Ineligible.WITHDRAWN],
                ).rowcount
        return changed

    def delete(self, exchange_ids: Iterable[str]) -> int:
        """Remove exchanges with their embeddings and pattern memberships.

        Returns:
            How many there were.
        """
        removed = 0
        with self._database.transaction() as connection:
            for chunk in _chunks(list(exchange_ids)):
                removed += connection.execute(
                    f"DELETE FROM exchanges WHERE exchange_id IN ({_marks(chunk)})", chunk
                ).rowcount
        return removed

    def delete_session(self, profile: str, session_id: str) -> int:
        """Forget a session: its exchanges with all that hangs on them, and its corrections.

        Returns:
            How many exchanges were removed.
        """
        with self._database.transaction() as connection:
            for table in ("corrections", "audited_answers"):
                connection.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))
            return connection.execute(
                "DELETE FROM exchanges WHERE profile = ? AND session_id = ?", (profile, session_id)
            ).rowcount

    # --- reading exchanges ----------------------------------------------------------------

    def iterate(
        self, *, eligible_only: bool = True, since: float | None = None
    ) -> Iterator[Exchange]:
        """Yield exchanges in the order they were asked, a few hundred in memory at a time.

        Args:
            eligible_only: Leave out those that cannot become training data.
            since: Unix time of the earliest request wanted.
        """
        condition = "asked_at >= ?" + (" AND ineligible IS NULL" if eligible_only else "")
        after = (since if since is not None else float("-inf"), "")
        while True:
            rows = self._database.read(
                f"SELECT {_COLUMNS} FROM exchanges WHERE {condition} "
                "AND (asked_at, exchange_id) > (?, ?) ORDER BY asked_at, exchange_id LIMIT ?",
                (after[0], *after, _CHUNK),
            )
            yield from map(_exchange, rows)
            if len(rows) < _CHUNK:
                return
            after = (rows[-1]["asked_at"], rows[-1]["exchange_id"])

    def by_ids(self, exchange_ids: Sequence[str]) -> list[Exchange]:
        """Return the exchanges with these ids, in this order; unknown ids are left out."""
        found: dict[str, Exchange] = {}
        for chunk in _chunks(exchange_ids):
            for row in self._database.read(
                f"SELECT {_COLUMNS} FROM exchanges WHERE exchange_id IN ({_marks(chunk)})", chunk
            ):
                found[row["exchange_id"]] = _exchange(row)
        return [found[name] for name in exchange_ids if name in found]

    def counts(self, profile: str | None = None) -> ExchangeCounts:
        """Count what is stored, of one profile or of all."""
        where, values = ("WHERE profile = ?", (profile,)) if profile else ("", ())
        (row,) = self._database.read(
            "SELECT COUNT(*) AS total, COUNT(*) FILTER (WHERE ineligible IS NULL) AS eligible, "
            "COUNT(*) FILTER (WHERE corrected) AS corrected, "
            "COUNT(DISTINCT profile || char(0) || session_id) AS sessions, "
            f"MIN(asked_at) AS first, MAX(asked_at) AS last FROM exchanges {where}",
            values,
        )

        def grouped(column: str) -> dict[str, int]:
            rows = self._database.read(
                f"SELECT {column} AS name, COUNT(*) AS size FROM exchanges {where} "
                "GROUP BY name ORDER BY size DESC, name",
                values,
            )
            return {row["name"]: row["size"] for row in rows if row["name"] is not None}

        return ExchangeCounts(
            total=row["total"],
            eligible=row["eligible"],
            corrected=row["corrected"],
            ineligible=grouped("ineligible"),
            sources=grouped("source"),
            sessions=row["sessions"],
            first_asked_at=row["first"],
            last_asked_at=row["last"],
        )

    # --- for the observer -----------------------------------------------------------------

    def of_session(self, profile: str, session_id: str) -> list[StoredExchange]:
        """Return everything stored of a session, in the order of the conversation."""
        return self._records(
            "profile = ? AND session_id = ? ORDER BY turn_index, asked_at", (profile, session_id)
        )

    def newest_of_session(self, profile: str, session_id: str, limit: int) -> list[StoredExchange]:
        """Return the last exchanges of a session, oldest first."""
        newest = self._records(
            "profile = ? AND session_id = ? ORDER BY turn_index DESC, asked_at DESC LIMIT ?",
            (profile, session_id, limit),
        )
        return newest[::-1]

    def session_ids(self, profile: str) -> list[str]:
        """Return the sessions of which something is stored."""
        rows = self._database.read(
            "SELECT DISTINCT session_id FROM exchanges WHERE profile = ?", (profile,)
        )
        return [row[0] for row in rows]

    def newest_references(self, profile: str, limit: int) -> list[RowReference]:
        """Return where the exchanges asked last are."""
        # The plus keeps SQLite on the index by time, where it can stop early.
        return self._references("+profile = ? ORDER BY asked_at DESC LIMIT ?", (profile, limit))

    def references_after(self, profile: str, session_id: str, limit: int) -> list[RowReference]:
        """Return where the exchanges of the sessions named after this one are.

        Sessions are never cut in two, so the last one's name is where to go on;
        therefore there may be more than ``limit``.
        """
        (row,) = self._database.read(
            "SELECT MAX(session_id) AS last FROM (SELECT session_id FROM exchanges "
            "WHERE profile = ? AND session_id > ? ORDER BY session_id LIMIT ?)",
            (profile, session_id, limit),
        )
        if row["last"] is None:
            return []
        return self._references(
            "profile = ? AND session_id > ? AND session_id <= ? ORDER BY session_id",
            (profile, session_id, row["last"]),
        )

    def _references(self, condition: str, values: Sequence[object]) -> list[RowReference]:
        rows = self._database.read(
            "SELECT session_id, user_row, answer_row, ineligible IS ? FROM exchanges "
            f"WHERE {condition}",
            (Ineligible.WITHDRAWN, *values),
        )
        return [RowReference(row[0], row[1], row[2], bool(row[3])) for row in rows]

    def cursor(self, profile: str) -> Cursor:
        """Return how far a profile has been read."""
        rows = self._database.read(
            "SELECT last_row, details FROM observer_cursors WHERE profile = ?", (profile,)
        )
        if not rows:
            return Cursor(details={})
        return Cursor(last_row=rows[0]["last_row"], details=orjson.loads(rows[0]["details"]))

    def save_cursor(self, profile: str, state_db: str, cursor: Cursor, now: float) -> None:
        """Record how far a profile has been read."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO observer_cursors VALUES (?, ?, ?, ?, ?)",
                (profile, state_db, cursor.last_row, orjson.dumps(cursor.details).decode(), now),
            )

    def _records(self, condition: str, values: Sequence[object]) -> list[StoredExchange]:
        rows = self._database.read(
            f"SELECT {_COLUMNS}, user_row, answer_row FROM exchanges WHERE {condition}", values
        )
        return [
            StoredExchange(
                exchange=_exchange(row), user_row=row["user_row"], answer_row=row["answer_row"]
            )
            for row in rows
        ]

    # --- embeddings -----------------------------------------------------------------------

    def unembedded(
        self, embedder: str, *, eligible_only: bool = True, limit: int = 100_000
    ) -> list[Exchange]:
        """Return exchanges without a vector of this embedder, oldest first.

        Args:
            embedder: The embedder's digest; vectors of different ones never mix.
            eligible_only: Leave out those that cannot become training data.
                Otherwise everything that a person typed is meant.
            limit: Most that are returned.
        """
        unwanted = (Ineligible.NOT_A_USER_TURN, Ineligible.EMPTY, Ineligible.WITHDRAWN)
        kept = "ineligible IS NULL"
        if not eligible_only:
            kept = f"({kept} OR ineligible NOT IN ({_marks(unwanted)}))"
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM exchanges WHERE {kept} AND NOT EXISTS (SELECT 1 FROM "
            "embeddings WHERE embeddings.exchange_id = exchanges.exchange_id AND embedder = ?) "
            "ORDER BY asked_at, exchange_id LIMIT ?",
            (*(() if eligible_only else unwanted), embedder, limit),
        )
        return [_exchange(row) for row in rows]

    def save_embeddings(
        self, embedder: str, exchange_ids: Sequence[str], vectors: npt.NDArray[np.float32]
    ) -> None:
        """Store one vector per exchange; those forgotten meanwhile are passed over.

        Args:
            embedder: The embedder's digest.
            exchange_ids: One per row of ``vectors``.
            vectors: Shape (exchanges, dimensions), float32.
        """
        import numpy as np

        rows = np.ascontiguousarray(vectors, dtype="<f4")
        values = [
            (embedder, row.tobytes(), name) for name, row in zip(exchange_ids, rows, strict=True)
        ]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO embeddings (exchange_id, embedder, vector) "
                "SELECT exchange_id, ?, ? FROM exchanges WHERE exchange_id = ?",
                values,
            )

    def embeddings(self, embedder: str, exchange_ids: Sequence[str] | None = None) -> Embeddings:
        """Return stored vectors of one embedder.

        Args:
            embedder: The embedder's digest.
            exchange_ids: Which, in this order; those without a vector are left
                out. ``None`` means all, ordered by id.

        Raises:
            StorageError: Vectors of different lengths carry the same digest.
        """
        import numpy as np

        found: dict[str, bytes] = {}
        if exchange_ids is None:
            rows = self._database.read(
                "SELECT exchange_id, vector FROM embeddings WHERE embedder = ? "
                "ORDER BY exchange_id",
                (embedder,),
            )
            found = {row["exchange_id"]: row["vector"] for row in rows}
            names: Sequence[str] = list(found)
        else:
            for chunk in _chunks(exchange_ids):
                for row in self._database.read(
                    "SELECT exchange_id, vector FROM embeddings WHERE embedder = ? "
                    f"AND exchange_id IN ({_marks(chunk)})",
                    [embedder, *chunk],
                ):
                    found[row["exchange_id"]] = row["vector"]
            names = [name for name in exchange_ids if name in found]
        sizes = {len(vector) for vector in found.values()}
        if len(sizes) > 1:
            raise StorageError(
                f"the stored embeddings of {embedder} differ in length; delete them from the "
                "table 'embeddings' and they are made again."
            )
        data = b"".join(found[name] for name in names)
        width = next(iter(sizes), 0) // 4
        vectors = np.frombuffer(data, dtype="<f4").reshape(len(names), width).astype(np.float32)
        return Embeddings(exchange_ids=tuple(names), vectors=vectors)


def _values(record: StoredExchange, observed_at: float) -> tuple[object, ...]:
    exchange = (getattr(record.exchange, name) for name in _COLUMNS.split(", "))
    return (*exchange, record.user_row, record.answer_row, observed_at)


def _exchange(row: sqlite3.Row) -> Exchange:
    reason = row["ineligible"]
    return Exchange(
        exchange_id=row["exchange_id"],
        profile=row["profile"],
        session_id=row["session_id"],
        source=row["source"],
        turn_index=row["turn_index"],
        request=row["request"],
        answer=row["answer"],
        model=row["model"],
        asked_at=row["asked_at"],
        answered_at=row["answered_at"],
        context_chars=row["context_chars"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        corrected=bool(row["corrected"]),
        ineligible=Ineligible(reason) if reason is not None else None,
    )


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
