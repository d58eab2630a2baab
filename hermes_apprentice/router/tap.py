"""Read along while an answer passes through, without holding it up.

Keeps a bounded tail for the token counts, and the whole answer, bounded as well,
only where it will be compared. What cannot be understood is simply not heard:
a tap never raises.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from hermes_apprentice.domain.money import Usage
from hermes_apprentice.router.opening import Opening

TAIL_BYTES = 32_768
"""Enough for the last event of a stream, which carries the token counts."""

ANSWER_BYTES = 2_000_000
"""Longest answer, events and all, that is kept for a comparison."""

MOST_TOKENS = 1_000_000_000
"""A larger count is no count."""

_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a tap understood of one answer."""

    usage: Usage | None
    """The upstream's own token counts."""

    events: int
    """Server-sent events that passed; roughly one per token."""

    size: int
    """Bytes that passed, decompressed."""

    text: str | None = None
    """The whole answer's text; ``None`` if it was not kept, or is not complete."""

    tools: bool = False
    """Whether the upstream called tools instead of answering."""

    failed: bool = False
    """Whether it began with an error instead of an answer, in spite of its status."""


class Tap:
    """Listens to one answer."""

    def __init__(self, *, streamed: bool, encoding: str = "", keep: bool = False) -> None:
        self._streamed = streamed
        self._limit = ANSWER_BYTES if keep else TAIL_BYTES
        self._keep = keep
        self._deaf = encoding not in ("", "identity", "gzip", "deflate")
        self._inflate = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._events = 0
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Hear a piece of the answer."""
        if self._deaf:
            return
        if self._inflate is not None:
            chunk = self._decompress(chunk)
        self._size += len(chunk)
        if self._streamed:
            self._events += chunk.count(b"data:")
        self._pieces.append(chunk)
        self._held += len(chunk)
        while self._held - len(self._pieces[0]) >= self._limit:
            self._held -= len(self._pieces.popleft())

    def finish(self) -> Heard:
        """Say what was heard; call it once, after the last piece."""
        kept = b"".join(self._pieces)
        self._pieces.clear()
        whole = len(kept) == self._size
        usage = _usage_in_events(kept) if self._streamed else _usage_in_json(kept, whole)
        text, tools = None, False
        if self._keep and whole:
            text, tools = _answer_in_events(kept) if self._streamed else _answer_in_json(kept)
        failed = (
            whole
            and b'"error"' in kept
            and Opening(streamed=self._streamed).read(kept, ended=True) != 200
        )
        return Heard(
            usage=usage,
            events=self._events,
            size=self._size,
            text=text,
            tools=tools,
            failed=failed,
        )

    def _decompress(self, chunk: bytes) -> bytes:
        assert self._inflate is not None
        try:
            plain = self._inflate.decompress(chunk, ANSWER_BYTES)
        except zlib.error:
            self._deaf = True
            return b""
        # More than that from one piece is no answer but an attack on our memory.
        self._deaf = bool(self._inflate.unconsumed_tail)
        return plain


def _usage_in_events(kept: bytes) -> Usage | None:
    for line in reversed(kept.splitlines()):
        if line.startswith(b"data:") and b'"usage"' in line:
            usage = _usage(_loads(line[5:]))
            if usage is not None:
                return usage
    return None


def _usage_in_json(kept: bytes, whole: bool) -> Usage | None:
    if whole:
        return _usage(_loads(kept))
    start = kept.rfind(b'"usage"')
    if start < 0:
        return None
    brace = kept.find(b"{", start)
    try:
        value, _ = _DECODER.raw_decode(kept[brace:].decode(errors="replace"))
    except ValueError:
        return None
    return _usage({"usage": value})


def _usage(value: Any) -> Usage | None:
    found = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(found, dict):
        return None
    details = found.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    counts = (found.get("prompt_tokens"), found.get("completion_tokens"), cached or 0)
    if not all(isinstance(count, int) and 0 <= count <= MOST_TOKENS for count in counts):
        return None
    prompt, completion, cached = (int(count or 0) for count in counts)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


def _answer_in_json(kept: bytes) -> tuple[str | None, bool]:
    choice = _first_choice(_loads(kept))
    message = choice.get("message")
    if not isinstance(message, dict):
        return None, False
    tools = bool(message.get("tool_calls") or message.get("function_call"))
    content = message.get("content")
    finished = choice.get("finish_reason") == "stop"
    return (content if isinstance(content, str) and finished and not tools else None), tools


def _answer_in_events(kept: bytes) -> tuple[str | None, bool]:
    parts: list[str] = []
    tools, finished = False, False
    for line in kept.splitlines():
        if not line.startswith(b"data:"):
            continue
        choice = _first_choice(_loads(line[5:]))
        delta = choice.get("delta")
        if isinstance(delta, dict):
            tools = tools or bool(delta.get("tool_calls") or delta.get("function_call"))
            content = delta.get("content")
            if isinstance(content, str):
                parts.append(content)
        finished = finished or choice.get("finish_reason") == "stop"
    return ("".join(parts) if finished and not tools else None), tools


def _first_choice(value: Any) -> dict[str, Any]:
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return {}
    first: dict[str, Any] = choices[0]
    return first


def _loads(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
