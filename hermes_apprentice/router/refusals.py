"""Requests that are turned away, in OpenAI's error shape.

A client of OpenAI's library raises the exception that fits, and waits or gives up as
told. Which key was wrong, and in what way, is not said.
"""

from __future__ import annotations

from dataclasses import dataclass

from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.wire import HeaderList, Receive, Scope, Send, send_json

_FINAL = (b"x-should-retry", b"false")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that is the same for every request; an ASGI application."""

    status: int
    """HTTP status."""

    body: bytes
    """In OpenAI's error shape."""

    reason: str
    """A fixed word, for the counters."""

    headers: HeaderList = ()
    """Further headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send_json(send, self.status, self.body, self.headers)


def _refusal(
    status: int, reason: str, text: str, kind: str, code: str, headers: HeaderList = ()
) -> Refusal:
    return Refusal(status=status, reason=reason, body=error_body(text, kind, code), headers=headers)


FORBIDDEN = _refusal(
    403,
    "forbidden",
    "Requests from web pages and for other hosts are refused.",
    "invalid_request_error",
    "forbidden",
)
"""A page in somebody's browser, or another name than this machine's."""

NO_KEY = _refusal(
    401,
    "no_key",
    "This sidecar is shared: send your tenant's key as 'Authorization: Bearer ap-...'.",
    "invalid_request_error",
    "invalid_api_key",
    ((b"www-authenticate", b"Bearer"),),
)
"""No key."""

WRONG_KEY = _refusal(
    401,
    "wrong_key",
    "This key is not valid here, or not for the tenant named in X-Apprentice-Tenant. "
    "Ask whoever runs the sidecar: apprentice tenants rotate.",
    "invalid_request_error",
    "invalid_api_key",
    ((b"www-authenticate", b'Bearer error="invalid_token"'),),
)
"""A wrong key, an old one, a revoked one, or another tenant's."""

NO_ADMIN_KEY = _refusal(
    401,
    "no_admin_key",
    "The operator's pages need the operator's key: apprentice tenants admin-key.",
    "invalid_request_error",
    "invalid_api_key",
    ((b"www-authenticate", b'Basic realm="apprentice", charset="UTF-8"'),),
)
"""No operator's key, or a wrong one; a browser asks for it as a password."""

UNREADABLE = _refusal(
    503,
    "unreadable",
    "Keys and quotas cannot be read at the moment, so nobody is let in; see /healthz.",
    "server_error",
    "tenants_unreadable",
    ((b"retry-after", b"5"),),
)
"""The database could not be read for too long."""

NOT_METERED = _refusal(
    403,
    "not_metered",
    "Your tokens or your budget are limited, and what this endpoint costs is not counted; "
    "use /v1/chat/completions.",
    "invalid_request_error",
    "not_metered",
)
"""An endpoint whose charges nobody counts, for a tenant whose charges must be."""

NO_PRICE = _refusal(
    403,
    "no_price",
    "Your budget is limited, and what this request would cost is not known here: send it "
    "uncompressed and without paid extras, and name a model that has a price.",
    "invalid_request_error",
    "model_without_price",
)
"""A model whose charges nobody can count."""

NOT_SHARED = _refusal(
    404,
    "not_shared",
    "This endpoint is not open to tenants: it may show what others stored upstream.",
    "invalid_request_error",
    "not_found",
)
"""An endpoint that belongs to the upstream's account, which all tenants share."""


def too_often(seconds: int) -> Refusal:
    """Refuse a request that came too soon."""
    text = f"Your tenant's rate is used up; try again in {seconds} s."
    return _refusal(
        429,
        "rate",
        text,
        "requests",
        "rate_limit_exceeded",
        ((b"retry-after", b"%d" % seconds),),
    )


def spent(what: str, seconds: int) -> Refusal:
    """Refuse a request that there is no room for until a day or a month is over."""
    text = f"Nothing is left of your tenant's {what}; there is room again in {_span(seconds)}."
    return _refusal(
        429,
        "quota",
        text,
        "insufficient_quota",
        "insufficient_quota",
        ((b"retry-after", b"%d" % seconds), _FINAL),
    )


def _span(seconds: int) -> str:
    if seconds < 7_200:
        return f"{-(-seconds // 60)} minutes"
    if seconds < 172_800:
        return f"{-(-seconds // 3_600)} hours"
    return f"{-(-seconds // 86_400)} days"
