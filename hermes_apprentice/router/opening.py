"""Whether a completion that came with status 200 begins with an error instead of an answer.

Endpoints that stand before others, such as OpenRouter, have sent their status before the model's
own endpoint fails. What went wrong then stands in the body: an object with ``error`` and no
choices, or as the first event of the stream, after comments that only keep the connection open
(https://openrouter.ai/docs/api/reference/streaming). Once there is a word of an answer, nothing
here says anything any more. Knows nothing about connections.
"""

from __future__ import annotations

import zlib
from typing import Any

import orjson

LONGEST = 65_536
"""Bytes in which an answer has to begin; what is longer is an answer."""

HOLD_SECONDS = 15.0
"""How long what begins with comments is held back; then it passes, whatever it turns out to be."""

FAILED = 502
"""The status of an error that names none: the model's own endpoint failed."""

_NAMED = {
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 403,
}
"""Codes and types that say that it is about the request, or about its rate."""

_WORDS = ("content", "tool_calls", "function_call", "reasoning", "reasoning_content", "refusal")


class Opening:
    """The beginning of one answer."""

    def __init__(self, *, streamed: bool, encoding: str = "") -> None:
        self._streamed = streamed
        name = encoding.strip().lower()
        self._deaf = name not in ("", "identity", "gzip", "deflate")
        self._inflate = zlib.decompressobj(47) if name in ("gzip", "deflate") else None
        self._held = b""

    def read(self, piece: bytes, *, ended: bool) -> int | None:
        """Read on.

        Args:
            piece: What has come since the last time.
            ended: Whether that was all.

        Returns:
            200 for an answer, the status of the error if it is one, ``None`` while that is open.
        """
        if self._inflate is not None and not self._deaf:
            try:
                piece = self._inflate.decompress(piece, LONGEST)
            except zlib.error:
                self._deaf = True
        if self._deaf:
            return 200
        self._held += piece
        found = self._event(ended) if self._streamed else self._object(ended)
        return 200 if found is None and (ended or len(self._held) > LONGEST) else found

    def _event(self, ended: bool) -> int | None:
        lines = self._held.splitlines(keepends=True)
        for line in lines:
            if not (ended or line.endswith((b"\n", b"\r"))):
                return None
            if line.startswith(b"data:") and line[5:].strip():
                return _status(line[5:])
        return None

    def _object(self, ended: bool) -> int | None:
        begins = self._held.lstrip()[:1]
        if begins != b"{":
            return 200 if begins else None
        if b'"error"' in self._held:
            # An error is short, and an answer that has such a field comes soon as well.
            return _status(self._held) if ended else None
        return 200 if ended or b'"choices"' in self._held else None


def _status(data: bytes) -> int:
    """Return 200 for an answer, or the status of an error."""
    if b'"error"' not in data:
        return 200
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return 200
    if not isinstance(value, dict) or _says_something(value.get("choices")):
        return 200
    error = value.get("error")
    if value.get("object") == "error":  # as vLLM says it
        error = error or value
    if not error or not isinstance(error, dict | str):
        return 200
    return _status_of(error) if isinstance(error, dict) else FAILED


def _status_of(error: dict[str, Any]) -> int:
    for found in (error.get("code"), error.get("status"), error.get("type")):
        if isinstance(found, str):
            if found in _NAMED:
                return _NAMED[found]
            found = int(found) if found.isdecimal() and len(found) == 3 else None
        if isinstance(found, int) and 400 <= found < 600:
            return found
    return FAILED


def _says_something(choices: Any) -> bool:
    if not isinstance(choices, list):
        return False
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        for said in (choice.get("delta"), choice.get("message")):
            if isinstance(said, dict) and any(said.get(word) for word in _WORDS):
                return True
    return False
