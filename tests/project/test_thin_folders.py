"""``skills``, ``cron`` and ``mcp_server`` are read or run, never imported."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import yaml

from hermes_apprentice.assets import asset_dir
from hermes_apprentice.interfaces import cron_jobs

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("skills", "cron", "mcp_server")
SCRIPTS = sorted([*ROOT.glob("cron/*.py"), *ROOT.glob("mcp_server/*.py")])


@pytest.mark.parametrize("name", FOLDERS)
def test_a_thin_folder_is_no_package(name: str) -> None:
    assert asset_dir(name) == ROOT / name
    assert not list((ROOT / name).rglob("__init__.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_shadows_no_module(script: Path) -> None:
    lines = [line for line in script.read_text().splitlines() if line.strip()]
    assert len(lines) <= 12
    assert script.stem.startswith("apprentice_")
    assert script.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("script", sorted(ROOT.glob("cron/*.py")), ids=lambda path: path.name)
def test_a_cron_script_calls_a_job_that_exists(script: Path) -> None:
    (name,) = (
        alias.name
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    assert callable(getattr(cron_jobs, name))


def test_every_scheduled_job_has_its_script() -> None:
    jobs = yaml.safe_load((ROOT / "cron/jobs.yaml").read_text())["jobs"]
    assert {job["script"] for job in jobs} == {path.name for path in ROOT.glob("cron/*.py")}


def test_every_skill_has_a_name_and_a_description() -> None:
    skills = list((ROOT / "skills").rglob("SKILL.md"))
    assert skills
    for skill in skills:
        _, front, body = skill.read_text().split("---\n", 2)
        fields = yaml.safe_load(front)
        assert fields["name"] == skill.parent.name
        assert 0 < len(fields["description"]) <= 1024
        assert body.strip()


def test_importing_cron_with_hermes_installed_gives_hermes_package() -> None:
    import cron

    assert cron.__file__ is not None
    assert ROOT not in Path(cron.__file__).resolve().parents or "site-packages" in cron.__file__
