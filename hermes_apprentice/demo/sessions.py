"""Writes planned sessions into a Hermes home, through Hermes' own session store.

This is the only module that imports Hermes. Everything is written with the
public methods of its ``SessionDB``: the messages by the import that keeps
their times, tokens, chat identity and undone turns by the calls that the
running agent makes.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice.demo.request import DemoRequest, Task
from hermes_apprentice.demo.timeline import PlannedSession, Row, plan_timeline
from hermes_apprentice.errors import MissingExtraError, SessionDBError

MODEL = "anthropic/claude-sonnet-4.6"
"""The upstream model that the demo's operator uses."""

_BATCH = 200
"""Sessions per import; Hermes takes at most 500."""

_CHAT_ID = "700100200"


class SessionCounts(NamedTuple):
    """What was written."""

    sessions: int
    """Sessions of all sources."""

    messages: int
    """Rows of all roles, those taken back included."""

    exchanges: Counter[Task]
    """Complete turns per task."""

    ignored: Counter[str]
    """Turns that must not be learnt from, per reason: cron, subagent, undone, ..."""


def write_sessions(
    home: Path,
    requests: Iterable[DemoRequest],
    *,
    rng: random.Random,
    now: float,
    days: int = 21,
    model: str = MODEL,
    base_url: str = "https://openrouter.ai/api/v1",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> SessionCounts:
    """Write one session per request into ``home/state.db``.

    Args:
        home: The Hermes home; created if missing. ``HERMES_HOME`` is neither read nor set.
        requests: What was asked and answered.
        rng: The only source of randomness.
        now: The present, in seconds since 1970.
        days: How far back the history reaches.
        model: The configured model, as Hermes records it.
        base_url: The endpoint, as Hermes records it.
        on_progress: Called with the sessions completed so far and their total number.

    Raises:
        MissingExtraError: The package ``hermes-agent`` is not installed.
        SessionDBError: The database could not be written.
    """
    try:
        from hermes_state import SessionDB
    except ImportError as exc:
        raise MissingExtraError("The demo", "demo") from exc

    timeline = plan_timeline(rng, requests, now=now, days=days)
    try:
        store = SessionDB(home / "state.db")
    except (OSError, sqlite3.Error) as exc:
        raise SessionDBError(f"{home / 'state.db'} could not be opened: {exc}") from exc
    try:
        for batch in _batches(timeline.sessions, _BATCH):
            report = store.import_sessions([_as_export(session, model) for session in batch])
            if not report["ok"] or report["imported"] != len(batch):
                raise SessionDBError(f"Hermes refused sessions of the demo: {report['errors'][:3]}")
        for done, session in enumerate(timeline.sessions, start=1):
            _complete(store, session, model, base_url)
            on_progress(done, len(timeline.sessions))
        messages = int(store.message_count())
    except sqlite3.Error as exc:
        raise SessionDBError(f"{home / 'state.db'} could not be written: {exc}") from exc
    finally:
        store.close()
    return SessionCounts(
        sessions=len(timeline.sessions),
        messages=messages,
        exchanges=timeline.exchanges,
        ignored=timeline.ignored,
    )


def _batches(
    sessions: tuple[PlannedSession, ...], size: int
) -> Iterator[tuple[PlannedSession, ...]]:
    for start in range(0, len(sessions), size):
        yield sessions[start : start + size]


def _as_export(session: PlannedSession, model: str) -> dict[str, Any]:
    """Return the session in the form of ``hermes sessions export``."""
    config: dict[str, Any] = {"max_iterations": 90}
    if session.parent_session_id:
        config["_delegate_from"] = session.parent_session_id
    return {
        "id": session.session_id,
        "source": session.source,
        "model": model,
        "model_config": config,
        "system_prompt": f"You are Hermes Agent.\n\nModel: {model}",
        "parent_session_id": session.parent_session_id,
        "started_at": session.started_at,
        "ended_at": session.ended_at if session.end_reason else None,
        "end_reason": session.end_reason,
        "messages": [_as_message(row) for row in session.rows],
    }


def _as_message(row: Row) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": row.role,
        "content": row.content,
        "timestamp": row.timestamp,
        "finish_reason": row.finish_reason,
        "api_content": row.api_content,
        "platform_message_id": row.platform_message_id,
    }
    if row.tool_call is not None:
        call_id, name, arguments = row.tool_call
        message["tool_calls"] = [
            {
                "id": call_id,
                "call_id": call_id,
                "response_item_id": call_id.replace("call_", "fc_"),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        ]
    if row.answers_call is not None:
        message["tool_call_id"], message["tool_name"] = row.answers_call
    return message


def _complete(store: Any, session: PlannedSession, model: str, base_url: str) -> None:
    """Add what an import leaves out: usage, the chat's identity, the turn taken back."""
    if session.calls:
        store.update_token_counts(
            session.session_id,
            input_tokens=session.input_tokens,
            output_tokens=session.output_tokens,
            cache_read_tokens=session.cached_tokens,
            model=model,
            billing_provider="openrouter",
            billing_base_url=base_url,
            api_call_count=session.calls,
        )
    if session.source == "telegram":
        store.record_gateway_session_peer(
            session.session_id,
            source="telegram",
            user_id=_CHAT_ID,
            session_key=f"agent:main:telegram:dm:{_CHAT_ID}",
            chat_id=_CHAT_ID,
            chat_type="dm",
            display_name="Operator",
        )
    if session.take_back_from is not None:
        rows = store.get_messages(session.session_id)
        store.rewind_to_message(session.session_id, rows[session.take_back_from]["id"])
