"""A poll may trust the file's time only when it is old enough."""

from __future__ import annotations

import os
from pathlib import Path

from hermes_apprentice.observer.file_state import identity, signature


def test_a_file_just_written_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"x")
    os.utime(path, (1_000, 1_000))
    assert signature(path, 1_001.0) is None
    assert signature(path, 1_003.0) is not None


def test_every_change_shows_and_an_empty_log_does_not(tmp_path: Path) -> None:
    path, log = tmp_path / "state.db", tmp_path / "state.db-wal"
    path.write_bytes(b"x")
    seen = {signature(path, 9e9)}
    log.touch()
    assert signature(path, 9e9) in seen
    log.write_bytes(b"frame")
    seen.add(signature(path, 9e9))
    os.utime(log, (5, 5))
    seen.add(signature(path, 9e9))
    (tmp_path / "other").write_bytes(b"x")
    os.replace(tmp_path / "other", path)
    seen.add(signature(path, 9e9))
    assert len(seen) == 4


def test_a_missing_file_has_neither(tmp_path: Path) -> None:
    assert identity(tmp_path / "state.db") is None
    assert signature(tmp_path / "state.db", 9e9) is None
