"""Read Hermes' ``state.db`` without ever writing to it or holding it up.

Opens the file read-only, asks it which columns it has, and gives rows as plain
values; every version of Hermes with the few core columns can be read. Knows
nothing about turns or exchanges.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from hermes_apprentice.errors import SessionDBError
from hermes_apprentice.observer.session_rows import (
    CHARS,
    STATES,
    MessageRow,
    RowPlace,
    SessionRow,
    message_columns,
    moment,
    parse_config,
    session_columns,
    state_column,
    to_message,
    to_session,
)

_BUSY_SECONDS = 1.0
_CHUNK = 500

_CORE = {
    "sessions": {"id", "source", "model", "started_at"},
    "messages": {
        *("id", "session_id", "role", "content", "tool_calls", "tool_call_id", "tool_name"),
        "timestamp",
    },
}


class SessionReader:
    """A read-only connection to one ``state.db``."""

    def __init__(self, path: Path) -> None:
        """Open the database.

        Raises:
            SessionDBError: It is missing, unreadable, locked, or not Hermes'.
        """
        self.path = path
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        _check_file(path)
        with _translated(path):
            self._connection = self._open(path)
        try:
            with _translated(path):
                # Old rows may hold bytes that are not UTF-8; one of them must not stop the rest.
                self._connection.text_factory = lambda data: data.decode(errors="replace")
                self._connection.execute("PRAGMA query_only=ON")
                columns = {table: self._columns(table) for table in _CORE}
            for table, needed in _CORE.items():
                if missing := sorted(needed - columns[table]):
                    raise SessionDBError(
                        f"{path} is not a Hermes session database: {table}.{missing[0]} is "
                        "missing. Point hermes_home at Hermes' own folder; if it is, start Hermes "
                        "once so that it upgrades the file."
                    )
        except BaseException:
            self.close()
            raise
        self._message_columns = message_columns(columns["messages"])
        self._session_columns = session_columns(columns["sessions"])
        self._state = state_column(columns["messages"])
        has_archive = {"active", "compacted"} <= columns["messages"]
        self._archived = "active = 0 AND compacted = 1" if has_archive else None
        self._has_config = "model_config" in columns["sessions"]
        self._has_sequence = bool(
            self._read("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
        )

    def _open(self, path: Path) -> sqlite3.Connection:
        """Connect; where nothing may be written beside a file that nobody has open, to a copy."""
        if not _needs_copy(path):
            return _connected(path)
        self._copies = tempfile.TemporaryDirectory(prefix="apprentice-")
        copy = Path(self._copies.name) / path.name
        try:
            while True:
                before = path.stat()
                shutil.copyfile(path, copy)
                if not _needs_copy(path):  # somebody has just opened it
                    return _connected(path)
                after = path.stat()
                if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                    return _connected(copy)
        except OSError as error:
            self._copies.cleanup()
            raise SessionDBError(f"{path} cannot be copied: {error.strerror}.") from error

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        if self._copies is not None:
            self._copies.cleanup()

    def __enter__(self) -> SessionReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See one state of the database during the block; keep it short.

        Never blocks Hermes in WAL mode; a long block would only delay its
        checkpoints. Where the file system has no WAL it delays Hermes' writes.
        """
        with _translated(self.path):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with _translated(self.path):
                self._connection.execute("ROLLBACK")

    # --- messages -------------------------------------------------------------------------

    def last_row(self) -> int:
        """Return the highest message id that was ever given, or 0."""
        highest = self._read("SELECT MAX(id) FROM messages")
        if self._has_sequence:
            highest += self._read("SELECT seq FROM sqlite_sequence WHERE name = 'messages'")
        return max(row[0] or 0 for row in highest)

    def rows_after(self, row_id: int, limit: int) -> list[MessageRow]:
        """Return the next messages of all sessions, in the order they were written."""
        return self._messages("id > ? ORDER BY id LIMIT ?", (row_id, limit))

    def rows_of(self, session_id: str, upto: int | None = None) -> list[MessageRow]:
        """Return a session's messages, taken back and archived ones included."""
        # The plus keeps SQLite on the session's index instead of a range of row ids.
        return self._messages(
            "session_id = ? AND +id <= ? ORDER BY id",
            (session_id, upto if upto is not None else 2**62),
        )

    def rows_between(self, session_id: str, first: int, last: int) -> list[MessageRow]:
        """Return a session's messages with ids from ``first`` to ``last``, both included."""
        if first > last:
            return []
        return self._messages(
            "session_id = ? AND +id >= ? AND +id <= ? ORDER BY id", (session_id, first, last)
        )

    def first_rows(self, session_ids: Iterable[str]) -> dict[str, int]:
        """Return the lowest message id of each session."""
        return dict(
            self._read_chunks(
                "SELECT session_id, MIN(id) FROM messages WHERE session_id IN ({}) "
                "GROUP BY session_id",
                session_ids,
            )
        )

    def places(self, row_ids: Iterable[int]) -> dict[int, RowPlace]:
        """Return where those of the messages are that still exist."""
        rows = self._read_chunks(
            f"SELECT id, session_id, {self._state}, timestamp FROM messages WHERE id IN ({{}})",
            row_ids,
        )
        return {row[0]: RowPlace(row[1], STATES[row[2]], moment(row[3])) for row in rows}

    def compacted_context(self, session_id: str, before: int) -> int | None:
        """Return how long the conversation before a row is, if the session was ever compacted.

        Returns:
            Characters that the model still sees, ``None`` if nothing was archived.
        """
        if self._archived is None:
            return None
        if not self._read(
            f"SELECT 1 FROM messages WHERE session_id = ? AND {self._archived} LIMIT 1",
            (session_id,),
        ):
            return None
        (row,) = self._read(
            f"SELECT SUM({CHARS}) FROM messages WHERE session_id = ? AND active = 1 AND +id < ?",
            (session_id, before),
        )
        return row[0] or 0

    def _messages(self, condition: str, values: Sequence[object]) -> list[MessageRow]:
        rows = self._read(f"SELECT {self._message_columns} FROM messages WHERE {condition}", values)
        return [to_message(row) for row in rows]

    # --- sessions -------------------------------------------------------------------------

    def sessions(self, session_ids: Iterable[str]) -> dict[str, SessionRow]:
        """Return those of the sessions that still exist."""
        rows = self._read_chunks(
            f"SELECT {self._session_columns} FROM sessions WHERE id IN ({{}})", session_ids
        )
        return {row[0]: to_session(row) for row in rows}

    def existing(self, session_ids: Iterable[str]) -> set[str]:
        """Return those of the sessions that still exist."""
        rows = self._read_chunks("SELECT id FROM sessions WHERE id IN ({})", session_ids)
        return {row[0] for row in rows}

    def session_tally(self) -> tuple[int, int]:
        """Return how many sessions there are, and the highest of their hidden row numbers."""
        (row,) = self._read("SELECT COUNT(*), COALESCE(MAX(rowid), 0) FROM sessions")
        return row[0], row[1]

    def sessions_added(self, rowid: int) -> int:
        """Return how many sessions have a hidden row number above this one."""
        (row,) = self._read("SELECT COUNT(*) FROM sessions WHERE rowid > ?", (rowid,))
        return int(row[0])

    def branches_of(self, session_id: str) -> list[str]:
        """Return the sessions that were branched off this one, even if it is gone."""
        if not self._has_config:
            return []
        rows = self._read(
            "SELECT id, model_config FROM sessions WHERE instr(model_config, ?)", (session_id,)
        )
        return [row[0] for row in rows if parse_config(row[1]).get("_branched_from") == session_id]

    # --- all ------------------------------------------------------------------------------

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with _translated(self.path):
            return self._connection.execute(sql, values).fetchall()

    def _read_chunks(self, sql: str, values: Iterable[object]) -> Iterator[Any]:
        items = list(values)
        for start in range(0, len(items), _CHUNK):
            chunk = items[start : start + _CHUNK]
            yield from self._read(sql.format(", ".join("?" * len(chunk))), chunk)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
    )


def _needs_copy(path: Path) -> bool:
    """Whether SQLite could not open a file whose log it would have to make.

    A database with a write-ahead log is opened by making the log's index beside it, unless
    whoever writes it has made one. On a read-only mount that fails.
    """
    if os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists():
        return False
    with path.open("rb") as file:
        return file.read(20)[18:20] == b"\x02\x02"  # the header's mark of a write-ahead log


def _check_file(path: Path) -> None:
    try:
        is_file = os.path.isfile(path)
        if not is_file:
            path.stat()
        with path.open("rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SessionDBError(
            f"{path} does not exist. Talk to Hermes once, or set HERMES_HOME to its folder."
        ) from error
    except IsADirectoryError as error:
        raise SessionDBError(
            f"{path} is a folder; set HERMES_HOME to the folder that holds Hermes' state.db."
        ) from error
    except OSError as error:
        raise SessionDBError(
            f"{path} cannot be read: {error.strerror}. Run Apprentice as the user who runs Hermes."
        ) from error


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "not a database" in text:
            message = f"{path} is not an SQLite database; move it away and start Hermes once."
        elif "locked" in text or "busy" in text:
            message = f"{path} is locked by another program; it is tried again at the next poll."
        elif "unable to open" in text or "readonly" in text:
            message = (
                f"{path} cannot be opened: its folder must be writable, because SQLite keeps "
                "state.db-wal and state.db-shm there. Run Apprentice as the user who runs Hermes."
            )
        elif "malformed" in text:
            message = f"{path} is damaged; start Hermes once, which repairs it, then try again."
        else:
            message = f"{path} cannot be read: {text}."
        raise SessionDBError(message) from error
