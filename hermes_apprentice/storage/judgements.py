"""What a judge model said about pairs of texts, as a table, so that nothing is paid for twice.

A pair is known by a digest; no text is kept. Knows nothing about models.
"""

from __future__ import annotations

import sqlite3


def find_judgement(connection: sqlite3.Connection, digest: str) -> str | None:
    """Return what was answered to the question with this digest."""
    row = connection.execute("SELECT answer FROM judgements WHERE digest = ?", (digest,)).fetchone()
    return str(row["answer"]) if row else None


def add_judgement(connection: sqlite3.Connection, digest: str, answer: str, at: float) -> None:
    """Keep an answer; the first one stays.

    Args:
        connection: Inside a transaction.
        digest: Of the model and the whole question.
        answer: What it said.
        at: Unix time.
    """
    connection.execute(
        "INSERT INTO judgements (digest, answer, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (digest, answer, at),
    )
