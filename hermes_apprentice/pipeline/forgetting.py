"""Forget sessions on request, through to the datasets and specialists that learnt from them.

The database comes first, in one transaction that also notes what files are to be searched
for; from then on nothing reads the sessions again, and ``go_on`` finishes the files however
often it is interrupted. A version that learnt from them is *tainted*: it is deleted when it
leaves service. Knows nothing about how the operator named the sessions.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hermes_apprentice.approvals import changes
from hermes_apprentice.domain.specialist import Manifest, Stage, Step
from hermes_apprentice.errors import RegistryError, ReplyError, SessionDBError
from hermes_apprentice.observer.profiles import discover_profiles
from hermes_apprentice.observer.session_db import SessionReader
from hermes_apprentice.pipeline import service
from hermes_apprentice.pipeline.past import RUN
from hermes_apprentice.pipeline.retraining import begin, propose_without_forgotten
from hermes_apprentice.pipeline.run_traces import prune, set_aside, settle_folders, traces_in
from hermes_apprentice.pipeline.steps import MOVING, new_run_id
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage import forgotten
from hermes_apprentice.storage.approvals import add_message
from hermes_apprentice.storage.forgotten import Tainted, Trace
from hermes_apprentice.storage.lease import lease
from hermes_apprentice.storage.rollouts import find_rollout, list_rollouts, save_rollout
from hermes_apprentice.storage.specialists import (
    find_specialist,
    list_specialists,
    save_specialist,
)
from hermes_apprentice.storage.spooled import forget_in_spool

_REASON = "It was trained on sessions that were forgotten."


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntFrom:
    """A version that was trained on sessions to be forgotten."""

    slug: str
    """The specialist."""

    version: int
    """The version."""

    examples: int
    """How many of its examples came from them; 0 where its dataset is gone."""

    fate: str
    """What becomes of it, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What is forgotten, or would be."""

    sessions: tuple[str, ...]
    """The sessions."""

    exchanges: int
    """Stored exchanges of theirs."""

    runs: tuple[tuple[str, int], ...]
    """Training runs whose dataset holds examples of theirs, and how many."""

    versions: tuple[LearntFrom, ...]
    """Versions that were trained on them."""

    branches: tuple[str, ...]
    """Sessions that go on from one of these and are not named; their own turns stay."""

    done: bool
    """Whether it was done."""


class _Version(NamedTuple):
    manifest: Manifest
    run: str

    @property
    def name(self) -> tuple[str, int]:
        return self.manifest.slug, self.manifest.version


def sessions_with(shop: Workshop, text: str) -> list[str]:
    """Return the sessions of which a stored request or answer holds a text.

    Raises:
        ReplyError: The text is empty, or no session holds it.
    """
    if not text.strip():
        raise ReplyError("Name a text of at least one letter.")
    with shop.database.transaction() as connection:
        found = forgotten.sessions_holding(connection, text)
    if not found:
        raise ReplyError("No stored request or answer holds that text.")
    return found


def plan(shop: Workshop, sessions: Sequence[str], *, retire: bool = False) -> Forgetting:
    """Return what forgetting sessions would do; changes nothing.

    Raises:
        ReplyError: A session is known neither here nor to Hermes.
    """
    names = tuple(dict.fromkeys(sessions))
    branches = _check(shop, names)
    with shop.database.transaction() as connection:
        traces = forgotten.traces_of(connection, names)
        known = forgotten.tainted_versions(connection)
    held = traces_in(shop.settings.runs_dir, traces)
    learnt = {one.name: count for one, count in _learnt(shop, traces, held)}
    if retire:  # those that were found out earlier go as well
        learnt = {(one.slug, one.version): one.examples for one in known} | learnt
    serving = _in_service(shop)
    return Forgetting(
        sessions=names,
        exchanges=len(traces),
        runs=tuple(sorted(held.items())),
        versions=tuple(
            LearntFrom(
                slug=slug,
                version=version,
                examples=count,
                fate=_fate((slug, version) in serving, retire),
            )
            for (slug, version), count in sorted(learnt.items())
        ),
        branches=branches,
        done=False,
    )


def forget(shop: Workshop, sessions: Sequence[str], *, retire: bool = False) -> Forgetting:
    """Forget sessions, and tell the operator.

    Args:
        shop: Settings, database and registry.
        sessions: Hermes' ids; none finishes what was begun, and retires.
        retire: Take every version that was trained on forgotten sessions out of service and
            delete it, instead of asking whether to train it again.

    Raises:
        ReplyError: A session is known neither here nor to Hermes.
        LeaseHeldError: A tick or a detection is running; nothing changed.
        StorageError: A file could not be changed; the next tick goes on.
    """
    with lease(shop.leases, "tick"), lease(shop.leases, "detect"):
        found = plan(shop, sessions, retire=retire)
        with shop.database.transaction() as connection:
            forgotten.forget_sessions(connection, found.sessions, shop.clock())
        _finish(shop, retire=retire)
    return replace(found, done=True)


def go_on(shop: Workshop) -> bool:
    """Finish what was begun and interrupted; returns whether there was anything.

    To be called while no other process learns.
    """
    with shop.database.transaction() as connection:
        waiting = forgotten.unfinished(connection)
    if waiting:
        _finish(shop, retire=False)
    return bool(waiting)


def drop_tainted(shop: Workshop, *, tell: bool = True) -> list[str]:
    """Delete the versions that learnt what was forgotten and are out of service.

    A retired one cannot be resumed, so its specialist is without a version afterwards.

    Args:
        shop: Settings, database and registry.
        tell: Whether the operator gets a message about each.

    Returns:
        What was deleted, in words.
    """
    removed = []
    with shop.database.transaction() as connection:
        tainted = forgotten.tainted_versions(connection)
        for one in tainted:
            specialist, rollout = (
                find_specialist(connection, one.slug),
                find_rollout(connection, one.slug),
            )
            if (
                specialist is not None
                and specialist.version == one.version
                and (rollout is None or rollout.stage is Stage.RETIRED)
            ):
                moving = specialist.step in MOVING
                save_specialist(
                    connection,
                    replace(
                        specialist,
                        version=None,
                        step=specialist.step if moving else Step.WAITING,
                        reason=specialist.reason
                        if moving
                        else f"{_REASON} To train it without them: apprentice tick --retry "
                        f"{one.slug}",
                        run_id=specialist.run_id if moving else new_run_id(),
                        updated_at=shop.clock(),
                    ),
                )
    serving = _in_service(shop)
    for one in tainted:
        if (one.slug, one.version) not in serving:
            _delete(shop, one, tell=tell)
            removed.append(_named(one))
    return removed


# --- what is affected ---------------------------------------------------------------------


def _check(shop: Workshop, sessions: Sequence[str]) -> tuple[str, ...]:
    """Refuse sessions that nobody knows, and return those that branched off the others."""
    with shop.database.transaction() as connection:
        known = forgotten.forgotten_sessions(connection)
        known |= {name for name in sessions if forgotten.traces_of(connection, [name])}
    branches: set[str] = set()
    for _, path in discover_profiles(shop.settings.hermes_home):
        try:
            with SessionReader(path) as reader:
                known |= reader.existing(sessions)
                branches.update(*(reader.branches_of(name) for name in sessions))
        except SessionDBError:
            continue  # what is stored here can be forgotten without Hermes
    unknown = [name for name in sessions if name not in known]
    if unknown:
        raise ReplyError(
            f"There is no session '{unknown[0]}', neither here nor in Hermes. Nothing changed. "
            "Hermes lists its sessions with: hermes sessions list"
        )
    return tuple(sorted(branches.difference(sessions)))


def _versions(shop: Workshop) -> Iterator[_Version]:
    for slug in shop.registry.slugs():
        for version in shop.registry.versions(slug):
            try:
                manifest = shop.registry.open_version(slug, version).manifest
            except RegistryError:
                continue  # damaged: it is not served, and the doctor reports it
            yield _Version(manifest, dict(manifest.recipe).get(RUN, ""))


def _learnt(
    shop: Workshop, traces: dict[str, Trace], held: dict[str, int]
) -> list[tuple[_Version, int]]:
    """Return the versions that were trained on exchanges, with the number of their examples.

    Where a version's dataset is gone, the pattern and the time have to tell.
    """
    found = []
    for one in _versions(shop):
        if one.run in held:
            found.append((one, held[one.run]))
        elif one.run and not (shop.run_dir(one.run) / "dataset").exists():
            before = one.manifest.created_at
            if any(
                trace.pattern_id == one.manifest.pattern_id and trace.asked_at < before
                for trace in traces.values()
            ):
                found.append((one, 0))
    return found


def _in_service(shop: Workshop) -> set[tuple[str, int | None]]:
    with shop.database.transaction() as connection:
        found: set[tuple[str, int | None]] = {
            (one.slug, one.version) for one in list_specialists(connection)
        }
        found |= {
            (one.slug, one.version)
            for one in list_rollouts(connection)
            if one.stage is not Stage.RETIRED
        }
    return found


def _fate(serving: bool, retire: bool) -> str:
    if not serving:
        return "is deleted at once; it is not in service"
    if retire:
        return "is taken out of service and deleted at once"
    return "goes on until it is replaced; you are asked whether to train it again"


def _named(one: Tainted) -> str:
    return f"'{one.slug}' version {one.version}"


# --- what is done -------------------------------------------------------------------------


def _finish(shop: Workshop, *, retire: bool) -> None:
    """Bring files, specialists and registry in line with what the database has forgotten."""
    with shop.database.transaction() as connection:
        sessions = forgotten.unfinished(connection)
        traces = forgotten.traces_left(connection)
    forget_in_spool(shop.settings.spool_dir, sessions)
    settle_folders(shop.settings.runs_dir)
    held = traces_in(shop.settings.runs_dir, traces)
    learnt = _learnt(shop, traces, held)
    with shop.database.transaction() as connection:
        for one, count in learnt:
            forgotten.taint(connection, *one.name, count, shop.clock())
    needed = {one.run for one in _versions(shop)}
    for run in held:
        _begin_again(shop, run, needed=run in needed)
        if run in needed:
            prune(shop.run_dir(run), set(traces), shop.database)
        else:
            set_aside(shop.run_dir(run))
    if retire:
        _retire(shop)
    removed = drop_tainted(shop, tell=False)
    service.bring_skills_up_to_date(shop)
    propose_without_forgotten(shop)
    with shop.database.transaction() as connection:
        kept = [_named(one) for one in forgotten.tainted_versions(connection)]
        if sessions or removed:
            text = changes.forgotten(len(sessions), len(traces), kept, removed)
            key = f"forgotten:{secrets.token_hex(8)}"  # the transaction makes it one message
            add_message(connection, "forgotten", key, text, shop.clock())
        forgotten.finish(connection)
    shop.database.settle()


def _begin_again(shop: Workshop, run: str, *, needed: bool) -> None:
    """Let a specialist whose present run held what was forgotten start from its data.

    One that is settled only gets the name of a run that is not there.
    """
    with shop.database.transaction() as connection:
        for one in list_specialists(connection):
            if one.run_id != run:
                continue
            if one.step in MOVING:
                reason = "Sessions were forgotten; it starts again without them."
                begin(connection, one, None, new_run_id(), reason, shop.clock())
            elif not needed:
                save_specialist(connection, replace(one, run_id=new_run_id()))


def _retire(shop: Workshop) -> None:
    with shop.database.transaction() as connection:
        tainted = {(one.slug, one.version) for one in forgotten.tainted_versions(connection)}
        for rollout in list_rollouts(connection):
            if (rollout.slug, rollout.version) in tainted:
                now = shop.clock()
                out = replace(
                    rollout, stage=Stage.RETIRED, share=0.0, reason=_REASON, step_started_at=now
                )
                save_rollout(connection, out, now)


def _delete(shop: Workshop, one: Tainted, *, tell: bool) -> None:
    """Delete a version with the run that made it; may be repeated."""
    registry = shop.registry
    run = next((v.run for v in _versions(shop) if v.name == (one.slug, one.version)), "")
    if one.version in registry.versions(one.slug):
        registry.remove(one.slug, one.version, current=True)
    if run and run not in {version.run for version in _versions(shop)}:
        folder: Path = shop.run_dir(run)
        if folder.exists():
            set_aside(folder)
    with shop.database.transaction() as connection:
        forgotten.untaint(connection, one.slug, one.version)
        if tell:
            key = f"forgotten_version:{one.slug}:{one.version}"
            text = changes.forgotten_version_deleted(one.slug, one.version)
            add_message(connection, "forgotten", key, text, shop.clock())
