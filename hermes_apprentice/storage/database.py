"""Apprentice's own SQLite database, for the learning half and the commands.

The sidecar uses ``storage.aio``; both speak to the same file. Knows nothing
about what is stored: the store classes beside it do.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.migrations import MIGRATIONS

BUSY_TIMEOUT_MS = 5_000
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
)


class Database:
    """One connection, migrated to the newest schema when it opens.

    Raises:
        StorageError: The file cannot be opened, is not ours, or is from a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None
            )
        except (sqlite3.Error, OSError) as error:
            raise translated(path, error) from error
        try:
            os.chmod(path, 0o600)
            self._connection.row_factory = sqlite3.Row
            for pragma in PRAGMAS:
                self._connection.execute(pragma)
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            raise translated(path, error) from error
        except BaseException:
            self._connection.close()
            raise

    def _migrate(self) -> None:
        if self._version() == len(MIGRATIONS):
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version()  # another process may have been faster
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path} was written by a newer version; upgrade hermes-apprentice."
                )
            for script in MIGRATIONS[version:]:
                for statement in _statements(script):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
            self._connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a block in one write transaction: all of it happens, or nothing.

        A block inside another joins the outer transaction.
        """
        if self._connection.in_transaction:
            yield self._connection
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._undo()
                raise
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    def _undo(self) -> None:
        # A full disk or a damaged file has ended the transaction already.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read several things as they are at one moment; nobody is kept from writing.

        Nothing may be written in the block.
        """
        try:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    def read(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """Return every row of a query."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    def settle(self) -> bool:
        """Write what the log holds into the file and empty it, so that no deleted text is left.

        Returns:
            Whether it could be emptied; readers at work put it off until a later call.
        """
        (row,) = self.read("PRAGMA wal_checkpoint(TRUNCATE)")
        return not row[0]

    def copy_to(self, path: Path) -> Database:
        """Return an independent copy of the whole database, at ``path``."""
        copy = Database(path)
        try:
            self._connection.backup(copy._connection)
        except sqlite3.Error as error:
            copy.close()
            raise translated(self.path, error) from error
        return copy

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _statements(script: str) -> list[str]:
    return [statement for statement in script.split(";") if statement.strip()]


def translated(path: Path, error: Exception) -> StorageError:
    """Return what a foreign error means for the file at ``path``, and what can be done."""
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        return StorageError(f"{path} is not an Apprentice database; move it away and try again.")
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return StorageError(f"{path} is locked by another process; try again in a moment.")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "is full" in str(error):
        return StorageError(f"{path} cannot be written: the disk is full; make room on it.")
    if "malformed" in str(error):
        return StorageError(f"{path} is damaged; restore it from a copy, or move it away.")
    return StorageError(f"{path}: {error}")
