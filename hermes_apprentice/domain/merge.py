"""Two specialists that could be one: what is asked, and what becomes of it.

Values only; the detector compares the patterns, the pipeline carries a merge out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.pattern import Pattern

MERGED_FROM = "merged_from"
"""Entry in the recipe of a signed manifest that names the two parents' slugs."""


class MergeState(StrEnum):
    """How far a merge has come."""

    PROPOSED = "proposed"
    """The operator is asked."""

    ACCEPTED = "accepted"
    """The merged specialist is on its way; its parents serve as before."""

    DECLINED = "declined"
    """The operator said no."""

    FAILED = "failed"
    """Called off, or refuted by its rollout; the parents serve as before."""

    DONE = "done"
    """The merged specialist is live and its parents are retired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """One of the two, as it was when the merge was proposed."""

    slug: str
    """The specialist."""

    version: int
    """The version in service; another one makes the proposal stale."""

    pattern: Pattern
    """Its pattern."""

    compared: int
    """Its answers that were compared with the upstream's."""

    agreed: int
    """Those that were equal."""

    fit: float
    """Share of its pattern's answers that fit the shape of both together, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Two specialists, and the one that may take their place."""

    merge_id: str
    """The handle that the operator types: ``mp-1a2b``; always the same for one pair."""

    left: Parent
    """The first by name."""

    right: Parent
    """The second by name."""

    pattern: Pattern
    """Both patterns as one: id, name, shape and kind of the merged specialist."""

    cosine: float
    """Cosine of the two centres."""

    alike: bool
    """Whether task and shape agree by the detector's rule."""

    asked_by: str
    """Who proposed it: ``detector``, ``agent``, ``cli``."""

    state: MergeState
    """How far it has come."""

    updated_at: float
    """Unix time of the last change."""

    @property
    def slugs(self) -> tuple[str, str]:
        """The parents' names."""
        return self.left.slug, self.right.slug


def merge_digest(left: str, right: str) -> str:
    """Return the hexadecimal digits that name a pair, whatever its order."""
    pair = "\x00".join(sorted((left, right)))
    return hashlib.sha256(f"merge\x00{pair}".encode()).hexdigest()
