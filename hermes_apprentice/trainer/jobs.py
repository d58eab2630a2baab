"""Run a training job in a child process that can be watched, stopped and waited for.

The child is the leader of its own process group, so that what it starts ends
with it. Knows nothing about models.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hermes_apprentice import errors
from hermes_apprentice.domain.training import TrainingJob, TrainingResult
from hermes_apprentice.errors import ApprenticeError, TrainingError
from hermes_apprentice.settings import child_environment
from hermes_apprentice.storage.files import write_atomically
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

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_LOG_LINES = 8


class Stop:
    """Asks a running job to stop; may be set from another thread or a signal handler."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        """Ask for the job to be stopped."""
        self._asked = True

    @property
    def asked(self) -> bool:
        """Whether `ask` was called."""
        return self._asked


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
    with log.open("ab") as log_stream:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_stream,
            env=environment,
            start_new_session=True,
        )
    watch = _Watch(child, on_progress, time.monotonic() + timeout, stop)
    try:
        watch.run()
    finally:
        _end(child)
        _remove(output.glob(f"{SCRATCH_PREFIX}*"))
        if not result_file.exists():
            _clear(output)
    if watch.problem is not None:
        raise _translated(watch.problem)
    if watch.ended_early:
        raise TrainingError(f"training was stopped: {watch.ended_early}. Log: {log}")
    if child.returncode != 0:
        raise TrainingError(f"training ended with status {child.returncode}: {_tail(log)}")
    try:
        return RESULT.validate_json(result_file.read_bytes())
    except (OSError, ValidationError) as exc:
        raise TrainingError(f"training left no result: {_tail(log)}") from exc


def _clear(output: Path) -> None:
    """Remove what an earlier or a broken run left, the result first; the log stays."""
    for name in (RESULT_FILE, HELD_OUT_FILE):
        (output / name).unlink(missing_ok=True)
    _remove([output / ARTEFACT_DIR, *output.glob(f".{ARTEFACT_DIR}.*")])


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)


class _Watch:
    """Follows a child's standard output until it ends or has to be ended."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        on_progress: Callable[[float, str], None],
        deadline: float,
        stop: Stop | None,
    ) -> None:
        self._child = child
        self._on_progress = on_progress
        self._deadline = deadline
        self._stop = stop
        self._pending = b""
        self.problem: dict[str, Any] | None = None
        self.ended_early = ""

    def run(self) -> None:
        stream = self._child.stdout
        if stream is None:
            raise TrainingError("the training process has no output")
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if self._stop is not None and self._stop.asked:
                    self.ended_early = "it was asked to"
                    return
                if time.monotonic() > self._deadline:
                    self.ended_early = "it took longer than allowed"
                    return
                if not selector.select(_POLL_SECONDS):
                    continue
                piece = os.read(stream.fileno(), 65_536)
                if not piece:
                    self._child.wait(_GRACE_SECONDS)
                    return
                self._read(piece)

    def _read(self, piece: bytes) -> None:
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if not isinstance(said, dict):
                continue
            if "error" in said:
                self.problem = said
            elif "progress" in said:
                self._on_progress(float(said["progress"]), str(said.get("doing", "")))


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything it started, and wait until it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _translated(problem: dict[str, Any]) -> ApprenticeError:
    """Return the child's error as one of ours, of the same class."""
    known = getattr(errors, str(problem.get("kind")), TrainingError)
    message = str(problem["error"])
    if not (isinstance(known, type) and issubclass(known, ApprenticeError)):
        return TrainingError(message)
    error = known.__new__(known)
    ApprenticeError.__init__(error, message)
    return error


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return f"see {log}"
    return " | ".join(lines[-_LOG_LINES:]) or f"see {log}"
