"""Run a training job in a child process, and clear up after one that failed.

Knows nothing about models.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from hermes_apprentice.domain.training import TrainingJob, TrainingResult
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.settings import child_environment
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.trainer.child import Stop, as_error, run_child, tail_of
from hermes_apprentice.trainer.finetuning import SCRATCH_PREFIX
from hermes_apprentice.trainer.worker import (
    ARTEFACT_DIR,
    HELD_OUT_FILE,
    JOB,
    RESULT,
    RESULT_FILE,
)

JOB_FILE = "job.json"
LOG_FILE = "training.log"


def run_training(
    job: TrainingJob,
    on_progress: Callable[[float, str], None],
    timeout: float,
    stop: Stop | None = None,
) -> TrainingResult:
    """Run a job to its end and return what it says of itself.

    The artefact lies in ``job.output_dir`` afterwards, beside the log. When the
    job fails, is stopped or runs out of time there is no artefact of it.

    Args:
        job: What to do.
        on_progress: Told the share that is done, 0 to 1, and what is being done.
        timeout: Seconds after which the job is stopped.
        stop: Stops the job early.

    Raises:
        TrainingError: The job failed, was stopped or took too long; the message has the reason.
        MissingExtraError: It needs the training environment, which is not there.
        ModelStoreError: The embedder is missing or damaged.
    """
    output = Path(job.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    result_file = output / RESULT_FILE
    _clear(output)
    write_atomically(output / JOB_FILE, JOB.dump_json(job, indent=1))
    log = output / LOG_FILE
    command = [
        sys.executable,
        "-m",
        "hermes_apprentice.trainer.worker",
        str(output / JOB_FILE),
        str(os.getpid()),
    ]
    # More threads than cores make small matrix products many times slower, not faster.
    environment = child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    try:
        ended = run_child(command, environment, log, on_progress, timeout, stop)
    finally:
        _remove(output.glob(f"{SCRATCH_PREFIX}*"))
        if not result_file.exists():
            _clear(output)
    if ended.problem is not None:
        raise as_error(ended.problem, TrainingError)
    if ended.early:
        raise TrainingError(f"training was stopped: {ended.early}. Log: {log}")
    if ended.status < 0:
        raise TrainingError(
            f"training was killed by signal {-ended.status}; the machine may be short of memory. "
            f"Last words: {tail_of(log)}"
        )
    if ended.status != 0:
        raise TrainingError(f"training ended with status {ended.status}: {tail_of(log)}")
    try:
        return RESULT.validate_json(result_file.read_bytes())
    except (OSError, ValidationError) as exc:
        raise TrainingError(f"training left no result: {tail_of(log)}") from exc


def _clear(output: Path) -> None:
    """Remove what an earlier or a broken run left, the result first; the log stays."""
    for name in (RESULT_FILE, HELD_OUT_FILE):
        (output / name).unlink(missing_ok=True)
    _remove([output / ARTEFACT_DIR, *output.glob(f".{ARTEFACT_DIR}.*")])


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)
