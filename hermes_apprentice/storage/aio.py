"""The same database for the sidecar's event loop.

One connection with its own thread; writes are short. The schema is brought up
to date by opening ``storage.database.Database`` once at start.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import PRAGMAS, Database


class AsyncDatabase:
    """One aiosqlite connection."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection
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
            connection.row_factory = sqlite3.Row
            for pragma in PRAGMAS:
                await connection.execute(pragma)
        except sqlite3.Error as error:
            raise StorageError(f"{path}: {error}") from error
        return cls(path, connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Run a block in one write transaction; a second one waits for the first."""
        async with self._writing:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    await self._connection.execute("ROLLBACK")
                    raise
                await self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: {error}") from error

    async def read(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query."""
        try:
            return list(await self._connection.execute_fetchall(sql, values))
        except sqlite3.Error as error:
            raise StorageError(f"{self.path}: {error}") from error

    async def close(self) -> None:
        """Close the connection and stop its thread."""
        await self._connection.close()


def _migrate(path: Path) -> None:
    Database(path).close()
