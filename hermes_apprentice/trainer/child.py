"""Run a piece of work in a child process that can be watched, stopped and waited for.

The child is the leader of its own process group, so that what it starts ends with it. It tells
its progress, and the error that ended it, as JSON lines on standard output. Knows nothing about
what the work is.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice import errors
from hermes_apprentice.errors import ApprenticeError, TrainingError

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0
_LOG_LINES = 8


class Stop:
    """Asks a running child to stop; may be set from another thread or a signal handler."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self) -> None:
        """Ask for the work to be stopped."""
        self._asked = True

    @property
    def asked(self) -> bool:
        """Whether `ask` was called."""
        return self._asked


class Ended(NamedTuple):
    """How a child ended."""

    status: int
    """Its exit status; negative for the signal that killed it."""

    problem: dict[str, Any] | None
    """The error that it told, with ``error`` and ``kind``."""

    early: str
    """Why it was ended from here; empty if it was not."""


def run_child(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    on_progress: Callable[[float, str], None],
    timeout: float,
    stop: Stop | None = None,
) -> Ended:
    """Run a command to its end; nothing of it is left running.

    Args:
        command: Program and arguments.
        environment: The child's variables.
        log: Its standard error is appended here.
        on_progress: Told the share that is done, 0 to 1, and what is being done.
        timeout: Seconds after which it is ended.
        stop: Ends it early.
    """
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
    return Ended(child.returncode, watch.problem, watch.ended_early)


def as_error(problem: dict[str, Any], otherwise: type[ApprenticeError]) -> ApprenticeError:
    """Return what a child told as an error of the same class, or of ``otherwise``."""
    known = getattr(errors, str(problem.get("kind")), otherwise)
    message = str(problem["error"])
    if problem.get("kind") == "MemoryError":
        return otherwise("there was not enough memory")
    if not (isinstance(known, type) and issubclass(known, ApprenticeError)):
        return otherwise(message)
    error = known.__new__(known)
    ApprenticeError.__init__(error, message)
    return error


def tail_of(log: Path) -> str:
    """Return the last lines of a log on one line, or where it lies."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return f"see {log}"
    return " | ".join(lines[-_LOG_LINES:]) or f"see {log}"


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
