"""Specialists as commands, tools and pages show them: both halves side by side."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Specialist
from hermes_apprentice.storage.rollouts import find_rollout, tally


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistView:
    """A specialist on both sides: how it was made, and what it does now."""

    specialist: Specialist
    """Where it stands in the learning half."""

    rollout: Rollout | None
    """Where it stands in the serving half, once it is registered."""

    compared: int
    """Its answers that were compared with the upstream's."""

    agreed: int
    """Those that were equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistDetails:
    """One specialist with its verdict."""

    view: SpecialistView
    """Where it stands."""

    report: str
    """The gate's report in Markdown, or the reason why there is none."""


def view_of(connection: sqlite3.Connection, specialist: Specialist) -> SpecialistView:
    """Return a specialist with its rollout and the agreement of its present version."""
    rollout = find_rollout(connection, specialist.slug)
    counts = tally(connection, specialist.slug, specialist.version or 0)
    return SpecialistView(
        specialist=specialist, rollout=rollout, compared=counts.compared, agreed=counts.agreed
    )
