"""A job outlives its starter, never runs twice at once, and never ends unnoticed."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermes_apprentice.errors import LeaseHeldError, ReplyError, StorageError
from hermes_apprentice.interfaces.background import Job, finish, last_ending, start, wait
from hermes_apprentice.settings import Settings

BLOCKED = 60.0

JOB_MODULE = """
import sys
from pathlib import Path
from hermes_apprentice.interfaces.background import Job, finish
from hermes_apprentice.settings import load_settings

settings = load_settings()

def work():
    with open(settings.home / "gate") as gate:  # a pipe: blocks until the test opens it, too
        said = gate.read()
    if said == "crash":
        raise RuntimeError("boom")
    with (settings.home / "runs").open("a") as runs:
        runs.write("x")

sys.exit(finish(settings, Job(name=sys.argv[1], module=__name__), work))
"""


@pytest.fixture
def job(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "job_of_a_test.py").write_text(textwrap.dedent(JOB_MODULE))
    monkeypatch.setenv("PYTHONPATH", str(code))
    settings.home.mkdir(parents=True)
    os.mkfifo(settings.home / "gate")
    yield Job(name="dig", module="job_of_a_test")


def say(settings: Settings, what: str) -> None:
    with (settings.home / "gate").open("w") as gate:
        gate.write(what)


def test_a_second_start_is_refused_from_the_first_moment_until_the_child_has_ended(
    settings: Settings, job: Job
) -> None:
    child = start(settings, job)
    assert child is not None
    assert start(settings, job) is None
    assert last_ending(settings, job) is None
    say(settings, "go")
    assert wait(child, BLOCKED)
    assert (settings.home / "runs").read_text() == "x"
    ending = last_ending(settings, job)
    assert ending is not None and ending.ok
    assert last_ending(settings, job) is None, "told once"
    again = start(settings, job)
    assert again is not None
    say(settings, "go")
    assert wait(again, BLOCKED)
    assert (settings.home / "runs").read_text() == "xx"


def test_a_child_is_in_a_session_of_its_own_and_says_nothing_where_its_starter_speaks(
    settings: Settings, job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    child = start(settings, job)
    assert child is not None
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    say(settings, "crash")
    assert wait(child, BLOCKED)
    assert capfd.readouterr() == ("", "")
    assert "boom" in (settings.home / "logs" / "dig.log").read_text()


def test_a_killed_child_is_reported_by_the_next_run_and_does_not_block_it(
    settings: Settings, job: Job
) -> None:
    child = start(settings, job)
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    assert wait(child, BLOCKED)
    ending = last_ending(settings, job)
    assert ending is not None and not ending.ok
    assert "stopped before" in ending.message and "dig.log" in ending.message
    assert ending.started_at > 0
    again = start(settings, job)
    assert again is not None
    say(settings, "go")
    assert wait(again, BLOCKED)


def test_whoever_waits_in_vain_leaves_the_child_alone(settings: Settings, job: Job) -> None:
    child = start(settings, job)
    assert child is not None
    pid = child.pid
    assert not wait(child, 0.01)
    os.kill(pid, 0)
    say(settings, "go")
    os.waitpid(pid, 0)
    ending = last_ending(settings, job)
    assert ending is not None and ending.ok


def test_our_errors_are_kept_word_for_word(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(name="dig", module="unused")

    def work() -> None:
        raise ReplyError("Nothing to dig; bring a spade.")

    assert finish(settings, job, work) == 1
    assert "spade" in capsys.readouterr().err
    ending = last_ending(settings, job)
    assert ending is not None
    assert (ending.ok, ending.message) == (False, "Nothing to dig; bring a spade.")


def test_work_that_somebody_does_by_hand_is_no_failure(settings: Settings) -> None:
    job = Job(name="dig", module="unused")

    def work() -> None:
        raise LeaseHeldError

    assert finish(settings, job, work) == 0
    ending = last_ending(settings, job)
    assert ending is not None and ending.ok


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_gives_advice(settings: Settings) -> None:
    settings.home.mkdir(parents=True, mode=0o500)
    with pytest.raises(StorageError, match="cannot be written"):
        start(settings, Job(name="dig", module="unused"))


def test_a_damaged_record_counts_as_a_run_that_did_not_finish(settings: Settings) -> None:
    job = Job(name="dig", module=sys.executable)
    (settings.home / "logs").mkdir(parents=True)
    (settings.home / "logs" / "dig.json").write_text("{")
    ending = last_ending(settings, job)
    assert ending is not None and not ending.ok
