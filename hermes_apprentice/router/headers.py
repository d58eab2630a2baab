"""Which headers may pass, in both directions.

Pure. Ours and the client's credentials never reach the upstream; what belongs to
one connection never reaches the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from multidict import CIMultiDict, CIMultiDictProxy

RawHeaders = Iterable[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NEVER_FORWARDED = _HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"authorization",
    b"cookie",
    b"x-auth-token",
    b"x-access-token",
}
_KEYS = (b"api-key", b"apikey", b"api-token", b"subscription-key")
"""How the names end under which providers take their keys, such as ``x-goog-api-key``."""

_OURS = (b"x-apprentice-", b"x-hermes-")
_READABLE = frozenset({"gzip", "deflate", "identity"})


def for_upstream(headers: RawHeaders, api_key: str | None) -> CIMultiDict[str]:
    """Return the headers to send upstream, with the configured key in place of the client's."""
    sent: CIMultiDict[str] = CIMultiDict()
    named: list[bytes] = []
    for name, value in headers:
        if name in _NEVER_FORWARDED or name.startswith(_OURS) or name.endswith(_KEYS):
            if name == b"connection":
                named += (part.strip().lower() for part in value.split(b","))
            continue
        sent.add(name.decode("latin-1"), value.decode("latin-1"))
    for name in named:
        sent.popall(name.decode("latin-1"), None)
    accepted = sent.get("accept-encoding")
    if accepted is not None:
        # Only what the tap can read along with.
        sent["accept-encoding"] = _readable(accepted)
    if api_key is not None:
        sent["authorization"] = f"Bearer {api_key}"
    return sent


def uncompressed(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return a client's headers, asking for an answer that is not compressed."""
    kept = [(name, value) for name, value in headers if name != b"accept-encoding"]
    return [*kept, (b"accept-encoding", b"identity")]


def for_client(headers: CIMultiDictProxy[str]) -> list[tuple[bytes, bytes]]:
    """Return the upstream's headers as they go to the client."""
    passed = [
        (name.lower().encode("latin-1"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers.items()
    ]
    named = {
        part.strip().lower()
        for name, value in passed
        if name == b"connection"
        for part in value.split(b",")
    }
    return [
        (name, value)
        for name, value in passed
        if name not in _HOP_BY_HOP and name not in named and not name.startswith(b"x-apprentice-")
    ]


@lru_cache(maxsize=64)
def _readable(accepted: str) -> str:
    kept = [part.strip() for part in accepted.split(",") if part.split(";")[0].strip() in _READABLE]
    return ", ".join(kept) or "identity"
