"""Specialists as commands, tools and pages show them: both halves side by side."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Specialist
from hermes_apprentice.ledger.agreement import self_agreement_in_words
from hermes_apprentice.storage.conduct import SelfAgreement
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

    target: float
    """Agreement that it must show while it runs, 0 to 1."""

    self_agreement: SelfAgreement | None
    """How often the upstream agrees with itself on such requests, where that was measured."""

    def in_words(self) -> str:
        """Return how it does in service, a few lines for a person."""
        seen = f"{self.view.agreed} of {self.view.compared} compared answers equal the upstream's"
        rollout = self.view.rollout
        stage = "It is not registered."
        if rollout is not None:
            held = ", held" if rollout.held else ""
            stage = f"Version {rollout.version}: {rollout.stage} at {rollout.share:.0%}{held}."
        return "\n".join(
            (
                stage,
                f"{seen}; the target is {self.target:.0%}.",
                self_agreement_in_words(self.self_agreement, self.target),
            )
        )


def view_of(connection: sqlite3.Connection, specialist: Specialist) -> SpecialistView:
    """Return a specialist with its rollout and the agreement of its present version."""
    rollout = find_rollout(connection, specialist.slug)
    counts = tally(connection, specialist.slug, specialist.version or 0)
    return SpecialistView(
        specialist=specialist, rollout=rollout, compared=counts.compared, agreed=counts.agreed
    )
