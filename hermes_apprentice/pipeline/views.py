"""Specialists as commands, tools and pages show them: both halves side by side."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermes_apprentice.domain.merge import MergeState
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Specialist
from hermes_apprentice.ledger.agreement import self_agreement_in_words
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.storage.approvals import open_proposals
from hermes_apprentice.storage.conduct import SelfAgreement, run_counts, self_agreement
from hermes_apprentice.storage.merges import find_merge, list_merges
from hermes_apprentice.storage.rollouts import find_rollout, tally

_PRESENT = (MergeState.PROPOSED, MergeState.ACCEPTED, MergeState.DONE)


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
    """The gate's report in Markdown, that of a step that failed, or why there is none."""

    target: float
    """Agreement that it must show while it runs, 0 to 1."""

    self_agreement: SelfAgreement | None
    """How often the upstream agrees with itself on such requests, where that was measured."""

    runs: int
    """Runs of the present version that are known."""

    failed_runs: int
    """Those that failed, timed out or gave an invalid answer."""

    merge: str
    """The merge that it takes part in or came from, in words; empty where there is none."""

    matching: ClassBound | None = None
    """What is proven about requests routed to it falsely; ``None`` before a matcher knows it."""

    def in_words(self) -> str:
        """Return how it does in service, a few lines for a person."""
        seen = f"{self.view.agreed} of {self.view.compared} compared answers equal the upstream's"
        rollout = self.view.rollout
        stage = "It is not registered."
        if rollout is not None:
            held = ", held" if rollout.held else ""
            stage = f"Version {rollout.version}: {rollout.stage} at {rollout.share:.0%}{held}."
        lines = [stage, f"{seen}; the target is {self.target:.0%}."]
        if self.runs:
            failed = f"{self.failed_runs} of {self.runs} runs"
            lines.append(f"{failed} failed, timed out or gave an invalid answer.")
        lines.append(self_agreement_in_words(self.self_agreement, self.target))
        if self.matching is not None:
            bound = self.matching
            lines.append(f"Matched from a score of {bound.threshold:.3f} on: {bound.in_words()}.")
        if self.merge:
            lines.append(f"Merge: {self.merge}.")
        return "\n".join(lines)


def details_of(
    connection: sqlite3.Connection, specialist: Specialist, report: str, target: float
) -> SpecialistDetails:
    """Return one specialist with everything that is known about it.

    Args:
        connection: Inside a transaction.
        specialist: Which.
        report: The gate's.
        target: Agreement that it must show while it runs, 0 to 1.
    """
    runs, failed = run_counts(connection, specialist.slug, specialist.version or 0)
    return SpecialistDetails(
        view=view_of(connection, specialist),
        report=report,
        target=target,
        self_agreement=self_agreement(connection, specialist.slug),
        runs=runs,
        failed_runs=failed,
        merge=merge_in_words(connection, specialist.slug),
    )


def merge_in_words(connection: sqlite3.Connection, slug: str) -> str:
    """Return the latest merge that a specialist takes part in, or came from, in words."""
    for one in reversed(list_merges(connection)):
        if one.state in _PRESENT and slug in (*one.slugs, one.pattern.slug):
            left, right = one.slugs
            return f"{one.merge_id}, '{left}' and '{right}' into '{one.pattern.slug}', {one.state}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistQuestion:
    """A question to the operator that is about specialists, not about a candidate."""

    handle: str
    """What it is answered with: ``mp-...`` or ``rt-...``."""

    about: str
    """What is asked, in a few words."""

    asked_at: float
    """Unix time."""


def specialist_questions(connection: sqlite3.Connection, now: float) -> list[SpecialistQuestion]:
    """Return the open questions whether to merge specialists or to train one again."""
    found = []
    for one in open_proposals(connection):
        handle = one.proposal_id
        if now >= one.expires_at:
            continue
        if handle.startswith("rt-"):
            about = f"train '{one.subject}' again"
        elif handle.startswith("mp-") and (merge := find_merge(connection, handle)) is not None:
            about = f"merge '{merge.left.slug}' and '{merge.right.slug}'"
        else:
            continue
        found.append(SpecialistQuestion(handle=handle, about=about, asked_at=one.created_at))
    return found


def view_of(connection: sqlite3.Connection, specialist: Specialist) -> SpecialistView:
    """Return a specialist with its rollout and the agreement of its present version."""
    rollout = find_rollout(connection, specialist.slug)
    counts = tally(connection, specialist.slug, specialist.version or 0)
    return SpecialistView(
        specialist=specialist, rollout=rollout, compared=counts.compared, agreed=counts.agreed
    )
