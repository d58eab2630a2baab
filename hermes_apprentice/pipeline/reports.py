"""What a tick did, in values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hermes_apprentice.domain.specialist import Step


class Move(NamedTuple):
    """One step that a specialist took."""

    slug: str
    """The specialist."""

    step: Step
    """Where it stands now."""

    reason: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one tick did."""

    moves: tuple[Move, ...]
    """Steps taken."""

    failures: tuple[Move, ...]
    """Steps that failed."""

    renewed: int
    """Proposals asked again because they had expired."""

    matcher_refitted: bool
    """Whether the matcher was fitted anew."""

    pending: int
    """Specialists that the next tick will move on."""
