"""Requests that keep coming back, and the proposal to train a specialist for them.

Values only; the detector finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.shape import Kind, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a specialist for a pattern would save; every figure is an estimate."""

    requests_per_day: float
    """Volume over the time the pattern was seen."""

    cost_per_request: int
    """What the upstream charges for one, in micro-dollars."""

    coverage: float
    """Assumed share that a specialist would answer, 0 to 1."""

    saved_per_month: int
    """``requests_per_day * 30 * coverage * cost_per_request``, in micro-dollars."""

    priced: bool
    """Whether the model is in the price table; if not, the amounts are zero and say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A cluster of requests that is large, tight and stable."""

    pattern_id: str
    """Stable across runs: ``pt-`` and twelve hexadecimal digits."""

    slug: str
    """Short name for files and messages, ``[a-z0-9-]``."""

    label: str
    """A few keywords for people."""

    size: int
    """Exchanges that belong to it."""

    tightness: float
    """Mean cosine of its members to their centre."""

    shape: Shape
    """What its answers have in common."""

    kind: Kind
    """The smallest kind of specialist that fits the shape."""

    runs_stable: int
    """Detection runs in a row that found it again."""

    first_seen: float
    """Unix time of its first exchange."""

    last_seen: float
    """Unix time of its last exchange."""

    max_turn_index: int
    """The latest turn of a session at which it was seen often enough to be trusted."""

    forecast: Forecast
    """What a specialist would save."""


class CandidateState(StrEnum):
    """What became of a candidate."""

    OPEN = "open"
    """Proposed, not decided."""

    APPROVED = "approved"
    """The operator said train."""

    SKIPPED = "skipped"
    """The operator said no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A pattern proposed for graduation."""

    candidate_id: str
    """``gc-`` and four hexadecimal digits."""

    pattern: Pattern
    """The pattern as it was when it was proposed: the evidence."""

    state: CandidateState
    """Whether and how it was decided."""

    created_at: float
    """Unix time of the proposal."""
