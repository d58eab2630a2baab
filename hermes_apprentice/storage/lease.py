"""The right to do a piece of work, held by one process at a time.

A lock of the operating system, not a row with an expiry time: it ends with its
holder, however that ends, and cannot run out under a long training.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hermes_apprentice.errors import LeaseHeldError


@contextmanager
def lease(folder: Path, name: str) -> Iterator[None]:
    """Hold the lease ``name`` while the block runs.

    Raises:
        LeaseHeldError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise LeaseHeldError(
                f"Another process (pid {holder}) is doing this ('{name}'); "
                "try again when it has finished."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
