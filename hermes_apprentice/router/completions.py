"""A specialist's answer, and an error, in the shape of OpenAI's chat completions.

Pure: texts and counts go in, bytes come out. A stream is the same answer in
pieces: a role, the text, a finish reason, the counts where they were asked for,
and the end mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from hermes_apprentice.domain.money import Usage

PIECE_CHARS = 80
"""Longest piece of a streamed answer, in characters."""

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An answer to be sent."""

    completion_id: str
    """``chatcmpl-`` and something unique."""

    model: str
    """The model that the client asked for; it must not notice who answered."""

    text: str
    """The answer."""

    usage: Usage
    """Its tokens, estimated."""

    created: int
    """Unix time, whole seconds."""


def as_json(completion: Completion) -> bytes:
    """Return the body of an answer that is not streamed."""
    return orjson.dumps(
        {
            "id": completion.completion_id,
            "object": "chat.completion",
            "created": completion.created,
            "model": completion.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": completion.text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _usage(completion.usage),
        }
    )


def as_events(completion: Completion, *, include_usage: bool) -> Iterator[bytes]:
    """Yield the server-sent events of a streamed answer."""
    yield _event(completion, {"role": "assistant", "content": ""}, None, include_usage)
    for piece in pieces(completion.text):
        yield _event(completion, {"content": piece}, None, include_usage)
    yield _event(completion, {}, "stop", include_usage)
    if include_usage:
        yield _data({**_head(completion), "choices": [], "usage": _usage(completion.usage)})
    yield DONE


def pieces(text: str) -> Iterator[str]:
    """Cut a text at white space into pieces that add up to it again."""
    start = 0
    while start < len(text):
        end = start + PIECE_CHARS
        if end < len(text):
            cut = text.rfind(" ", start + 1, end)
            end = cut if cut > start else end
        yield text[start:end]
        start = end


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """Return an error in OpenAI's shape.

    Args:
        message: What is wrong and what to do about it.
        kind: ``invalid_request_error``, ``upstream_error``, ...
        code: A fixed word for programs.
    """
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _head(completion: Completion) -> dict[str, Any]:
    return {
        "id": completion.completion_id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": completion.model,
    }


def _event(
    completion: Completion, delta: dict[str, Any], finish: str | None, include_usage: bool
) -> bytes:
    chunk = _head(completion)
    chunk["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    if include_usage:
        chunk["usage"] = None
    return _data(chunk)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
