"""Run a specialist's training as a job that can be watched, cancelled and taken up again.

What a finished run left on disk is never made twice. Progress goes into the
database, so that any command can show it, and whoever wants the run to stop says so there.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.domain.training import Method, TrainingJob, TrainingResult
from hermes_apprentice.errors import (
    ApprenticeError,
    ReplyError,
    StorageError,
    UnknownVersionError,
)
from hermes_apprentice.pipeline.generators import order_for
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.jobs import JobState, ask_to_stop, find_job, list_jobs, save_job
from hermes_apprentice.storage.specialists import find_specialist, save_specialist
from hermes_apprentice.trainer.child import Stop
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.jobs import LOG_FILE, run_training

_RESULT = TypeAdapter(TrainingResult)
_LOOK_SECONDS = 1.0


def train(shop: Workshop, specialist: Specialist) -> TrainingResult:
    """Train a specialist from its built dataset, or return what a finished run had left.

    Raises:
        ApprenticeError: It failed, or was cancelled; the job's row says which.
    """
    folder = shop.run_dir(specialist.run_id)
    output = output_dir(folder, specialist.kind)
    result = _finished(output)
    if result is None:
        job = TrainingJob(
            run_id=specialist.run_id,
            kind=specialist.kind,
            method=Method(shop.settings.trainer.method)
            if specialist.kind is Kind.EXTRACTOR
            else Method.AUTO,
            dataset_dir=str(folder / "dataset"),
            output_dir=str(output),
            models_dir=str(shop.settings.models_dir),
            embedder=shop.embedder.name,
            train_python=find_train_python(shop.settings.trainer.train_python) or "",
            seed=shop.settings.trainer.seed,
            drop_doubtful=shop.settings.trainer.drop_doubtful,
            budget_seconds=shop.settings.trainer.budget_seconds,
            generator=order_for(shop.settings) if specialist.kind is Kind.GENERATOR else None,
        )
        result = _run(shop, specialist, job)
    _record(shop, specialist, JobState.FINISHED, 1.0, f"{result.method}, {result.seconds:.1f} s")
    return result


def output_dir(run: Path, kind: Kind) -> Path:
    """Return the folder in a run that holds what was trained as ``kind``."""
    return run / str(kind)


def cancel(shop: Workshop, slug: str) -> str:
    """Ask the running training of a specialist to stop; returns what to tell the operator.

    Raises:
        UnknownVersionError: There is no such specialist.
        ReplyError: It is not being trained.
    """
    with shop.database.transaction() as connection:
        specialist = _find(shop, slug)
        if not ask_to_stop(connection, specialist.run_id):
            raise ReplyError(f"'{slug}' is not being trained now.")
    return (
        f"The training of '{slug}' stops within seconds; to take it up again: "
        f"apprentice jobs resume {slug}"
    )


def resume(shop: Workshop, slug: str) -> str:
    """Let the next tick take a cancelled or failed training up again, with the same data.

    Where the training had finished and the gate failed, only the gate is run again.

    Raises:
        UnknownVersionError: There is no such specialist.
        ReplyError: Its last training was neither cancelled nor failed.
    """
    specialist = _find(shop, slug)
    trained = _finished(output_dir(shop.run_dir(specialist.run_id), specialist.kind)) is not None
    now = shop.clock()
    with shop.database.transaction() as connection:
        job = find_job(connection, specialist.run_id)
        if (
            specialist.step is not Step.FAILED
            or job is None
            or not (trained or job.state in (JobState.CANCELLED, JobState.FAILED))
        ):
            raise ReplyError(
                f"The training of '{slug}' was not interrupted; to train it anew from its data: "
                f"apprentice tick --retry {slug}"
            )
        again = replace(
            specialist,
            step=Step.TRAINED if trained else Step.DATASET_BUILT,
            reason="Taken up again.",
            updated_at=now,
        )
        save_specialist(connection, again)
    what = "goes on with the gate" if trained else "goes on with the training"
    return f"The next tick {what} of '{slug}'; to do it now: apprentice tick"


def log_of(shop: Workshop, slug: str) -> str:
    """Return what a specialist's last training wrote while it ran.

    Raises:
        UnknownVersionError: There is no such specialist, or it was not trained yet.
    """
    specialist = _find(shop, slug)
    path = output_dir(shop.run_dir(specialist.run_id), specialist.kind) / LOG_FILE
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise UnknownVersionError(f"'{slug}' has no log of a training yet: {exc}") from exc


def _run(shop: Workshop, specialist: Specialist, job: TrainingJob) -> TrainingResult:
    reached = 0.0

    def show(share: float, note: str) -> None:
        nonlocal reached
        reached = share
        shop.progress(f"training {specialist.slug}: {note}", share)
        with suppress(StorageError):  # a busy database must not end hours of training
            _record(shop, specialist, JobState.RUNNING, share, note)

    _record(shop, specialist, JobState.FINISHED, 0.0, "")  # an old wish to stop is over
    show(0.0, "starting")
    asked = _Asked(shop.database, specialist.run_id)
    try:
        return run_training(job, show, timeout=_longest(shop, specialist.kind), stop=asked)
    except ApprenticeError as error:
        state = JobState.CANCELLED if asked.asked else JobState.FAILED
        _record(shop, specialist, state, reached, str(error))
        raise


def _longest(shop: Workshop, kind: Kind) -> float:
    settings = shop.settings
    if kind is Kind.GENERATOR:
        return settings.generator.timeout_seconds
    return settings.trainer.timeout_seconds


class _Asked(Stop):
    """Stops a job when its row says so; the row is read about once a second."""

    def __init__(self, database: Database, run_id: str) -> None:
        super().__init__()
        self._database = database
        self._run_id = run_id
        self._looked = time.monotonic()

    @property
    def asked(self) -> bool:
        now = time.monotonic()
        if not self._asked and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            with suppress(StorageError), self._database.transaction() as connection:
                job = find_job(connection, self._run_id)
                self._asked = job is not None and job.state is JobState.CANCELLING
        return self._asked


def _record(
    shop: Workshop, specialist: Specialist, state: JobState, progress: float, note: str
) -> None:
    with shop.database.transaction() as connection:
        save_job(
            connection,
            run_id=specialist.run_id,
            slug=specialist.slug,
            state=state,
            progress=progress,
            note=note,
            now=shop.clock(),
        )


def _find(shop: Workshop, slug: str) -> Specialist:
    with shop.database.transaction() as connection:
        found = find_specialist(connection, slug)
        if found is None:
            names = ", ".join(job.slug for job in list_jobs(connection)) or "none"
            raise UnknownVersionError(f"There is no specialist '{slug}'; trained so far: {names}.")
    return found


def _finished(output: Path) -> TrainingResult | None:
    """Return the result of a training that had finished before we were interrupted."""
    try:
        return _RESULT.validate_json((output / "result.json").read_bytes())
    except (FileNotFoundError, ValidationError, json.JSONDecodeError):
        return None
