"""The command line: every reading command as JSON, and every bad input with advice."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from hermes_apprentice.interfaces.cli.main import run
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def apprentice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in a temporary home; returns exit code, output and errors."""
    settings.home.mkdir(parents=True)
    settings.hermes_home.mkdir(parents=True)
    (settings.home / "settings.toml").write_text(
        f'[models]\nembedder = "all-MiniLM-L6-v2"\nfolder = "{settings.models_dir}"\n'
        '[upstream]\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = ""\n'
    )
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def new_session_db(settings: Settings) -> None:
    from hermes_state import SessionDB

    SessionDB(settings.hermes_home / "state.db").close()


@pytest.mark.parametrize(
    "command",
    [
        ("candidates",),
        ("specialists",),
        ("specialists", "list"),
        ("roi",),
        ("budget",),
        ("outbox",),
        ("tenants",),
        ("tenants", "list"),
        ("models", "list"),
        ("specialists", "gc"),
        ("jobs",),
        ("doctor",),
        ("explain", "which label fits this?"),
    ],
    ids=" ".join,
)
def test_every_reading_command_prints_json(apprentice: Command, command: tuple[str, ...]) -> None:
    code, output, errors = apprentice(*command, "--json")
    assert code in (0, 1), errors
    json.loads(output)


def test_without_a_session_database_observe_says_where_it_looked(
    apprentice: Command, settings: Settings
) -> None:
    code, _, errors = apprentice("observe")
    assert code == 1
    assert str(settings.hermes_home) in errors
    assert "HERMES_HOME" in errors


def test_a_report_without_any_sessions_says_where_it_looked(
    apprentice: Command, settings: Settings
) -> None:
    code, _, errors = apprentice("report")
    assert code == 1
    assert str(settings.hermes_home) in errors


def test_an_empty_session_database_gives_nothing(apprentice: Command, settings: Settings) -> None:
    new_session_db(settings)
    code, output, errors = apprentice("observe", "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output)["default"]["new"] == 0


def test_a_foreign_database_is_refused_by_name(apprentice: Command, settings: Settings) -> None:
    with sqlite3.connect(settings.hermes_home / "state.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    code, _, errors = apprentice("observe")
    assert code == 1
    assert "not a Hermes session database" in errors


def test_a_file_that_is_no_database_is_refused_and_left_alone(
    apprentice: Command, settings: Settings
) -> None:
    path = settings.hermes_home / "state.db"
    path.write_bytes(b"notes" * 1_000)
    code, _, errors = apprentice("observe")
    assert code == 1
    assert "state.db" in errors
    assert path.read_bytes() == b"notes" * 1_000


def test_a_locked_session_database_asks_to_try_again(
    apprentice: Command, settings: Settings
) -> None:
    new_session_db(settings)
    holder = sqlite3.connect(settings.hermes_home / "state.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        code, _, errors = apprentice("observe")
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert code == 1
    assert "locked" in errors
    assert "again" in errors


def test_without_eligible_exchanges_the_report_says_so_and_detect_finds_nothing(
    apprentice: Command, settings: Settings
) -> None:
    new_session_db(settings)
    assert apprentice("observe")[0] == 0
    code, output, _ = apprentice("report")
    assert code == 0
    assert "Patterns in 0 exchanges: none." in output
    code, output, _ = apprentice("detect")
    assert code == 0
    assert "0 new patterns" in output


def test_the_report_changes_nothing(apprentice: Command, settings: Settings) -> None:
    new_session_db(settings)
    with Database(settings.database_path) as database:
        before = database.read("SELECT name, sql FROM sqlite_master ORDER BY name")
        counts = [database.read(f"SELECT COUNT(*) FROM {t}")[0][0] for t in ("patterns", "outbox")]
    assert apprentice("report", "--json")[0] == 0
    with Database(settings.database_path) as database:
        assert database.read("SELECT name, sql FROM sqlite_master ORDER BY name") == before
        after = [database.read(f"SELECT COUNT(*) FROM {t}")[0][0] for t in ("patterns", "outbox")]
    assert after == counts


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("reply", "make it so"), "was not understood"),
        (("reply", "train gc-dead"), "There is no proposal gc-dead"),
        (("reply", "train"), "Nothing waits for a decision"),
        (("reply", "demote nobody"), "There is no specialist 'nobody'"),
        (("reply", "merge"), "Nothing waits for a decision"),
        (("reply", "merge mp-1a2b"), "There is no proposal mp-1a2b"),
        (("specialists", "merge", "one", "other"), "There is no specialist 'one'"),
        (("specialists", "show", "nobody"), "There is no specialist 'nobody'"),
        (("specialists", "show", "../../etc"), "There is no specialist"),
        (("tick", "--retry", "nobody"), "is not a specialist that failed or waits"),
        (("models", "pull", "no-such-model"), "no-such-model"),
    ],
)
def test_a_wrong_name_is_answered_with_advice(
    apprentice: Command, command: tuple[str, ...], said: str
) -> None:
    code, output, errors = apprentice(*command)
    assert code == 1
    assert said in errors
    assert "Traceback" not in output + errors


def test_a_wrong_setting_exits_with_2(apprentice: Command, settings: Settings) -> None:
    (settings.home / "settings.toml").write_text("[gate]\nmin_gain = 7\n")
    code, _, errors = apprentice("candidates")
    assert code == 2
    assert "gate.min_gain" in errors


def test_the_doctor_fails_and_says_what_to_do(apprentice: Command) -> None:
    code, output, _ = apprentice("doctor", "--json")
    findings = {item["check"]: item for item in json.loads(output)}
    assert code == 1
    assert findings["sessions"]["ok"] is False
    assert "HERMES_HOME" in " ".join(map(str, findings["sessions"].values()))
    assert findings["upstream"]["ok"] is False
    assert findings["database"]["ok"] is True


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (("reply",), "Missing argument"),
        (("nosuch",), "No such command"),
        (("serve", "--port", "99999"), "--port"),
        (("observe", "--nope"), "No such option"),
        (("roi", "--days", "-3"), "--days"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2_and_shows_the_usage(
    apprentice: Command, command: tuple[str, ...], advice: str
) -> None:
    code, out, err = apprentice(*command)
    assert (code, out) == (2, "")
    assert "Usage:" in err and advice in err and "Traceback" not in err


def test_without_a_terminal_a_question_counts_as_not_answered(
    apprentice: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = apprentice("specialists", "demote", "some-name")
    assert code == 130 and "Stopped." in err


def test_an_interrupted_command_says_so_and_exits_with_130(
    apprentice: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hermes_apprentice.pipeline.open_pipeline", interrupted)
    code, _, err = apprentice("candidates")
    assert (code, err) == (130, "Stopped.\n")


def test_a_home_that_cannot_be_written_is_named(apprentice: Command, settings: Settings) -> None:
    settings.keys_dir.write_text("a file where a folder should be")
    code, _, err = apprentice("keys", "new")
    assert code == 1
    assert str(settings.keys_dir) in err and err.startswith("apprentice: ")


def test_a_reader_that_stops_early_leaves_no_traceback(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    done = subprocess.run(
        [
            "bash",
            "-c",
            '"$0" -m hermes_apprentice.interfaces.cli.main budget --json | true',
            sys.executable,
        ],
        env=os.environ
        | {"APPRENTICE_HOME": str(settings.home), "HERMES_HOME": str(settings.hermes_home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""


def test_keys_are_made_shown_and_rotated(apprentice: Command) -> None:
    code, _, errors = apprentice("keys", "show")
    assert code == 1 and "apprentice keys new" in errors
    assert apprentice("keys", "new")[0] == 0
    assert apprentice("keys", "new")[0] == 1
    assert apprentice("keys", "rotate", "--yes")[0] == 0
    shown = json.loads(apprentice("keys", "show", "--json")[1])
    assert sorted(row["signs"] for row in shown) == [False, True]
    earlier = next(row["key"] for row in shown if not row["signs"])
    assert apprentice("keys", "distrust", earlier, "--yes")[0] == 0
    assert len(json.loads(apprentice("keys", "show", "--json")[1])) == 1


def test_a_tenant_from_its_creation_to_its_end(apprentice: Command, settings: Settings) -> None:
    code, key, note = apprentice("tenants", "create", "ann", "--per-minute", "60", "--budget", "5")
    assert code == 0 and key.startswith("ap-") and len(key.split()) == 1
    assert "shown this once" in note
    assert apprentice("tenants", "create", "ann")[0] == 1
    (row,) = json.loads(apprentice("tenants", "list", "--json")[1])
    assert row["tenant"]["limits"]["monthly_budget"] == 5_000_000
    assert row["month"] == {"requests": 0, "tokens": 0, "cost": 0}
    _, said, _ = apprentice("tenants", "limit", "ann", "--daily-requests", "9", "--lift", "budget")
    assert "60 a minute" in said and "9 requests a day" in said and "$" not in said
    code, newer, _ = apprentice("tenants", "rotate", "ann", "--grace-hours", "1", "--json")
    assert code == 0 and json.loads(newer)["key"] != key.strip()
    admin = apprentice("tenants", "admin-key")[1].strip()
    for said in (apprentice("tenants")[1], apprentice("tenants", "list", "--json")[1]):
        for secret in (key.strip(), json.loads(newer)["key"], admin):
            assert secret.rpartition("-")[2] not in said
    assert "no pattern" in apprentice("tenants", "assign", "gc-1", "ann")[2]
    assert "--everybody" in apprentice("tenants", "assign", "gc-1")[2]
    assert apprentice("roi", "--tenant", "ann", "--json")[0] == 0
    assert "no tenant 'eve'" in apprentice("explain", "hello", "--tenant", "eve")[2]
    assert "Revoke" in apprentice("tenants", "delete", "ann", "--yes")[2]
    assert apprentice("tenants", "revoke", "ann", "--yes")[0] == 0
    code, said, _ = apprentice("tenants", "delete", "ann", "--yes")
    assert code == 0 and "need no key" in said


def test_the_account_of_somebody_unknown_is_no_account_of_zero(apprentice: Command) -> None:
    code, output, errors = apprentice("roi", "--tenant", "an")
    assert (code, output) == (1, "")
    assert "no tenant 'an'" in errors
    apprentice("tenants", "create", "ann")
    assert apprentice("roi", "--tenant", "ann")[0] == 0


@pytest.mark.parametrize("days", ["-5", "nan"])
def test_runs_are_not_kept_for_less_than_no_time(apprentice: Command, days: str) -> None:
    code, _, errors = apprentice("specialists", "gc", "--days", days)
    assert code == 2
    assert "--days" in errors


def test_a_specialist_is_listed_with_the_time_of_its_present_step(
    apprentice: Command, settings: Settings, fill: Callable[..., None]
) -> None:
    with Database(settings.database_path) as database:
        fill(database, 1_790_000_000.0)
        with database.transaction() as connection:
            connection.execute("UPDATE rollouts SET step_started_at = 1790090000.0")
    _, output, _ = apprentice("specialists")
    assert output.count("2026-09-22") == 3
    assert output.count("2026-09-21") == 1  # the one without a stage
