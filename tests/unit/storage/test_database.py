"""Apprentice's own database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.migrations import MIGRATIONS


def test_opening_twice_migrates_once(tmp_path: Path) -> None:
    for _ in range(2):
        with Database(tmp_path / "a.db") as database:
            assert database.read("PRAGMA user_version")[0][0] == len(MIGRATIONS)


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    Database(tmp_path / "a.db").close()
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"these are my holiday notes" * 100)
    with pytest.raises(StorageError, match="not an Apprentice database"):
        Database(path)
    assert path.read_bytes() == b"these are my holiday notes" * 100


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        Database(path)


def test_an_error_inside_a_transaction_changes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute("INSERT INTO spending (at, purpose, amount) VALUES (1, 'x', 1)")
        raise RuntimeError
    assert database.read("SELECT * FROM spending") == []


def test_an_inner_transaction_belongs_to_the_outer_one(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction():
        with database.transaction() as connection:
            connection.execute("INSERT INTO spending (at, purpose, amount) VALUES (1, 'x', 1)")
        raise RuntimeError
    assert database.read("SELECT * FROM spending") == []
