"""Versions agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import hermes_apprentice

ROOT = Path(__file__).resolve().parents[2]


def test_the_newest_entry_is_the_packages_version() -> None:
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert newest.group(1) == project["version"] == hermes_apprentice.__version__
