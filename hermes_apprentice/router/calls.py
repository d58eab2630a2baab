"""What does Hermes want with this request?

Pure: headers and a parsed body go in, a ``Call`` comes out. The plugin's headers
decide where they are present; without them the shape of the conversation does.
In doubt a call is not a first call, and so goes to the upstream. Knows nothing
about specialists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hermes_apprentice.domain.exchange import typed_by_a_person, user_text
from hermes_apprentice.domain.routing import CallKind
from hermes_apprentice.router.body import Body

SESSION = b"x-hermes-session-id"
CALL_NUMBER = b"x-hermes-api-call"
PLATFORM = b"x-hermes-platform"

_REVIEW = "Review the conversation above"
_CRON = "[IMPORTANT: You are running as a scheduled cron job"
# Towards the end of the system prompt that Hermes' delegate tool gives to a subagent.
_SUBAGENT = "Your response is returned to the parent agent"
_SUBAGENT_WITHIN = 8_000
_READ_TIMEOUT = b"x-stainless-read-timeout"
_SHORT_PATIENCE = 300
_CURATOR = "You are running as Hermes' background skill CURATOR"
# Some models take instructions under the second name.
_INSTRUCTIONS = ("system", "developer")
_LONGEST_NAME = 200
# By these, servers such as vLLM and llama.cpp take what an answer must look like.
_CONSTRAINTS = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "grammar",
    "json_schema",
)
_PLATFORM_KINDS = {
    "cron": CallKind.CRON,
    "subagent": CallKind.SUBAGENT,
    "curator": CallKind.REVIEW,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request for a chat completion, understood."""

    kind: CallKind
    """What Hermes wants."""

    model: str
    """The model it names."""

    session: str
    """Hermes' session, or a fingerprint of the conversation's beginning."""

    request: str = ""
    """What the user typed; empty unless it is a first call."""

    turn_index: int = 0
    """How many user turns came before it."""

    stream: bool = False
    """Whether the answer must be streamed."""

    include_usage: bool = False
    """Whether the stream must end with the token counts."""

    max_tokens: int | None = None
    """The longest answer allowed, if the request says so."""

    refusal: str | None = None
    """A fixed word: why no specialist may answer a first call, such as ``attachment``."""


def understood(
    headers: Mapping[bytes, bytes], body: bytes | None
) -> tuple[Call, Mapping[str, Any]] | tuple[None, Mapping[str, Any]]:
    """Parse a body and read it as a call.

    Args:
        headers: Of the request, names in lower case.
        body: Decompressed; ``None`` where only the upstream may understand its compression.

    Returns:
        The call and the parsed body; a call of ``None`` means that it is not a JSON object.
    """
    if body is None:
        return Call(kind=CallKind.OTHER, model="", session=""), {}
    try:
        parsed = Body.parse(body)
    except ValueError:
        # Python writes NaN and lone surrogates, which some endpoints accept: theirs to judge.
        try:
            lenient = json.loads(body)
        except (ValueError, RecursionError):
            return None, {}
        if not isinstance(lenient, dict):
            return None, {}
        return Call(kind=CallKind.OTHER, model=model_name(lenient), session=""), lenient
    return read_call(headers, parsed), parsed


def read_call(headers: Mapping[bytes, bytes], body: Mapping[str, Any]) -> Call:
    """Understand a request.

    Args:
        headers: By lower-case name.
        body: The parsed JSON object; nothing about its contents is assumed.
    """
    messages = body.get("messages")
    name = model_name(body)
    if not isinstance(messages, list) or not messages:
        return Call(kind=CallKind.OTHER, model=name, session=_tagged_session(headers))
    position, asked = _last_user_message(messages)
    kind = _kind(headers, body, messages, position, asked)
    session = _tagged_session(headers) or _fingerprint(messages)
    options = body.get("stream_options")
    stream = body.get("stream") is True
    return Call(
        kind=kind,
        model=name,
        session=session,
        request=user_text(asked) if kind is CallKind.FIRST else "",
        turn_index=_turns_before(messages, position) if kind is CallKind.FIRST else 0,
        stream=stream,
        include_usage=stream and isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=_limit(body),
        refusal=_refusal(body, messages[position]) if kind is CallKind.FIRST else None,
    )


def model_name(body: Mapping[str, Any]) -> str:
    """Return the model that a body names, fit to be stored: bounded, and valid Unicode."""
    model = body.get("model")
    if not isinstance(model, str):
        return ""
    return model[:_LONGEST_NAME].encode(errors="replace").decode()


def _kind(
    headers: Mapping[bytes, bytes],
    body: Mapping[str, Any],
    messages: list[Any],
    position: int,
    asked: str,
) -> CallKind:
    if position < 0:
        return CallKind.OTHER
    if asked.startswith((_REVIEW, _CURATOR)):
        return CallKind.REVIEW
    if asked.startswith(_CRON):
        return CallKind.CRON
    by_platform = _PLATFORM_KINDS.get(headers.get(PLATFORM, b"").decode("latin-1").lower())
    if by_platform is not None:
        return by_platform
    number = _call_number(headers)
    if number is None and (not _has_tools(body) or _is_sampling(headers, body, messages[0])):
        return CallKind.AUXILIARY
    if _is_subagent(messages[0]):
        return CallKind.SUBAGENT
    if position != len(messages) - 1:
        return CallKind.CONTINUATION
    if number is not None and number != 1:
        return CallKind.CONTINUATION
    # Hermes writes user messages of its own, to have a cut-off answer finished.
    return CallKind.FIRST if typed_by_a_person(asked) else CallKind.CONTINUATION


def _call_number(headers: Mapping[bytes, bytes]) -> int | None:
    """The number of the call within its turn, if the plugin wrote one."""
    value = headers.get(CALL_NUMBER)
    if value is None:
        return None
    # A number that is none still says that the plugin is there: not a first call.
    return int(value) if value.isdigit() and len(value) < 6 else 0


def _tagged_session(headers: Mapping[bytes, bytes]) -> str:
    return headers.get(SESSION, b"").decode("latin-1")[:_LONGEST_NAME]


def _has_tools(body: Mapping[str, Any]) -> bool:
    if isinstance(body, Body):  # without reading what may be most of the request
        return body.filled("tools") or body.filled("functions")
    return bool(body.get("tools") or body.get("functions"))


def _is_sampling(headers: Mapping[bytes, bytes], body: Mapping[str, Any], first: Any) -> bool:
    """Whether Hermes asks in the name of an MCP server, which may offer tools of its own.

    Unlike Hermes' own loop it does so without a stream, without instructions, and waits for a
    short time only; its client says how long.
    """
    if body.get("stream") is True or _instructed(first):
        return False
    patience = headers.get(_READ_TIMEOUT, b"").partition(b".")[0]
    return patience.isdigit() and len(patience) < 4 and int(patience) <= _SHORT_PATIENCE


def _instructed(first: Any) -> bool:
    return isinstance(first, dict) and first.get("role") in _INSTRUCTIONS


def _is_subagent(first: Any) -> bool:
    return _instructed(first) and _SUBAGENT in _text(first.get("content"))[-_SUBAGENT_WITHIN:]


def _last_user_message(messages: list[Any]) -> tuple[int, str]:
    """Return the position and text of the last user message, ``(-1, "")`` without one."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if isinstance(message, dict) and message.get("role") == "user":
            return position, _text(message.get("content"))
    return -1, ""


def _turns_before(messages: list[Any], position: int) -> int:
    return sum(
        isinstance(message, dict)
        and message.get("role") == "user"
        and typed_by_a_person(_text(message.get("content")))
        for message in messages[:position]
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))


def _fingerprint(messages: list[Any]) -> str:
    """Name a conversation by how it began: that does not change while it goes on."""
    digest = hashlib.blake2b(digest_size=12)
    for message in messages:
        if isinstance(message, dict) and message.get("role") in (*_INSTRUCTIONS, "user"):
            digest.update(user_text(_text(message.get("content"))).encode(errors="replace"))
            digest.update(b"\0")
            if message["role"] == "user":
                break
    return "fp-" + digest.hexdigest()


def _limit(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _refusal(body: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """Say which wish of the request only the upstream can grant."""
    content = message.get("content")
    if isinstance(content, list) and any(
        not isinstance(part, dict) or part.get("type") != "text" for part in content
    ):
        return "attachment"
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") != "text":
        return "response_format"
    if any(body.get(name) for name in _CONSTRAINTS):
        return "response_format"
    for name in ("tool_choice", "function_call"):
        if body.get(name) not in (None, "auto", "none"):
            return "tool_choice"
    if "web_search_options" in body or body.get("plugins"):
        return "extras"
    if body.get("n") not in (None, 1):
        return "several_answers"
    if body.get("logprobs") or body.get("top_logprobs"):
        return "logprobs"
    if body.get("stop"):
        return "stop"
    modalities = body.get("modalities")
    if body.get("audio") or (modalities is not None and modalities != ["text"]):
        return "modalities"
    return None
