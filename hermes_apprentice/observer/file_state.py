"""Tell whether a database file was written to, without opening it."""

from __future__ import annotations

from pathlib import Path

_SETTLED_SECONDS = 2.0
"""Age from which an unchanged file time proves that nothing was written."""


def identity(path: Path) -> str | None:
    """Name the file itself, which changes when it is replaced by another."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"


def signature(path: Path, now: float) -> str | None:
    """Return something that differs after every write to the database, or ``None``.

    A file changed just now may change again within the clock's resolution, so
    its time proves nothing yet. Opening a database makes an empty log beside it.
    """
    parts = [identity(path) or ""]
    newest = 0.0
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return None
        if status.st_size:
            parts.append(f"{status.st_mtime_ns}:{status.st_size}")
            newest = max(newest, status.st_mtime)
    return "|".join(parts) if newest and newest + _SETTLED_SECONDS <= now else None
