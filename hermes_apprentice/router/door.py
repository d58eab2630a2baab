"""Who may come in: looked at before anything else is done with a request.

Without tenants only this machine comes in, and no web page. With tenants a request needs
a key; the operator's endpoints need the operator's own where other machines can reach
them. Knows nothing about what happens inside.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from urllib.parse import urlsplit

from hermes_apprentice.router.catalogue import PROBES, is_model
from hermes_apprentice.router.headers import RawHeaders
from hermes_apprentice.router.refusals import FORBIDDEN, NO_ADMIN_KEY, NOT_SHARED, Refusal
from hermes_apprentice.router.tenants import Guest, Tenants
from hermes_apprentice.router.wire import Receive, Scope, Send, send_json

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

GUEST = "apprentice.guest"
"""Where a request's scope names the tenant that it is from."""

CHAT = "/v1/chat/completions"

STATELESS = frozenset(
    {"/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/rerank", "/v1/responses"}
)
"""What else tenants may post to. Other endpoints show or change what lies in the upstream's
account, such as files, batches, credits and keys, and that account is shared."""


class Door:
    """Lets requests in, or says what turns them away."""

    def __init__(self, tenants: Tenants, hosts: Collection[str], refused: Counter[str]) -> None:
        """Take what is needed.

        Args:
            tenants: Knows the keys.
            hosts: Names, beside this machine's own, under which clients with a key may ask.
            refused: Counts what is turned away for the want of a key or a quota, by reason.
        """
        self._tenants = tenants
        self._hosts = frozenset(name.lower() for name in hosts)
        self._refused = refused

    def closed_to(self, scope: Scope) -> Asgi | None:
        """Return what turns a request away, or ``None``; then its scope names its tenant."""
        headers, tenants = scope["headers"], self._tenants
        path = scope["path"]
        if path in PROBES:
            # Hermes looks for other kinds of servers before it has its key at hand.
            hosts = self._hosts if tenants.keys_needed else None
            return FORBIDDEN if from_elsewhere(headers, hosts) else None
        if path.startswith("/v1/"):
            if not tenants.keys_needed:
                return FORBIDDEN if from_elsewhere(headers) else None
            refusal = self._closed_to_tenant(scope)
        elif tenants.admin_key_needed:
            refusal = self._closed_to_operator(scope)
            if refusal is NO_ADMIN_KEY and path == "/healthz":
                return _alive
        else:
            return FORBIDDEN if from_elsewhere(headers) else None
        if refusal is not None:
            self._refused[refusal.reason] += 1
        return refusal

    def left(self, scope: Scope) -> None:
        """Note that a request is done, however it ended."""
        guest: Guest | None = scope.get(GUEST)
        if guest is not None:
            self._tenants.leave(guest)

    def _closed_to_tenant(self, scope: Scope) -> Refusal | None:
        headers = scope["headers"]
        if from_elsewhere(headers, self._hosts):
            return FORBIDDEN
        path, method = scope["path"], scope["method"]
        chat = path == CHAT and method == "POST"
        free = method == "GET" and (path == "/v1/models" or is_model(path))
        key, named = _key_and_name(headers)
        found = self._tenants.admit(key, named, metered=chat or free)
        if not isinstance(found, Guest):
            return found
        scope[GUEST] = found
        if not (chat or free or (method == "POST" and path in STATELESS)):
            return NOT_SHARED
        return None

    def _closed_to_operator(self, scope: Scope) -> Refusal | None:
        headers = scope["headers"]
        if from_elsewhere(headers, self._hosts):
            return FORBIDDEN
        return self._tenants.admit_operator(_operators_key(headers))


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    """Say to those who watch over processes, and have no key, that this one runs."""
    await send_json(send, 200, b'{"status":"ok"}')


def from_elsewhere(headers: RawHeaders, hosts: Collection[str] | None = None) -> bool:
    """Whether a request names a host that is none of ours, or comes from a web page.

    A page that the operator visits could otherwise spend money through the sidecar, by
    posting to it or by pointing its own name at this address.

    Args:
        headers: The client's.
        hosts: Names that are ours beside this machine's, and plain addresses with them, since
            nobody can point an address somewhere else; ``None`` leaves only this machine's.
    """
    host = b""
    for name, value in headers:
        if name == b"host":
            if not (_names_local(value) or (hosts is not None and _names_one(value, hosts))):
                return True
            host = value
        elif name == b"origin":
            place = value.partition(b"://")[2]
            if not _names_local(place) and not (hosts is not None and place and place == host):
                return True
        elif name == b"sec-fetch-site" and value not in (b"none", b"same-origin"):
            return True
    return False


@lru_cache(maxsize=256)
def _names_local(value: bytes) -> bool:
    return is_local(_hostname(value))


def _names_one(value: bytes, hosts: Collection[str]) -> bool:
    name = _hostname(value)
    try:
        return name in hosts or ipaddress.ip_address(name) is not None
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _hostname(value: bytes) -> str:
    """Return the name in a ``Host`` header, empty where there is none to trust."""
    try:
        place = urlsplit("//" + value.decode("ascii"))
        return "" if place.username is not None else place.hostname or ""
    except ValueError:
        return ""


def is_local(name: str) -> bool:
    """Whether a host's name or address is this machine's own loopback."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _key_and_name(headers: RawHeaders) -> tuple[str | None, str | None]:
    """Return the key and the tenant that a request names; with two keys, none."""
    keys, named = [], None
    for name, value in headers:
        if name == b"authorization":
            keys.append(value)
        elif name == b"x-apprentice-tenant":
            text = value.decode("latin-1").strip()
            named = text if named in (None, text) else ""
    return (_bearer(keys[0]) if len(keys) == 1 else None), named


def _bearer(value: bytes) -> str | None:
    scheme, _, rest = value.strip().partition(b" ")
    return rest.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def _operators_key(headers: RawHeaders) -> str | None:
    """Return a bearer's key, or the password that a browser asked for."""
    key, _ = _key_and_name(headers)
    if key is not None:
        return key
    for name, value in headers:
        scheme, _, rest = value.strip().partition(b" ")
        if name == b"authorization" and scheme.lower() == b"basic":
            try:
                pair = base64.b64decode(rest.strip(), validate=True)
            except binascii.Error:
                return None
            return pair.partition(b":")[2].decode("latin-1")
    return None
