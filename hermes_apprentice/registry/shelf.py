"""What lies in the registry's folder, whatever it is: numbered folders, one writer at a time.

Knows nothing about versions or matchers.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hermes_apprentice.errors import RegistryError
from hermes_apprentice.registry.signing import Keys

FORMAT = 1
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class Shelf:
    """One folder that several processes share, and the keys that sign for it."""

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root = root
        self._keys = keys

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let one process write at a time; the kernel lets go when it dies."""
        with translated("the registry"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.root / ".lock").open("a")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none where it is not there."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise RegistryError(f"{root} cannot be read: {exc}") from exc


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Say of an error of the disk what could not be written."""
    try:
        yield
    except OSError as exc:
        raise RegistryError(f"{what} could not be written: {exc}") from exc
