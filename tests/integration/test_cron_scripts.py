"""Each cron script, run as Hermes runs it: copied, in its own folder, with little environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.approvals import add_message, waiting_messages
from hermes_apprentice.storage.database import Database

ROOT = Path(__file__).resolve().parents[2]


def run_as_hermes_does(
    script: str, settings: Settings, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    folder = tmp_path / "scripts"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "cron" / script, folder)
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "settings.toml").write_text(
        f'[models]\nembedder = "all-MiniLM-L6-v2"\nfolder = "{settings.models_dir}"\n'
    )
    return subprocess.run(
        [sys.executable, folder / script],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "HERMES_HOME": str(settings.hermes_home),
            "APPRENTICE_HOME": str(settings.home),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_tick_with_nothing_to_do_is_silent(settings: Settings, tmp_path: Path) -> None:
    done = run_as_hermes_does("apprentice_tick.py", settings, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_outbox_prints_each_message_once(settings: Settings, tmp_path: Path) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        add_message(connection, "a", "k", "Something happened.", 1.0)
    first = run_as_hermes_does("apprentice_outbox.py", settings, tmp_path)
    second = run_as_hermes_does("apprentice_outbox.py", settings, tmp_path)
    assert (first.returncode, first.stdout) == (0, "Something happened.\n")
    assert (second.returncode, second.stdout) == (0, "")


def test_a_message_that_nobody_took_stays_in_the_outbox(settings: Settings, tmp_path: Path) -> None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        add_message(connection, "a", "k", "Something happened.", 1.0)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, ROOT / "cron" / "apprentice_outbox.py"],
            env={"PATH": "/usr/bin:/bin", "APPRENTICE_HOME": str(settings.home)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "they wait" in done.stderr and "Traceback" not in done.stderr
    with Database(settings.database_path) as database, database.transaction() as connection:
        (waiting,) = waiting_messages(connection)
    assert (waiting.text, waiting.attempts) == ("Something happened.", 1)


def test_detection_without_a_session_database_fails_with_advice(
    settings: Settings, tmp_path: Path
) -> None:
    done = run_as_hermes_does("apprentice_detect.py", settings, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "HERMES_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_detection_over_an_empty_session_database_is_silent(
    settings: Settings, tmp_path: Path
) -> None:
    from hermes_state import SessionDB

    settings.hermes_home.mkdir(parents=True)
    SessionDB(settings.hermes_home / "state.db").close()
    done = run_as_hermes_does("apprentice_detect.py", settings, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
