"""Which call is this, and who answers it: the values and the pure rules.

Knows nothing about HTTP; the router hands over what it read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.specialist import Envelope, Stage

MATCHER_FILE = "matcher.npz"
"""Name of the matcher's model inside its signed entry in the registry."""


FILTER_FILE = "words.npz"
"""Name of the word filter beside it; a matcher may come without one."""


class CallKind(StrEnum):
    """What Hermes wants with a model call."""

    FIRST = "first"
    """The first call of a user turn; the only kind that a specialist may answer."""

    CONTINUATION = "continuation"
    """A further call of a turn, after a tool ran or an answer was cut off."""

    AUXILIARY = "auxiliary"
    """A title, a compression, another job without tools."""

    REVIEW = "review"
    """Hermes reviewing a conversation in the background."""

    CRON = "cron"
    """A scheduled job's agent."""

    SUBAGENT = "subagent"
    """A delegated task."""

    OTHER = "other"
    """Not understood; passed on untouched."""


class Route(StrEnum):
    """Who answered."""

    UPSTREAM = "upstream"
    """The upstream; no specialist was asked to."""

    SPECIALIST = "specialist"
    """A specialist."""

    FALLBACK = "fallback"
    """The upstream, after a specialist abstained or failed."""

    AUDIT = "audit"
    """Nobody: a second, paid call that only checks a specialist's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The matcher's answer: the request belongs to a pattern."""

    slug: str
    """The pattern's specialist."""

    score: float
    """The matcher's score."""

    threshold: float
    """The pattern's threshold, chosen so that false routes stay below the stated rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far a version has come; kept in the database, so a restart forgets nothing."""

    slug: str
    """The specialist."""

    version: int
    """The version the figures are about."""

    stage: Stage
    """Its stage."""

    share: float
    """Share of matching sessions it answers, 0 to 1."""

    held: bool
    """Whether the operator stopped automatic steps."""

    step_started_at: float
    """Unix time at which the present share began."""

    reason: str
    """Why it stands there, one sentence."""

    judged_from: float = 0.0
    """Unix time from which its behaviour counts; an operator who gives it another chance
    moves it."""


def step_after(rollout: Rollout, steps: tuple[float, ...]) -> tuple[Stage, float]:
    """Return the stage and the share that follow the present ones.

    Args:
        rollout: Where a specialist in shadow or canary stands.
        steps: Shares of the canary, growing.
    """
    share = rollout.share if rollout.stage is Stage.CANARY else 0.0
    for step in steps:
        if share < step < 1.0:
            return Stage.CANARY, step
    # With all of the traffic there is nothing left to compare for free: that is live, audited.
    return Stage.LIVE, 1.0


def in_canary(slug: str, session: str, share: float) -> bool:
    """Whether a session belongs to a share of the traffic.

    Sticky: a session that is in stays in while the share grows.
    """
    digest = hashlib.sha256(f"{slug}\x00{session}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 < share


def outside(envelope: Envelope, request: str, turn_index: int) -> str | None:
    """Return why a request lies outside an envelope, or ``None`` when it lies inside."""
    if turn_index > envelope.max_turn_index:
        return "turn"
    if not envelope.min_chars <= len(request) <= envelope.max_chars:
        return "length"
    if envelope.ascii_only and not request.isascii():
        return "script"
    return None
