"""The real Hermes' scheduler runs our jobs: created, run by hand, recorded."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from hermes_apprentice.interfaces.cron_jobs import PATIENCE
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import add_message, waiting_messages
from hermes_apprentice.storage.database import Database

ROOT = Path(__file__).resolve().parents[2]
HERMES = Path(sys.executable).with_name("hermes")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here"),
]


def hermes(settings: Settings, *arguments: str) -> str:
    done = subprocess.run(
        [HERMES, *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(settings.home.parent),
            "HERMES_HOME": str(settings.hermes_home),
            "APPRENTICE_HOME": str(settings.home),
            "NO_COLOR": "1",
            "COLUMNS": "160",
        },
        cwd=settings.home.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def jobs(settings: Settings, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Our jobs, or those that a test asks for, created by the real command, by name."""
    only = getattr(request, "param", None)
    settings.home.mkdir(parents=True)
    (settings.home / "settings.toml").write_text(
        f'[models]\nembedder = "all-MiniLM-L6-v2"\nfolder = "{settings.models_dir}"\n'
    )
    scripts = settings.hermes_home / "scripts"
    scripts.mkdir(parents=True)
    (settings.hermes_home / "config.yaml").write_text("model: {provider: custom, default: none}\n")
    wanted = yaml.safe_load((ROOT / "cron/jobs.yaml").read_text())["jobs"]
    for job in (one for one in wanted if only in (None, one["name"])):
        shutil.copy(ROOT / "cron" / job["script"], scripts)
        said = hermes(
            settings, "cron", "create", job["schedule"], "--name", job["name"], "--no-agent",
            "--script", job["script"], "--deliver", job["deliver"],
        )  # fmt: skip
        assert re.search(r"^Created job: [0-9a-f]{12}$", said, re.MULTILINE), said
    return records(settings)


def records(settings: Settings) -> dict[str, Any]:
    listed = json.loads((settings.hermes_home / "cron" / "jobs.json").read_text())["jobs"]
    return {job["name"]: job for job in listed}


def outputs(settings: Settings, job: dict[str, Any]) -> str:
    folder = settings.hermes_home / "cron" / "output" / job["id"]
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.md")))


def test_hermes_runs_every_job_and_records_what_it_should(
    settings: Settings, jobs: dict[str, Any]
) -> None:
    assert all(job["no_agent"] for job in jobs.values())

    said = hermes(settings, "cron", "run", "apprentice-tick")
    assert "succeeded" in said, said
    assert records(settings)["apprentice-tick"]["last_status"] == "ok"

    said = hermes(settings, "cron", "run", "apprentice-digest")
    assert "succeeded" in said, said
    with Database(settings.database_path) as database, database.transaction() as connection:
        assert waiting_messages(connection) == [], "nothing to say, so nothing is said"
        add_message(connection, "t", "k", "A specialist asks to be looked at.", 1.0)

    assert "succeeded" in hermes(settings, "cron", "run", "apprentice-outbox")
    first = outputs(settings, jobs["apprentice-outbox"])
    assert first.count("A specialist asks to be looked at.") == 1
    assert "succeeded" in hermes(settings, "cron", "run", "apprentice-outbox")
    again = outputs(settings, jobs["apprentice-outbox"])
    assert again.count("A specialist asks to be looked at.") == 1

    # Hermes has no sessions yet: detection fails, with advice where Hermes and the operator see it.
    (settings.hermes_home / "state.db").unlink(missing_ok=True)
    said = hermes(settings, "cron", "run", "apprentice-detect")
    record = records(settings)["apprentice-detect"]
    assert record["last_status"] == "error", said
    assert "HERMES_HOME" in (record["last_error"] or "")
    assert "Traceback" not in (record["last_error"] or "")
    with Database(settings.database_path) as database, database.transaction() as connection:
        (message,) = waiting_messages(connection)
    assert "'detect' failed" in message.text


@pytest.mark.parametrize("jobs", ["apprentice-detect"], indirect=True)
def test_long_work_outlives_the_call_is_not_begun_twice_and_says_nothing(
    settings: Settings, jobs: dict[str, Any]
) -> None:
    from hermes_state import SessionDB

    SessionDB(settings.hermes_home / "state.db").close()
    os.mkfifo(settings.prices_path)  # detection waits here until somebody writes
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(hermes, settings, "cron", "run", "apprentice-detect") for _ in "ab"]
        said = [one.result() for one in both]
    assert time.monotonic() - began < PATIENCE + 30
    # Hermes itself may refuse the second call while the first is running.
    assert any("succeeded" in one for one in said), said

    record = settings.home / "logs" / "detect.json"
    running = record.read_bytes()
    assert json.loads(running)["state"] == "running"
    assert "succeeded" in hermes(settings, "cron", "run", "apprentice-detect")
    assert record.read_bytes() == running, "no second one was begun"
    assert len(children(settings)) == 1

    settings.prices_path.write_text("")  # it gets what it waited for
    with (settings.home / "locks" / "background-detect.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the child has ended
    settings.prices_path.unlink()
    assert json.loads(record.read_bytes())["state"] == "done"
    assert "succeeded" in hermes(settings, "cron", "run", "apprentice-detect")
    assert records(settings)["apprentice-detect"]["last_status"] == "ok"
    with Database(settings.database_path) as database, database.transaction() as connection:
        assert waiting_messages(connection) == []


def children(settings: Settings) -> list[str]:
    """Return the processes that detect in this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            surroundings = (path / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"APPRENTICE_HOME={settings.home}" in surroundings and "cron_jobs detect" in line:
            found.append(line)
    return found
