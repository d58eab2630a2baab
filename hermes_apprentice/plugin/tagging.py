"""Name the session, the turn and the number of a model call in its headers.

The sidecar tells a user's request from a tool's continuation by them. Knows
nothing else about Hermes.
"""

from __future__ import annotations

from typing import Any

_HEADERS = {
    "X-Hermes-Session-Id": "session_id",
    "X-Hermes-Turn-Id": "turn_id",
    "X-Hermes-Api-Request-Id": "api_request_id",
    "X-Hermes-Api-Call": "api_call_count",
    "X-Hermes-Platform": "platform",
}


def tag_request(request: Any = None, **call: Any) -> dict[str, Any] | None:
    """Add headers that name the session, turn and number of a model call.

    Returns:
        The changed request, or ``None`` (leave it alone) where it is not a mapping.
    """
    if not isinstance(request, dict):
        return None
    headers = dict(request.get("extra_headers") or {})
    for header, key in _HEADERS.items():
        value = call.get(key)
        if value is not None and str(value).isascii():
            headers[header] = str(value)
    return {"request": {**request, "extra_headers": headers}, "source": "apprentice"}
