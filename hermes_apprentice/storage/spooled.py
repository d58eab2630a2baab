"""The files of the spool as others see them: their names, and forgetting sessions in them.

A file may be written by its process meanwhile, which only appends: what is changed here
keeps its length, so that no offset moves, and no lock is needed. Knows nothing about the
ledger.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import orjson

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.forgotten import NAMELESS

SEGMENT_BYTES = 1_000_000
"""Size at which the next file is begun, so that written ones can go."""

LARGEST = 16 * SEGMENT_BYTES
"""A larger file is none of ours, and is not read."""

ENDING = ".jsonl"

_KEY = b'"session":'


def forget_in_spool(folder: Path, sessions: Collection[str]) -> int:
    """Take the names of sessions out of every file; their calls stay, without a name.

    Returns:
        How many calls lost their session's name.

    Raises:
        StorageError: A file cannot be read or changed.
    """
    names = []
    for session in sessions:
        with suppress(TypeError):  # no line can hold what is no text
            names.append(_KEY + orjson.dumps(session))
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ENDING)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {error.strerror}") from error
    return sum(_forget_in(path, names) for path in paths) if names else 0


def _forget_in(path: Path, names: Collection[bytes]) -> int:
    try:
        # A pipe in its place must not make us wait.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:  # its calls have reached the ledger
        return 0
    except OSError as error:
        raise StorageError(f"{path} cannot be changed: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            return 0
        return _blank(descriptor, names)
    except OSError as error:
        raise StorageError(f"{path} cannot be changed: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _blank(descriptor: int, names: Collection[bytes]) -> int:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        data = stream.read()
    found = 0
    for name in names:
        nameless = _KEY + orjson.dumps(NAMELESS)
        if len(nameless) > len(name):
            nameless = _KEY + b'""'
        start = data.find(name)
        while start >= 0:
            os.pwrite(descriptor, nameless.ljust(len(name)), start)
            found += 1
            start = data.find(name, start + len(name))
    if found:
        os.fdatasync(descriptor)
    return found
