"""The wheel, built through the sdist, holds exactly what it should."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT],
        capture_output=True,
        check=True,
    )
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_the_thin_folders(names: set[str]) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "hermes_apprentice").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    thin = {
        f"hermes_apprentice/_assets/{path.relative_to(ROOT).as_posix()}"
        for folder in ("skills", "cron", "mcp_server")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == package | thin


@pytest.mark.slow
def test_no_thin_folder_is_importable_from_the_wheel(names: set[str]) -> None:
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"hermes_apprentice"}
    assert not any(
        name.startswith("hermes_apprentice/_assets/") and name.endswith("__init__.py")
        for name in names
    )
