"""Hermes' plugin entry point; the only module that knows Hermes' plugin API.

Imported by every ``hermes`` command, so it imports nothing but the standard
library. It tags model calls so that the sidecar can tell a user's turn from a
tool's continuation, and offers ``hermes apprentice ...``.
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


def register(ctx: Any) -> None:
    """Register with Hermes; what this Hermes does not offer is left out."""
    middleware = getattr(ctx, "register_middleware", None)
    if callable(middleware):
        middleware("llm_request", tag_request)
    command = getattr(ctx, "register_cli_command", None)
    if callable(command):
        command(
            name="apprentice",
            help="specialists for requests that keep coming back; see 'apprentice --help'",
            setup_fn=_take_everything,
            handler_fn=_run_command,
        )


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


def _take_everything(parser: Any) -> None:
    import argparse

    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="as for 'apprentice'")


def _run_command(arguments: Any) -> int:
    from hermes_apprentice.interfaces.cli.main import run

    return run(list(arguments.arguments))
