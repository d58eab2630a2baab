"""Find what Hermes reads or runs: ``skills``, ``cron``, ``mcp_server``, its dashboard's tab.

They are data, never imported: in a wheel they lie inside the package, in a
checkout beside it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def dashboard_files() -> dict[str, bytes]:
    """Return the files of the tab in Hermes' dashboard, by their path below its folder."""
    folder = _PACKAGE / "plugin" / "dashboard"
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".json", ".js", ".py"}
    }


def asset_dir(name: str) -> Path:
    """Return the folder ``name`` from the wheel, or from a source checkout.

    Raises:
        FileNotFoundError: Neither place has it, so the installation is damaged.
    """
    for folder in (_PACKAGE / "_assets" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the folder '{name}' is missing: reinstall hermes-apprentice")
