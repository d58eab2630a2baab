"""Who shares a sidecar, what each may use, and the keys that prove who asks.

Pure: randomness comes in as an argument, and nothing is stored here. A key holds 256
random bits, which nobody can guess or search through, so one pass of sha256 is kept of
it: a slow hash, made for passwords that people choose, would only slow every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from hermes_apprentice.errors import TenantError

PREFIX = "ap-"
"""What every key begins with."""

_DAY = 86_400
_ID_BYTES = 5
_SECRET_BYTES = 32
_KEY = re.compile(r"ap-([0-9a-f]{10})-([0-9a-f]{64})")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_LARGEST = 2**53
_NOBODY = bytes(32)


class IssuedKey(NamedTuple):
    """A new key: the only moment at which its text is known."""

    key_id: str
    """Names the key; no secret."""

    text: str
    """What the client sends: ``ap-``, the id, ``-``, the secret."""

    digest: bytes
    """What is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a tenant may use; ``None`` is without a limit. Days and months are UTC's."""

    per_minute: int | None = None
    """Requests per minute on average."""

    burst: int | None = None
    """Requests at once; by default a quarter of ``per_minute``, at least 1."""

    daily_requests: int | None = None
    """Requests per day."""

    monthly_requests: int | None = None
    """Requests per month."""

    daily_tokens: int | None = None
    """Tokens that the upstream reads and writes per day."""

    monthly_tokens: int | None = None
    """The same per month."""

    monthly_budget: int | None = None
    """What the upstream may charge per month, micro-dollars."""

    @property
    def bucket(self) -> int:
        """Requests at once, where there is a rate."""
        return self.burst or max(1, (self.per_minute or 0) // 4)

    @property
    def counted(self) -> bool:
        """Whether anything is counted that must survive a restart."""
        return self.metered or not (self.daily_requests is None and self.monthly_requests is None)

    @property
    def metered(self) -> bool:
        """Whether what the upstream charges counts, in tokens or in money."""
        return not (
            self.daily_tokens is None
            and self.monthly_tokens is None
            and self.monthly_budget is None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One of those who share a sidecar."""

    name: str
    """In headers, commands and the ledger."""

    limits: Limits
    """What it may use."""

    created_at: float
    """Unix time."""

    revoked_at: float | None = None
    """Unix time from which none of its keys counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as it is stored."""

    key_id: str
    """Names it."""

    tenant: str | None
    """Whose it is; ``None`` is the operator, for the admin endpoints."""

    digest: bytes
    """Hash of the whole key."""

    created_at: float
    """Unix time."""

    ends_at: float | None = None
    """Unix time from which it no longer counts; ``None`` is never."""


@dataclass(frozen=True, slots=True)
class Use:
    """What was used in a period."""

    requests: int = 0
    """Requests that were let in."""

    tokens: int = 0
    """Tokens that the upstream read and wrote."""

    cost: int = 0
    """What it charged, micro-dollars."""

    def plus(self, other: Use) -> Use:
        """Return the sum of both."""
        return Use(
            self.requests + other.requests, self.tokens + other.tokens, self.cost + other.cost
        )


class Spent(NamedTuple):
    """A limit that is reached."""

    what: str
    """The limit, in words."""

    until: float
    """Unix time from which there is room again."""


class Periods(NamedTuple):
    """The day and the month that a moment lies in."""

    day: str
    """``YYYY-MM-DD``."""

    month: str
    """``YYYY-MM``."""

    day_ends: float
    """Unix time at which the next day begins."""

    month_ends: float
    """Unix time at which the next month begins."""


def new_key(random_bytes: Callable[[int], bytes]) -> IssuedKey:
    """Make a key.

    Args:
        random_bytes: Returns that many bytes; outside tests ``secrets.token_bytes``.
    """
    key_id = random_bytes(_ID_BYTES).hex()
    text = f"{PREFIX}{key_id}-{random_bytes(_SECRET_BYTES).hex()}"
    return IssuedKey(key_id=key_id, text=text, digest=_digest(text))


def key_id_of(text: str) -> str | None:
    """Return the id that a key names, or ``None`` where the text is no key of ours."""
    found = _KEY.fullmatch(text) if len(text) < 100 else None
    return found[1] if found else None


def proves(text: str, digest: bytes | None) -> bool:
    """Whether a key is the one of which a digest was stored; as slow for ``None``."""
    same = hmac.compare_digest(_digest(text), _NOBODY if digest is None else digest)
    return same and digest is not None


def checked_name(name: str) -> str:
    """Return a tenant's name as it is.

    Raises:
        TenantError: It does not fit into headers, commands and messages.
    """
    if not _NAME.fullmatch(name):
        raise TenantError(
            f"'{name[:40]}' cannot name a tenant: use up to 32 small letters, digits and "
            "hyphens, with a letter or a digit at both ends."
        )
    return name


def checked_limits(limits: Limits) -> Limits:
    """Return limits as they are.

    Raises:
        TenantError: One of them makes no sense.
    """
    for name in Limits.__slots__:
        value = getattr(limits, name)
        least = 1 if name in ("per_minute", "burst") else 0
        if value is not None and not (type(value) is int and least <= value <= _LARGEST):
            raise TenantError(f"{name} must be a whole number from {least} on, not {value}.")
    if limits.burst is not None and limits.per_minute is None:
        raise TenantError("A burst needs a rate: give the requests per minute as well.")
    return limits


def with_changes(
    limits: Limits, changes: Mapping[str, int | None], lifted: Collection[str]
) -> Limits:
    """Return limits with some of them changed and some of them lifted.

    Args:
        limits: As they are.
        changes: New values by name; ``None`` leaves one as it is.
        lifted: Names of those that end.

    Raises:
        TenantError: There is no such limit, or the result makes no sense.
    """
    unknown = sorted(set(lifted) - set(Limits.__slots__))
    if unknown:
        known = ", ".join(name.replace("_", "-") for name in Limits.__slots__)
        raise TenantError(f"There is no limit '{unknown[0]}'; known: {known}.")
    given: dict[str, int | None] = {
        name: value for name, value in changes.items() if value is not None
    }
    given |= dict.fromkeys(lifted)
    return checked_limits(replace(limits, **given))


def periods_at(now: float) -> Periods:
    """Return the day and the month of a Unix time, UTC."""
    moment = datetime.fromtimestamp(now, UTC)
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(
        year=first.year + first.month // 12, month=first.month % 12 + 1
    ).timestamp()
    return Periods(
        day=moment.strftime("%Y-%m-%d"),
        month=moment.strftime("%Y-%m"),
        day_ends=(now // _DAY + 1) * _DAY,
        month_ends=following,
    )


def reached(limits: Limits, day: Use, month: Use, periods: Periods) -> Spent | None:
    """Return the limit that leaves no room for another request, the longest one first."""
    checks = (
        (limits.monthly_budget, month.cost, "budget of this month", periods.month_ends),
        (limits.monthly_tokens, month.tokens, "tokens of this month", periods.month_ends),
        (limits.monthly_requests, month.requests, "requests of this month", periods.month_ends),
        (limits.daily_tokens, day.tokens, "tokens of this day", periods.day_ends),
        (limits.daily_requests, day.requests, "requests of this day", periods.day_ends),
    )
    for limit, used, what, until in checks:
        if limit is not None and used >= limit:
            return Spent(what, until)
    return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
