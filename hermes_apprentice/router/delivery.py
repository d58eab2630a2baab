"""How an answer of ours reaches the client: its headers, and its stream.

Knows nothing about who answers, or why.
"""

from __future__ import annotations

from hermes_apprentice.domain.routing import Route
from hermes_apprentice.router.completions import Completion, as_events
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.router.wire import Send


async def send_stream(
    send: Send, completion: Completion, notes: list[tuple[bytes, bytes]], include_usage: bool
) -> None:
    """Send a specialist's answer as the events of a stream, all but the end of it."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                *notes,
            ],
        }
    )
    for event in as_events(completion, include_usage=include_usage):
        await send({"type": "http.response.body", "body": event, "more_body": True})


def notes_of(route: Route, loaded: Loaded | None) -> list[tuple[bytes, bytes]]:
    """Return our response headers: who answers, or was asked first."""
    notes = [(b"x-apprentice-route", route.value.encode())]
    if loaded is not None:
        notes.append((b"x-apprentice-specialist", loaded.slug.encode()))
        notes.append((b"x-apprentice-version", str(loaded.version).encode()))
        if loaded.digest:
            notes.append((b"x-apprentice-digest", loaded.digest.encode()))
    return notes
