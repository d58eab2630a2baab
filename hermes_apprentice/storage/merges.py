"""Merges, proposed and decided, as a table.

Works on a connection inside a transaction. Knows nothing about how two patterns
are compared or what a merge does.
"""

from __future__ import annotations

import sqlite3
from functools import cache

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.merge import Merge, MergeState
from hermes_apprentice.errors import StorageError


def save_merge(connection: sqlite3.Connection, merge: Merge) -> None:
    """Insert or replace a merge."""
    connection.execute(
        """
        INSERT INTO merges (merge_id, slug, state, record, updated_at) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (merge_id) DO UPDATE SET
            slug = excluded.slug, state = excluded.state, record = excluded.record,
            updated_at = excluded.updated_at
        """,
        (
            merge.merge_id,
            merge.pattern.slug,
            merge.state,
            _adapter().dump_json(merge).decode(),
            merge.updated_at,
        ),
    )


def find_merge(connection: sqlite3.Connection, merge_id: str) -> Merge | None:
    """Return a merge by its handle."""
    row = connection.execute("SELECT record FROM merges WHERE merge_id = ?", (merge_id,)).fetchone()
    return _merge(row["record"]) if row else None


def merge_into(connection: sqlite3.Connection, slug: str) -> Merge | None:
    """Return the accepted merge that a specialist is being made by, if it is."""
    row = connection.execute(
        "SELECT record FROM merges WHERE slug = ? AND state = ?", (slug, MergeState.ACCEPTED)
    ).fetchone()
    return _merge(row["record"]) if row else None


def list_merges(connection: sqlite3.Connection, state: MergeState | None = None) -> list[Merge]:
    """Return merges, the longest untouched first; of one state or of all."""
    rows = connection.execute(
        "SELECT record FROM merges WHERE ? IS NULL OR state = ? ORDER BY updated_at, merge_id",
        (state, state),
    )
    return [_merge(row["record"]) for row in rows]


@cache
def _adapter() -> TypeAdapter[Merge]:
    return TypeAdapter(Merge)


def _merge(record: str) -> Merge:
    try:
        return _adapter().validate_json(record)
    except ValidationError as error:
        raise StorageError(
            "A stored merge cannot be read; it was written by another version or damaged."
        ) from error
