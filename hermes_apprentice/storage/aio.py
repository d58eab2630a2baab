"""The same database for the sidecar's event loop.

One connection with its own thread; writes are short. The schema is brought up
to date by opening ``storage.database.Database`` once at start.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import PRAGMAS, Database, translated

_BEYOND_REPAIR = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
    }
)
"""Errors after which a connection may go on failing although the file is in order again."""


class AsyncDatabase:
    """One aiosqlite connection."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self.problem = ""
        """Why the connection should be given up for a new one; empty while it need not be."""
        self._connection = connection
        self._closed = False
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> AsyncDatabase:
        """Open the database, migrating it first.

        Raises:
            StorageError: As ``Database`` does.
        """
        # Waits for locks, which must not stop the event loop.
        await asyncio.to_thread(_migrate, path)
        try:
            connection = await aiosqlite.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise translated(path, error) from error
        opened = cls(path, connection)
        try:
            connection.row_factory = sqlite3.Row
            for pragma in PRAGMAS:
                await connection.execute(pragma)
        except sqlite3.Error as error:
            await opened.close()
            raise translated(path, error) from error
        except BaseException:
            await opened.close()
            raise
        return opened

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Run a block in one write transaction; a second one waits for the first."""
        async with self._writing:
            self._check_open()
            try:
                try:
                    await self._connection.execute("BEGIN IMMEDIATE")
                    yield self._connection
                    await self._connection.execute("COMMIT")
                except BaseException:
                    # Whoever gave up waiting for the lock may have got it since; and a full disk
                    # or a damaged file has ended the transaction already.
                    with suppress(sqlite3.Error):
                        await self._connection.execute_fetchall("SELECT 1")
                    if self._connection.in_transaction:
                        await self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._translated(error) from error

    async def read(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query."""
        self._check_open()
        try:
            return list(await self._connection.execute_fetchall(sql, values))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    async def check_header(self) -> None:
        """Look at the beginning of the file itself; it costs a fraction of a millisecond.

        A connection goes on for long with what its log and its memory hold, whatever became of
        the file.

        Raises:
            StorageError: What lies there is no database any more.
        """
        try:
            await asyncio.to_thread(_read_header, self.path)
        except sqlite3.Error as error:
            # Nothing else says that it is damaged: it may be written right now.
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
                raise self._translated(error) from error

    async def check_pages(self) -> None:
        """Look at every page; it takes as long as reading the whole file.

        Raises:
            StorageError: One of them is damaged.
        """
        ((found,),) = await self.read("PRAGMA quick_check(1)")
        if found != "ok":
            self.problem = str(translated(self.path, sqlite3.DatabaseError("malformed")))
            raise StorageError(self.problem)

    async def close(self) -> None:
        """Close the connection and stop its thread."""
        async with self._writing:
            self._closed = True
            with suppress(sqlite3.Error):
                await self._connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.path} was closed; it is opened again in a moment.")

    def _translated(self, error: sqlite3.Error) -> StorageError:
        found = translated(self.path, error)
        code = getattr(error, "sqlite_errorcode", 0) or 0
        if code & 0xFF in _BEYOND_REPAIR:
            self.problem = str(found)
        return found


def _read_header(path: Path) -> None:
    # To be read past the log; and by SQLite, because closing the file by ourselves would take
    # this process's locks away from its other connections.
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        connection.execute("PRAGMA schema_version")
    finally:
        connection.close()


def _migrate(path: Path) -> None:
    Database(path).close()
