"""The tab of Hermes' dashboard: its files in Hermes' folder of plugins.

Hermes looks for dashboard pages in folders only, not in installed packages. The folder
has no ``plugin.yaml``, so Hermes' plugin loader passes it by and loads the installed
plugin once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hermes_apprentice.assets import dashboard_files
from hermes_apprentice.interfaces.install.receipt import Receipt, digest

FOLDER = Path("plugins", "apprentice")
"""Below a profile's home."""

_COMPILED = "__pycache__"


@dataclass(frozen=True, slots=True, kw_only=True)
class TabState:
    """What lies in the folder now."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files that are called like ours, by their path below ``dashboard``."""

    foreign: tuple[str, ...] = ()
    """Anything else, by its path below the folder; never touched."""


class TabChange(NamedTuple):
    """One file, before and after; ``None`` for no file."""

    path: Path
    """Which."""

    before: bytes | None
    """Its content now."""

    after: bytes | None
    """Its content then."""


def survey_tab(home: Path, receipt: Receipt | None) -> TabState:
    """Read the folder of a profile.

    Raises:
        OSError: It cannot be read.
    """
    folder = home / FOLDER
    if folder.is_symlink():
        return TabState(foreign=(".",))
    known = {*dashboard_files(), *(receipt.tab if receipt is not None else ())}
    files: dict[str, bytes] = {}
    foreign: list[str] = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        name = below.relative_to("dashboard").as_posix() if below.parts[0] == "dashboard" else ""
        if path.is_symlink():
            foreign.append(below.as_posix())
        elif path.is_file() and name in known:
            files[name] = path.read_bytes()
        elif path.is_file() and _COMPILED not in below.parts:
            foreign.append(below.as_posix())
    return TabState(files=files, foreign=tuple(foreign))


def foreign_in(state: TabState, receipt: Receipt | None) -> bool:
    """Whether something lies there that no setup made."""
    shipped = dashboard_files()
    ours = receipt.tab if receipt is not None else {}
    return bool(state.foreign) or any(
        content != shipped.get(name) and digest(content) != ours.get(name)
        for name, content in state.files.items()
    )


def tab_changes(
    home: Path, state: TabState, receipt: Receipt | None, wanted: Mapping[str, bytes]
) -> list[TabChange]:
    """Return what brings the folder up to date; a file of ours that is not wanted goes."""
    folder = home / FOLDER / "dashboard"
    ours = receipt.tab if receipt is not None else {}
    changes = [
        TabChange(folder / name, state.files.get(name), content)
        for name, content in wanted.items()
        if state.files.get(name) != content
    ]
    changes += [
        TabChange(folder / name, content, None)
        for name, content in state.files.items()
        if name not in wanted and digest(content) == ours.get(name)
    ]
    return changes


def tab_removal(
    home: Path, state: TabState, receipt: Receipt
) -> tuple[list[TabChange], list[Path]]:
    """Return what takes the files away, and those that were changed since and stay."""
    folder = home / FOLDER / "dashboard"
    gone, kept = [], []
    for name, sha256 in receipt.tab.items():
        content = state.files.get(name)
        if content is not None and digest(content) == sha256:
            gone.append(TabChange(folder / name, content, None))
        elif content is not None:
            kept.append(folder / name)
    return gone, kept


def prune(home: Path) -> None:
    """Remove what an uninstall leaves: compiled files of ours and folders that are empty."""
    folder = home / FOLDER
    if folder.is_symlink():
        return
    if not (folder / "dashboard" / "plugin_api.py").exists():
        for compiled in (folder / "dashboard" / _COMPILED).glob("plugin_api.*.pyc"):
            compiled.unlink(missing_ok=True)
    inside = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for place in (*inside, folder, folder.parent):
        with contextlib.suppress(OSError):  # not empty, or not there
            place.rmdir()
