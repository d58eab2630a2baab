"""The repository holds the product only, and names no machine and no index."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
HERMES_PINS = {
    "pydantic": "2.13.4",
    "httpx": "0.28.1",
    "rich": "14.3.3",
    "mcp": "1.26.0",
    "starlette": "1.0.1",
}


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_constraints_hold_names_and_exact_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line), line


def test_no_file_names_a_package_index_or_a_machines_path() -> None:
    forbidden = re.compile(
        r"pypi\.org|pythonhosted\.org|(?<![\w.])/(?:work|root|opt/wheels)/|index-url"
    )
    this = Path(__file__).resolve()
    for path in tracked():
        if path != this and path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ""}:
            found = forbidden.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{path}: {found}"


@pytest.mark.parametrize(("name", "pin"), HERMES_PINS.items())
def test_our_ranges_contain_what_hermes_pins(name: str, pin: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (ours,) = (
        requirement
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name == name
    )
    assert ours.specifier.contains(pin)


def test_no_python_module_is_a_drawer_for_odds_and_ends() -> None:
    banned = {"utils.py", "helpers.py", "common.py", "manager.py", "models.py"}
    found = {path.relative_to(ROOT).as_posix() for path in tracked() if path.name in banned}
    assert found == set()


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
