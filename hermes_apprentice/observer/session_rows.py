"""The rows of Hermes' session database as values, and the SQL that gives them.

Knows which columns each version of Hermes may lack, and what to read instead.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

CHARS = "COALESCE(LENGTH(content), 0) + COALESCE(LENGTH(tool_calls), 0)"
"""SQL for the characters that a message adds to the conversation, tool calls included."""


_LATEST = 253_402_300_000.0
"""The end of the year 9999, after which no day can be named."""


class RowState(IntEnum):
    """What became of a message."""

    LIVE = 0
    """Part of the conversation that the model sees."""

    ARCHIVED = 1
    """Summarised by a compaction; still said, still true."""

    WITHDRAWN = 2
    """The user took it back."""


STATES = tuple(RowState)
"""By their numbers; quicker than calling the enumeration for every row."""


class MessageRow(NamedTuple):
    """One row of ``messages``."""

    row_id: int
    session_id: str
    role: str
    content: str | None
    """Text of user and assistant rows; ``None`` for tools, whose text is not needed."""
    chars: int
    """Characters that the row adds to the conversation, tool calls included."""
    calls_tools: bool
    tool_call_id: str | None
    timestamp: float
    token_count: int | None
    finish_reason: str | None
    observed: bool
    """Said in a group without addressing Hermes."""
    state: RowState


class SessionRow(NamedTuple):
    """One row of ``sessions``."""

    session_id: str
    source: str
    model: str
    started_at: float
    parent: str | None
    """The session that this one was branched off or continues, if its rows were copied."""
    prompt_tokens: int
    """Sum over the calls so far, cached tokens included; 0 where it is not recorded."""
    output_tokens: int
    reasoning_tokens: int
    calls: int
    """Model calls so far; 0 where it is not recorded."""


class RowPlace(NamedTuple):
    """Where a message is now, and its state."""

    session_id: str
    state: RowState
    timestamp: float


def message_columns(columns: set[str]) -> str:
    """Return what to select for ``to_message`` from a table with these columns."""

    def optional(name: str, default: str = "NULL") -> str:
        return name if name in columns else default

    return ", ".join(
        (
            "id",
            "session_id",
            "role",
            "CASE WHEN role IN ('user', 'assistant') THEN content END",
            CHARS,
            "COALESCE(tool_calls, '') NOT IN ('', '[]', 'null')",
            "tool_call_id",
            "timestamp",
            optional("token_count"),
            optional("finish_reason"),
            optional("observed"),
            state_column(columns),
        )
    )


def state_column(columns: set[str]) -> str:
    """Return SQL for a message's ``RowState``."""
    if "active" not in columns:
        return str(int(RowState.LIVE))
    archived = "COALESCE(compacted, 0)" if "compacted" in columns else "0"
    return (
        f"CASE WHEN COALESCE(active, 1) THEN {RowState.LIVE:d} "
        f"WHEN {archived} THEN {RowState.ARCHIVED:d} ELSE {RowState.WITHDRAWN:d} END"
    )


def session_columns(columns: set[str]) -> str:
    """Return what to select for ``to_session`` from a table with these columns."""

    def number(*names: str) -> str:
        known = [f"COALESCE({name}, 0)" for name in names if name in columns]
        return " + ".join(known) or "0"

    return ", ".join(
        (
            "id",
            "source",
            "model",
            "started_at",
            "parent_session_id" if "parent_session_id" in columns else "NULL",
            "model_config" if "model_config" in columns else "NULL",
            number("input_tokens", "cache_read_tokens", "cache_write_tokens"),
            number("output_tokens"),
            number("reasoning_tokens"),
            number("api_call_count"),
        )
    )


def moment(value: Any) -> float:
    """Return a stored time as Unix seconds, 0 for what is none.

    Other programs write into the database as well, and SQLite keeps whatever it is given; a
    single such row must not keep all others from being read.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = datetime.fromisoformat(value).timestamp()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return seconds if 0.0 <= seconds <= _LATEST else 0.0


def to_message(row: Any) -> MessageRow:
    """Return a selected row of ``messages`` as a value."""
    content = row[3]
    if content is not None and not isinstance(content, str):
        content = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
    return MessageRow(
        row[0],
        row[1],
        row[2],
        content,
        row[4],
        bool(row[5]),
        row[6],
        moment(row[7]),
        row[8],
        row[9],
        bool(row[10]),
        STATES[row[11]],
    )


def to_session(row: Any) -> SessionRow:
    """Return a selected row of ``sessions`` as a value."""
    config = parse_config(row[5])
    parent = config.get("_branched_from") or row[4]
    return SessionRow(
        session_id=row[0],
        source=row[1] or "",
        model=row[2] or "",
        started_at=moment(row[3]),
        # What a session delegates to starts empty; it has no rows of its parent.
        parent=parent if isinstance(parent, str) and "_delegate_from" not in config else None,
        prompt_tokens=row[6],
        output_tokens=row[7],
        reasoning_tokens=row[8],
        calls=row[9],
    )


def parse_config(text: Any) -> dict[str, Any]:
    """Return a session's ``model_config``, empty if it is missing or no object."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
