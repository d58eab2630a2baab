"""The budget as the command line shows and raises it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from hermes_apprentice.interfaces.cli.main import run
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.spending import add_spending

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def apprentice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in a temporary home; returns exit code, output and errors."""
    settings.home.mkdir(parents=True)
    (settings.home / "settings.toml").write_text("[budget]\nmonthly_dollars = 10\n")
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_tells_what_is_left_and_who_raised_it(
    apprentice: Command, settings: Settings
) -> None:
    code, output, errors = apprentice("budget")
    assert (code, errors) == (0, "")
    assert "$0.00 of $10.00" in output
    assert "cli" not in output
    with Database(settings.database_path) as database, database.transaction() as connection:
        add_spending(connection, at=time.time(), purpose="burst", amount=9_600_000)
    assert "may not start" in apprentice("budget")[1]
    assert apprentice("reply", "budget increase 5")[0] == 0
    output = apprentice("budget")[1]
    assert "$9.60 of $15.00" in output
    assert "may start" in output
    assert "cli" in output and "$5.00" in output


def test_as_json_amounts_are_whole_micro_dollars(apprentice: Command) -> None:
    apprentice("reply", "budget increase 0.5")
    code, output, _ = apprentice("budget", "--json")
    said = json.loads(output)
    assert code == 0
    assert (said["ceiling"], said["spent"], said["left"]) == (10_500_000, 0, 10_500_000)
    assert said["may_start"] is True
    assert [(one["amount"], one["who"]) for one in said["raises"]] == [(500_000, "cli")]
