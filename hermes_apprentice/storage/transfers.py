"""What came with specialists of other machines, and how far the registry has counted, as tables.

Works on a connection inside a transaction. Knows nothing about files or signatures.
"""

from __future__ import annotations

import sqlite3

import numpy as np
import numpy.typing as npt

MATCHER = "_matcher"
"""The name that the matcher's numbers are remembered under; no specialist's name begins so."""


def save_imported(
    connection: sqlite3.Connection,
    pattern_id: str,
    embedder: str,
    vectors: npt.NDArray[np.float16],
) -> None:
    """Store the vectors that a pattern is recognised by on top of its own requests.

    Args:
        connection: Inside a transaction.
        pattern_id: The pattern, already saved.
        embedder: Names how the vectors were made; those of different ones never mix.
        vectors: Shape ``(rows, dimension)``.
    """
    connection.execute(
        "INSERT OR REPLACE INTO imported_members VALUES (?, ?, ?, ?)",
        (
            pattern_id,
            embedder,
            vectors.shape[1],
            np.ascontiguousarray(vectors, dtype="<f2").tobytes(),
        ),
    )


def imported_vectors(
    connection: sqlite3.Connection, embedder: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the vectors that came with patterns, by pattern; only those made this way."""
    rows = connection.execute(
        "SELECT pattern_id, dimension, vectors FROM imported_members WHERE embedder = ?",
        (embedder,),
    )
    return {
        row[0]: np.frombuffer(row[2], dtype="<f2").reshape(-1, row[1]).astype(np.float32)
        for row in rows
    }


def imported_patterns(connection: sqlite3.Connection) -> set[str]:
    """Return the ids of patterns that came from another machine."""
    return {row[0] for row in connection.execute("SELECT pattern_id FROM imported_members")}


def remember_number(connection: sqlite3.Connection, name: str, number: int) -> None:
    """Note that the registry has used a number; it never goes down again."""
    connection.execute(
        "INSERT INTO registry_numbers VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
        "SET highest = MAX(highest, excluded.highest)",
        (name, number),
    )


def highest_number(connection: sqlite3.Connection, name: str) -> int:
    """Return the highest number that was ever used under a name, 0 if none was."""
    row = connection.execute(
        "SELECT highest FROM registry_numbers WHERE name = ?", (name,)
    ).fetchone()
    return int(row[0]) if row else 0
