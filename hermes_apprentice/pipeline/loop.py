"""Read, detect, ask, and take every specialist one step further.

Two ticks never run at once (a lease), and every method may be called again
after it was interrupted.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hermes_apprentice.approvals import desk, messages
from hermes_apprentice.approvals.grammar import parse_reply
from hermes_apprentice.detector.detection import DetectionReport, Survey
from hermes_apprentice.detector.detection import detect as run_detection
from hermes_apprentice.detector.detection import survey as run_survey
from hermes_apprentice.domain.approval import Action
from hermes_apprentice.domain.merge import Merge
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.errors import (
    ApprenticeError,
    ConfigError,
    ReplyError,
    SessionDBError,
    StorageError,
    UnknownVersionError,
)
from hermes_apprentice.observer.harvest import HarvestReport, harvest
from hermes_apprentice.observer.profiles import discover_profiles
from hermes_apprentice.pipeline import forgetting, kinds, service
from hermes_apprentice.pipeline.allowance import raise_ceiling, tell_reached
from hermes_apprentice.pipeline.deciding import decide, words_of
from hermes_apprentice.pipeline.failing import report_path, write_failure
from hermes_apprentice.pipeline.housekeeping import add_up
from hermes_apprentice.pipeline.matching import bound_of, refit_matcher
from hermes_apprentice.pipeline.merging import may_be_trained, propose, propose_alike, settle
from hermes_apprentice.pipeline.reports import Move, TickReport
from hermes_apprentice.pipeline.retraining import (
    begin,
    propose_retirement,
    propose_retraining,
    propose_without_forgotten,
)
from hermes_apprentice.pipeline.steps import (
    MOVING,
    Outcomes,
    in_shadow,
    new_run_id,
    take_step,
)
from hermes_apprentice.pipeline.views import (
    SpecialistDetails,
    SpecialistQuestion,
    SpecialistView,
    details_of,
    specialist_questions,
    view_of,
)
from hermes_apprentice.pipeline.workshop import Progress, Workshop, silent
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.audits import drop_stranded
from hermes_apprentice.storage.corrections import mark_corrected
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import (
    find_specialist,
    list_specialists,
    save_specialist,
)
from hermes_apprentice.storage.tenants import settle_owner

MOST_ROUNDS = 200
"""Calls of the observer in a row; what is left is compared the next time."""


class Pipeline:
    """The learning half over one database."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop

    def observe(self) -> dict[str, HarvestReport]:
        """Read what is new in every profile's session database.

        Raises:
            SessionDBError: No profile has a database, or one cannot be read.
        """
        profiles = discover_profiles(self.shop.settings.hermes_home)
        reports = {}
        for number, (profile, path) in enumerate(profiles):
            self.shop.progress(f"reading sessions of '{profile}'", number / len(profiles))
            reports[profile] = self._harvest(path, profile)
        with self.shop.database.transaction() as connection:
            mark_corrected(connection)
            drop_stranded(connection, self.shop.clock())
        return reports

    def _harvest(self, path: Path, profile: str) -> HarvestReport:
        """Harvest until every old row that may have changed was compared again."""
        total = harvest(path, profile, self.shop.database, self.shop.clock())
        for _ in range(MOST_ROUNDS):
            if total.settled:
                break
            one = harvest(path, profile, self.shop.database, self.shop.clock())
            total = replace(
                one,
                new=total.new + one.new,
                updated=total.updated + one.updated,
                withdrawn=total.withdrawn + one.withdrawn,
                deleted=total.deleted + one.deleted,
            )
        return total

    def detect(self) -> DetectionReport:
        """Look for patterns, and propose the candidates among them."""
        with lease(self.shop.leases, "detect"):
            report = run_detection(
                self.shop.database,
                self.shop.embedder,
                self.shop.settings.detector,
                self.shop.prices.cost_of,
                self.shop.clock(),
                progress=self.shop.progress,
                on_candidate=self._propose,
            )
            propose_alike(self.shop)
            return report

    def _propose(self, connection: sqlite3.Connection, candidate: Candidate) -> None:
        settle_owner(connection, candidate.pattern.pattern_id, candidate.pattern.slug)
        desk.propose(connection, candidate, self.shop.settings.approvals, self.shop.clock())

    def survey(self) -> Survey:
        """Look for patterns in everything that Hermes has stored by now; writes nothing.

        New sessions are read into a copy of the database that is thrown away.

        Raises:
            SessionDBError: Nothing was read before, and no session database can be read now.
        """
        with (
            tempfile.TemporaryDirectory(prefix="apprentice-") as folder,
            self.shop.database.copy_to(Path(folder) / "survey.db") as copy,
        ):
            aside = Pipeline(self.shop.beside(copy))
            try:
                aside.observe()
            except SessionDBError:
                if not ExchangeStore(copy).counts().total:
                    raise
            return run_survey(
                copy,
                self.shop.embedder,
                self.shop.settings.detector,
                self.shop.prices.cost_of,
                self.shop.clock(),
            )

    def candidates(self) -> list[Candidate]:
        """Return every candidate, decided or not."""
        with self.shop.database.transaction() as connection:
            return PatternStore(connection).candidates()

    def questions(self) -> list[SpecialistQuestion]:
        """Return the open questions about specialists."""
        with self.shop.database.transaction() as connection:
            return specialist_questions(connection, self.shop.clock())

    def specialists(self) -> list[SpecialistView]:
        """Return every specialist with its rollout and agreement so far."""
        with self.shop.database.transaction() as connection:
            return [view_of(connection, one) for one in list_specialists(connection)]

    def specialist(self, slug: str) -> SpecialistDetails:
        """Return one specialist with the gate's report.

        Raises:
            UnknownVersionError: There is no such specialist.
        """
        with self.shop.database.transaction() as connection:
            found = find_specialist(connection, slug)
            if found is None:
                names = ", ".join(one.slug for one in list_specialists(connection)) or "none"
                raise UnknownVersionError(f"There is no specialist '{slug}'; known: {names}.")
            path = self.shop.run_dir(found.run_id) / str(found.kind) / "verdict.md"
            if found.step is Step.FAILED:
                path = report_path(self.shop, found)
            report = path.read_text(encoding="utf-8") if path.exists() else found.reason
            target = self.shop.settings.rollout.target_agreement
            details = details_of(connection, found, report, target)
        if found.version is None:
            return details
        return replace(details, matching=bound_of(self.shop, slug))

    def reply(
        self,
        text: str,
        who: str = "cli",
        *,
        quoted: str = "",
        nonce: str = "",
        kind: Kind | None = None,
    ) -> str:
        """Carry out an operator's reply and return what to tell them.

        Args:
            text: What they said.
            who: ``cli``, or a platform and its user id, such as ``telegram:4711``.
            quoted: The message that it is a reply to, where the platform tells it.
            nonce: The question that a pressed button belongs to.
            kind: What to train it as, where the text does not say.

        Raises:
            ReplyError: It was not understood, or cannot be carried out.
        """
        reply = replace(parse_reply(text), quoted=quoted, nonce=nonce)
        if kind is not None:
            if reply.action is not Action.TRAIN or reply.kind not in (None, kind):
                raise ReplyError("A kind belongs to train, once: train gc-7f3a as generator.")
            reply = replace(reply, kind=kind)
        if reply.action not in (Action.BUDGET_INCREASE, Action.DEMOTE, Action.ROLLBACK):
            return decide(self.shop, reply, who)
        if reply.action is Action.BUDGET_INCREASE:
            return raise_ceiling(self.shop, reply.amount, who)
        desk.require_decider(self.shop.settings.approvals.deciders, who, "this")
        act = self.demote if reply.action is Action.DEMOTE else self.rollback
        return act(reply.subject, f"{who} asked for it")

    def propose_merge(self, left: str, right: str, asked_by: str = "cli") -> Merge:
        """Ask the operator to merge two specialists; nothing else happens.

        Raises:
            ReplyError: They cannot be merged, or were asked about already.
        """
        return propose(self.shop, left, right, asked_by)

    def tick(self, retry: str | None = None, kind: Kind | None = None) -> TickReport:
        """Take every specialist one step further; refit the matcher; bring skills up to date.

        An alert of the budget that is due goes into the outbox.

        Args:
            retry: Slug of a specialist that failed or waits, to be tried again from its data.
            kind: What to train it as from now on; as before where there is none. Kept with the
                pattern.

        Raises:
            ConfigError: A kind, without the name of a specialist.
            LeaseHeldError: Another tick is running.
            ReplyError: There is no such specialist to retry, or its answers can never come from
            the kind.
        """
        if kind is not None and retry is None:
            raise ConfigError("--kind is of one specialist; name it with --retry.")
        with lease(self.shop.leases, "tick"):
            if retry is not None:
                self._retry(retry, kind)
            forgetting.go_on(self.shop)
            settle(self.shop)
            renewed = self._renew()
            moves: list[Move] = []
            failures: list[Move] = []
            for specialist in self._specialists():
                if specialist.step in MOVING:
                    moved = self._step(specialist)
                    (failures if moved.step is Step.FAILED else moves).append(moved)
            forgetting.drop_tainted(self.shop)
            propose_without_forgotten(self.shop)
            propose_retraining(self.shop)
            propose_retirement(self.shop)
            tell_reached(self.shop)
            refitted = refit_matcher(self.shop)
            self.sync_skills()
            with suppress(StorageError):  # the next tick adds up as well
                add_up(self.shop)
            return TickReport(
                moves=tuple(moves),
                failures=tuple(failures),
                renewed=renewed,
                matcher_refitted=refitted,
                pending=sum(item.step in MOVING for item in self._specialists()),
            )

    def _step(self, specialist: Specialist) -> Move:
        self.shop.progress(f"{specialist.slug}: after {specialist.step}", 0.0)
        try:
            outcome = take_step(self.shop, specialist)
        except (ApprenticeError, OSError) as error:
            with suppress(OSError):  # the disk may be what failed
                write_failure(self.shop, specialist, error)
            outcome = Outcomes(
                Step.FAILED,
                str(error),
                specialist.kind,
                specialist.version,
                messages.step_failed(specialist.slug, str(error)),
            )
        now = self.shop.clock()
        with self.shop.database.transaction() as connection:
            save_specialist(
                connection,
                replace(
                    specialist,
                    kind=outcome.kind,
                    step=outcome.step,
                    reason=outcome.reason,
                    version=outcome.version,
                    updated_at=now,
                ),
            )
            if outcome.step is Step.REGISTERED and outcome.version is not None:
                save_rollout(connection, in_shadow(specialist.slug, outcome.version, now), now)
            if outcome.message:
                key = f"{outcome.step}:{specialist.run_id}"
                add_message(connection, specialist.candidate_id, key, outcome.message, now)
        return Move(specialist.slug, outcome.step, outcome.reason)

    def _retry(self, slug: str, kind: Kind | None) -> None:
        now = self.shop.clock()
        with self.shop.database.transaction() as connection:
            specialist = find_specialist(connection, slug)
            if specialist is None or specialist.step in MOVING:
                raise ReplyError(f"'{slug}' is not a specialist that failed or waits.")
            if not may_be_trained(connection, specialist):
                raise ReplyError(f"'{slug}' belongs to a merge that is over; propose it again.")
            reason = f"Tried again as a {kind}." if kind else "Tried again."
            kinds.choose(connection, specialist.pattern_id, kind)
            begin(connection, specialist, kind, new_run_id(), reason, now)

    def _renew(self) -> int:
        with self.shop.database.transaction() as connection:
            return desk.renew_expired(
                connection,
                PatternStore(connection).present_candidate,
                self.shop.settings.approvals,
                self.shop.clock(),
                lambda handle: words_of(connection, handle),
            )

    def demote(self, slug: str, reason: str) -> str:
        """Take a specialist out of service; its versions stay in the registry."""
        return service.demote(self.shop, slug, reason)

    def rollback(self, slug: str, reason: str) -> str:
        """Go back to a specialist's previous version, starting in shadow."""
        return service.rollback(self.shop, slug, reason)

    def sync_skills(self) -> None:
        """Make the skills those of the specialists that answer requests."""
        service.bring_skills_up_to_date(self.shop)

    def _specialists(self) -> list[Specialist]:
        with self.shop.database.transaction() as connection:
            return list_specialists(connection)


def open_pipeline(
    settings: Settings,
    database: Database,
    clock: Callable[[], float] = time.time,
    progress: Progress = silent,
) -> Pipeline:
    """Return the learning half; nothing heavy is loaded before it is needed."""
    return Pipeline(Workshop(settings, database, clock, progress))
