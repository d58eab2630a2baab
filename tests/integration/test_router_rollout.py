"""Rollouts with real sidecars: two on one database, killed and started again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.interfaces.cli.main import app
from hermes_apprentice.settings import child_environment
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout

PATIENCE = 60.0
PROGRAM = """
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import load_settings
serve(load_settings(), ready=lambda url: print(url, flush=True))
"""
SETTINGS = """
[server]
port = 0
[upstream]
base_url = "http://127.0.0.1:9/v1"
api_key_env = ""
[rollout]
min_step_seconds = 0
min_step_comparisons = 5
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "home"
    found.mkdir()
    (found / "settings.toml").write_text(SETTINGS)
    monkeypatch.setenv("APPRENTICE_HOME", str(found))
    monkeypatch.setenv("HERMES_HOME", str(tmp_path / "hermes"))
    with Database(found / "apprentice.db") as database, database.transaction() as connection:
        start = Rollout(
            slug="label-ticket",
            version=1,
            stage=Stage.SHADOW,
            share=0.0,
            held=False,
            step_started_at=time.time() - 60,
            reason="",
        )
        save_rollout(connection, start, time.time())
    return found


@contextmanager
def sidecar(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=child_environment(APPRENTICE_HOME=str(home), HERMES_HOME=str(home / "hermes")),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait(PATIENCE)
        if running.stdout is not None:
            running.stdout.close()


def compare(home: Path, agreed: bool, count: int) -> None:
    with Database(home / "apprentice.db") as database, database.transaction() as connection:
        connection.executemany(
            "INSERT INTO comparisons (slug, version, at, origin, agreed, answered) "
            "VALUES ('label-ticket', 1, ?, 'shadow', ?, 1)",
            [(time.time(), agreed)] * count,
        )


def stored(home: Path) -> Rollout:
    with Database(home / "apprentice.db") as database, database.transaction() as connection:
        found = find_rollout(connection, "label-ticket")
    assert found is not None
    return found


def messages(home: Path) -> list[str]:
    with Database(home / "apprentice.db") as database:
        return [row["text"] for row in database.read("SELECT text FROM outbox")]


def served(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/healthz", timeout=PATIENCE) as answer:
        (found,) = json.loads(answer.read())["specialists"]
    return dict(found)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def say(*words: str) -> str:
    result = CliRunner().invoke(app, ["specialists", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_two_sidecars_agree_and_a_kill_forgets_nothing(home: Path) -> None:
    with ExitStack() as stack:
        first, url = stack.enter_context(sidecar(home))
        second, other = stack.enter_context(sidecar(home))
        compare(home, True, 20)
        until(lambda: served(url)["share"] == served(other)["share"] == 0.05)
        assert len(messages(home)) == 1  # both judged the same evidence; one took the step

        assert "stays at 5%" in say("hold", "label-ticket")
        compare(home, True, 30)
        until(lambda: served(url)["compared"] == served(other)["compared"] == 50)
        for running in (first, second):
            running.kill()
            running.wait(PATIENCE)
    assert (stored(home).share, stored(home).held) == (0.05, True)

    with sidecar(home) as (_, url), sidecar(home) as (_, other):
        until(lambda: served(url)["compared"] == served(other)["compared"] == 50)
        assert served(url)["held"] and served(other)["held"]
        assert stored(home).share == 0.05
        assert "15%" in say("advance", "label-ticket", "--yes")
        until(lambda: served(url)["share"] == served(other)["share"] == 0.15)
        assert stored(home).held
        say("resume", "label-ticket")
        compare(home, True, 5)
        until(lambda: served(url)["share"] == served(other)["share"] == 0.25)
        compare(home, False, 12)
        until(lambda: served(url)["stage"] == served(other)["stage"] == "quarantined")
    texts = messages(home)
    assert len(texts) == 3 and "taken out of service" in texts[-1]
