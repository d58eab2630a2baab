"""Calls that are answered and not yet in the ledger, in files that outlive the process.

Every finished call becomes one line, appended by a single write and not flushed to the
disk: the kernel keeps it when the process is killed, though not when the machine loses
its power. How far a file has reached the ledger is written in the transaction of its
entries, so that none is taken over twice. A file belongs to the process that holds its
lock; what nobody holds was left behind, and the next start takes it over. Knows nothing
about who answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.ledger import append, read_marks
from hermes_apprentice.storage.spooled import ENDING, LARGEST, SEGMENT_BYTES

REST_SECONDS = 5.0
"""Pause before the spool is tried again, after it could not be written or was slow."""

SLOW_SECONDS = 1.0
"""A write that takes longer holds up every request: then the disk is left alone for a while."""

CHUNK = 500
"""Entries that are taken over in one transaction."""

_ENTRY = TypeAdapter(LedgerEntry)


class Segment:
    """One file, while its process writes it."""

    __slots__ = ("descriptor", "end", "ended", "path", "written")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.end = 0
        """Behind the last whole line."""
        self.written = 0
        """How much of that is in the ledger."""
        self.ended = False
        """Whether nothing more is written into it."""


class Place(NamedTuple):
    """Where the line of an entry ends."""

    segment: Segment
    """In which file."""

    end: int
    """Offset in bytes."""


class Spool:
    """The files of one process."""

    def __init__(self, folder: Path, ticks: Callable[[], float] = time.monotonic) -> None:
        self.problem = ""
        """Why calls would be lost if the process were killed now; empty while none would."""
        self.left_alone = ""
        """What another run left behind and nobody can read; empty for nothing."""
        self._folder = folder
        self._ticks = ticks
        self._segment: Segment | None = None
        self._next_try = float("-inf")
        self._kept: set[Segment] = set()
        self._gone: list[str] = []

    def add(self, entry: LedgerEntry) -> Place | None:
        """Append a call; ``None`` where that is not possible now. Never raises."""
        segment = self._segment
        if segment is None or segment.end >= SEGMENT_BYTES:
            segment = self._next()
            if segment is None:
                return None
        try:
            line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError:  # no table can hold it either
            return None
        began = self._ticks()
        try:
            written = os.write(segment.descriptor, line)
        except OSError as error:
            self._rest(f"{segment.path} cannot be written: {error.strerror}")
            return None
        if written != len(line):
            self._rest(f"{segment.path} cannot be written: the disk is full")
            return None
        segment.end += written
        place = Place(segment, segment.end)
        if self._ticks() - began > SLOW_SECONDS:
            self._rest(f"{segment.path} takes longer than {SLOW_SECONDS:g} s to write")
        return place

    def tend(self) -> None:
        """Try again what did not work, once its pause is over."""
        if self.problem:
            self._next()

    def marks(self, places: Sequence[Place | None]) -> dict[str, int]:
        """Return how far each file has reached the ledger with these entries, oldest first."""
        return {place.segment.path.name: place.end for place in places if place is not None}

    def written(self, places: Sequence[Place | None]) -> None:
        """Note what is in the ledger now, and remove the files of which everything is."""
        ends = {id(place.segment): place for place in places if place is not None}
        for segment, end in ends.values():
            segment.written = end
            self._remove_if_done(segment)

    def forgettable(self) -> list[str]:
        """Return the names of removed files, whose marks nobody needs any more."""
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Let go of every file; the next start takes over what is not in the ledger yet."""
        self._end()
        for segment in self._kept:
            os.close(segment.descriptor)
        self._kept.clear()
        with suppress(OSError):  # somebody else's files are in it, or it was never made
            self._folder.rmdir()

    async def take_over(self, database: AsyncDatabase) -> int:
        """Put into the ledger what other runs left behind; returns how many calls that were.

        Raises:
            StorageError: The database cannot be written; what is left is taken over next time.
        """
        taken = 0
        orphans = await asyncio.to_thread(lambda: list(self._orphans()))
        try:
            known = await read_marks(database)
            for path, descriptor in orphans:
                mark = known.get(path.name, 0)
                entries = await asyncio.to_thread(_entries, descriptor, mark)
                for start in range(0, len(entries), CHUNK):
                    taken += await _put(database, path.name, entries[start : start + CHUNK])
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            # A mark is older than the look at the folder: whoever made it had its file by then.
            gone = sorted({*known, *(path.name for path, _ in orphans)} - self._present())
            if gone:
                await append(database, (), (), forget=gone)
        finally:
            for _, descriptor in orphans:
                os.close(descriptor)
        return taken

    def _next(self) -> Segment | None:
        """Begin another file; ``None`` during a pause, or where that is not possible."""
        now = self._ticks()
        if now < self._next_try:
            return None
        self._end()
        try:
            self._segment = self._begin()
        except OSError as error:
            self._rest(f"{self._folder} cannot be written: {error.strerror}")
            return None
        self.problem = ""
        return self._segment

    def _begin(self) -> Segment:
        while True:
            # Another sidecar that stops right now takes an empty folder away.
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._folder / f"{secrets.token_hex(8)}{ENDING}"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A sidecar that starts right now may have taken the empty file for left behind.
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return Segment(path, descriptor)
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _rest(self, problem: str) -> None:
        self.problem = f"{problem}; calls that are not yet in the ledger would be lost by a crash"
        self._next_try = self._ticks() + REST_SECONDS
        self._end()

    def _end(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.ended = True
            self._kept.add(segment)
            self._remove_if_done(segment)

    def _remove_if_done(self, segment: Segment) -> None:
        if not segment.ended or segment.written < segment.end:
            return
        # The mark goes later than the file: without it all of its calls would be taken over again.
        with suppress(OSError):
            segment.path.unlink(missing_ok=True)
            self._gone.append(segment.path.name)
        os.close(segment.descriptor)
        self._kept.discard(segment)

    def _present(self) -> set[str]:
        try:
            return {path.name for path in self._folder.iterdir()}
        except FileNotFoundError:
            return set()

    def _orphans(self) -> Iterator[tuple[Path, int]]:
        """Give the files that no process holds, locked."""
        self.left_alone = ""
        try:
            paths = sorted(path for path in self._folder.iterdir() if path.suffix == ENDING)
        except FileNotFoundError:
            return
        except OSError as error:
            self.left_alone = f"{self._folder} cannot be read: {error.strerror}"
            return
        for path in paths:
            try:
                # A pipe in its place must not make us wait.
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.left_alone = f"{path} cannot be read: {error.strerror}"
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # somebody writes it, or is taking it over
                os.close(descriptor)
                continue
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                self.left_alone = f"{path} is none of ours: move it away"
                os.close(descriptor)
                continue
            yield path, descriptor


def _entries(descriptor: int, known: int) -> list[tuple[LedgerEntry, int]]:
    """Return the calls behind an offset with the ends of their lines; what is torn is left out."""
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        stream.seek(known)
        found, end = [], known
        for line in stream:
            end += len(line)
            with suppress(ValidationError):
                found.append((_ENTRY.validate_json(line), end))
    return found


async def _put(
    database: AsyncDatabase, name: str, entries: Sequence[tuple[LedgerEntry, int]]
) -> int:
    """Write calls into the ledger, and how far their file has reached it; returns how many."""
    marks: Mapping[str, int] = {name: entries[-1][1]}
    try:
        await append(database, [entry for entry, _ in entries], (), marks=marks)
    except (OverflowError, ValueError):  # something that no table can hold: all but that
        if len(entries) == 1:
            await append(database, (), (), marks=marks)
            return 0
        return sum([await _put(database, name, [one]) for one in entries])
    return len(entries)
