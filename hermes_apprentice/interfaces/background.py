"""A job in a process of its own that outlives whoever started it, one of a kind at a time.

The lock is taken before the child starts and handed to it, so there is no moment
at which two could start, and it ends with the child, however that ends. What the
child leaves behind when it is killed is a record that still says "running": the
next start reports that. Knows nothing about what the jobs do.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice.errors import ApprenticeError, LeaseHeldError, StorageError
from hermes_apprentice.settings import Settings, child_environment
from hermes_apprentice.storage.files import write_atomically

_LONGEST_LOG = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of work with a name."""

    name: str
    """For the lock, the log and the record; a file name."""

    module: str
    """Run with ``python -m``, the name as its only argument; calls ``finish``."""


class Ending(NamedTuple):
    """How the last run of a job ended."""

    ok: bool
    """Whether it did its work."""

    message: str
    """What went wrong, and where to read more."""

    started_at: float
    """Unix time."""


def start(settings: Settings, job: Job) -> subprocess.Popen[bytes] | None:
    """Start the job, or return ``None`` where it is running already.

    Raises:
        StorageError: The folder for its log cannot be written.
    """
    paths = _Paths(settings, job)
    with _lock(paths) as descriptor:
        if descriptor is None:
            return None
        paths.record.unlink(missing_ok=True)
        _write(paths.record, {"state": "running", "started_at": time.time()})
        mode = "ab" if _size(paths.log) < _LONGEST_LOG else "wb"
        with paths.log.open(mode) as log:
            return subprocess.Popen(
                [sys.executable, "-m", job.module, job.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=settings.home,
                env=child_environment(
                    APPRENTICE_HOME=str(settings.home), HERMES_HOME=str(settings.hermes_home)
                ),
                start_new_session=True,
                pass_fds=(descriptor,),
            )


def last_ending(settings: Settings, job: Job) -> Ending | None:
    """Return how the last run ended, once; ``None`` while it runs or if that was told already."""
    paths = _Paths(settings, job)
    with _lock(paths) as descriptor:
        if descriptor is None:
            return None
        if not paths.record.exists():
            return None
        record = _read(paths)
        paths.record.unlink(missing_ok=True)
    state, began = record.get("state"), float(record.get("started_at", 0.0))
    if state == "done":
        return Ending(True, "", began)
    if state == "failed":
        return Ending(False, str(record.get("message", "")), began)
    return Ending(False, f"it was stopped before it had finished; see {paths.log}", began)


def running_since(settings: Settings, job: Job) -> float | None:
    """Return when the present run was started, Unix time; ``None`` where that is not known."""
    record = _read(_Paths(settings, job))
    return (
        float(record.get("started_at", 0.0)) or None if record.get("state") == "running" else None
    )


def wait(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child for a while, and return whether it has ended."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.returncode = 0  # nobody waits for it here: it outlives this process by design
        return False
    return True


def leave(child: subprocess.Popen[bytes]) -> None:
    """Let a child go on by itself, without a zombie when it ends before this process does."""
    threading.Thread(target=child.wait, name="apprentice-child", daemon=True).start()


def finish(settings: Settings, job: Job, work: Callable[[], object]) -> int:
    """Do the work in the child and record how it ended; returns the exit code.

    What is not ours is left to end the process with its traceback in the log.
    """
    paths = _Paths(settings, job)
    try:
        work()
    except LeaseHeldError:
        pass  # somebody does it by hand at this moment
    except ApprenticeError as error:
        _note(paths, {"state": "failed", "message": str(error)})
        print(f"apprentice: {error}", file=sys.stderr)
        return 1
    _note(paths, {"state": "done"})
    return 0


class _Paths:
    def __init__(self, settings: Settings, job: Job) -> None:
        self.lock = settings.home / "locks" / f"background-{job.name}.lock"
        self.log = settings.home / "logs" / f"{job.name}.log"
        self.record = settings.home / "logs" / f"{job.name}.json"


@contextmanager
def _lock(paths: _Paths) -> Iterator[int | None]:
    """Hold the job's lock, or give ``None`` where a running child holds it."""
    try:
        for folder in (paths.lock.parent, paths.log.parent):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{paths.lock.parent.parent} cannot be written: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        # Closing ends the lock only where no child has inherited it.
        os.close(descriptor)


def _read(paths: _Paths) -> dict[str, Any]:
    try:
        record = json.loads(paths.record.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _note(paths: _Paths, change: dict[str, Any]) -> None:
    _write(paths.record, {**_read(paths), **change})


def _write(path: Path, record: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(record).encode())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
