"""The sidecar's database, which may be missing, locked, full or broken at any time.

Opened when it is first needed, and again when another file stands in its place or
its connection is beyond repair. What could not be opened is left alone for a while.
Knows nothing about what is stored.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.aio import AsyncDatabase

REST_SECONDS = 5.0
"""Pause between two attempts to open it."""

CHECK_SECONDS = 5.0
"""Between two looks at whether the file itself is still a database."""


class Store:
    """Gives the database, or says why it cannot."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.problem = ""
        self._path = path
        self._clock = clock
        self._database: AsyncDatabase | None = None
        self._file: tuple[int, int] | None = None
        self._opening = asyncio.Lock()
        self._next_try = float("-inf")
        self._next_check = float("-inf")
        self._overwritten: tuple[int, int] | None = None
        """The file of which something else was found in its place."""

    async def database(self) -> AsyncDatabase:
        """Return the open database.

        Raises:
            StorageError: It cannot be opened, or could not a moment ago.
        """
        async with self._opening:
            if self._database is not None:
                await self._give_up_on_a_lost_one(self._database)
            if self._database is None:
                if self._clock() < self._next_try:
                    raise StorageError(self.problem)
                try:
                    self._database = await self._open()
                except StorageError as error:
                    self._next_try = self._clock() + REST_SECONDS
                    self.problem = str(error)
                    raise
                self._file = self._present()
                self._next_check = self._clock() + CHECK_SECONDS
                self.problem = ""
            return self._database

    async def _open(self) -> AsyncDatabase:
        database = await AsyncDatabase.open(self._path)
        if self._overwritten is not None and self._overwritten == self._present():
            # Closing it may have written some of its pages, and the header, back from the log.
            try:
                await database.check_pages()
            except BaseException:
                await database.close()
                raise
        self._overwritten = None
        return database

    async def _give_up_on_a_lost_one(self, database: AsyncDatabase) -> None:
        """Close what would write into a file that is gone, or never work again."""
        if self._clock() >= self._next_check:
            self._next_check = self._clock() + CHECK_SECONDS
            try:
                await database.check_header()
            except StorageError:
                self._overwritten = self._present()
        if database.problem:
            self.problem = database.problem
            self._next_try = self._clock() + REST_SECONDS
        elif self._present() == self._file:
            return
        self._database = None
        await database.close()

    def _present(self) -> tuple[int, int] | None:
        """Return what tells the file that lies there now from any other."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    async def close(self) -> None:
        """Close it, if it is open."""
        async with self._opening:
            if self._database is not None:
                await self._database.close()
                self._database = None
