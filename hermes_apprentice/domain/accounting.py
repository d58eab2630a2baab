"""What is written down about every routed call: its tokens and money, and who agreed.

Values only; they mirror the tables ``ledger``, ``comparisons``, ``attempts`` and ``repeats``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.routing import CallKind, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One routed call. Amounts are micro-dollars; ``None`` is unknown, never zero."""

    at: float
    """Unix time at which the call arrived."""

    request_id: str
    """The sidecar's own name for the call; an audit carries that of the answer it checks."""

    session: str
    """Hermes' session, or a fingerprint of the conversation's beginning."""

    call_kind: CallKind
    """What Hermes wanted."""

    route: Route
    """Who answered."""

    model: str
    """The model that answered, or would have: its name upstream."""

    status: int
    """HTTP status sent to the client; 499 when the client hung up first."""

    tier: str = ""
    """The upstream endpoint that answered; empty if none did."""

    reason: str = ""
    """A fixed word: why this route."""

    slug: str | None = None
    """The specialist that the request matched, if any."""

    version: int | None = None
    """Its version."""

    digest: str = ""
    """What names that version's files."""

    tenant: str = ""
    """Who asked; empty while there are no tenants."""

    prompt_tokens: int = 0
    """Tokens of the request, cached ones included."""

    cached_tokens: int = 0
    """Those read from the upstream's cache."""

    completion_tokens: int = 0
    """Tokens of the answer."""

    estimated: bool = False
    """Whether the counts are ours, because no upstream counted them."""

    cost: int | None = None
    """What the upstream charged."""

    saved: int | None = None
    """What the upstream would have charged, where a specialist answered."""

    overhead_ms: float = 0.0
    """Time spent by us, waiting for the upstream not included."""

    latency_ms: float = 0.0
    """Time until the last byte."""


class Origin(StrEnum):
    """How two answers to one request came about."""

    SHADOW = "shadow"
    """The upstream served; the specialist ran beside it."""

    AUDIT = "audit"
    """The specialist served; the upstream was asked as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A specialist beside the upstream on one request."""

    slug: str
    """The specialist."""

    version: int
    """Its version."""

    at: float
    """Unix time."""

    origin: Origin
    """How the second answer came about."""

    agreed: bool | None
    """Whether the answers were equal; ``None`` where one of them is missing."""

    answered: bool
    """Whether the specialist was sure enough to answer."""

    reason: str = ""
    """A fixed word: why there is nothing to compare, or what the upstream did instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a specialist, whether its answer was sent or only compared."""

    slug: str
    """The specialist."""

    version: int
    """Its version."""

    at: float
    """Unix time."""

    outcome: str
    """``answered``, or the fixed word for why it gave no answer."""

    took_ms: float
    """How long it ran, until it was stopped at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The upstream beside itself: one request that it was asked twice."""

    slug: str
    """The specialist whose pattern the request belongs to."""

    at: float
    """Unix time."""

    model: str
    """The model's name upstream."""

    agreed: bool | None
    """Whether the two answers were equal; ``None`` where one of them is missing."""

    reason: str = ""
    """A fixed word: why there is nothing to compare, or what it did instead."""
