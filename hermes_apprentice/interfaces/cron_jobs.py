"""What Hermes' scheduler runs without an agent.

Standard output is delivered to the operator word for word and silence is
silence, so nothing is printed unless somebody should read it. An exit code
other than 0 becomes an alert. Detection and ticks may take an hour: they run in
a child that outlives the scheduler's call, and what becomes of them is told by
this call if they are quick, by the next one if not.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from hermes_apprentice.errors import ApprenticeError, DeliveryError
from hermes_apprentice.interfaces.background import (
    Job,
    finish,
    last_ending,
    running_since,
    start,
    wait,
)
from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database

PATIENCE = 10.0
"""Seconds for which a scheduled call waits for its child."""

DETECT = Job(name="detect", module=__name__)
TICK = Job(name="tick", module=__name__)

_WEEK = 7 * 86_400.0
_LONG = 6 * 3_600.0


def detect(patience: float = PATIENCE) -> int:
    """Read new sessions and look for patterns."""
    return _edge(lambda settings: _in_background(settings, DETECT, patience))


def tick(patience: float = PATIENCE) -> int:
    """Take every approved specialist as far as it gets."""
    return _edge(lambda settings: _in_background(settings, TICK, patience))


def outbox() -> int:
    """Print the waiting messages; Hermes delivers what is printed."""

    def work(settings: Settings) -> int:
        from hermes_apprentice.approvals.outbox import deliver

        printed = 0

        def show(key: str, text: str) -> None:
            nonlocal printed
            _print(f"\n{text}\n" if printed else f"{text}\n")
            printed += 1

        with Database(settings.database_path) as database:
            failed = deliver(database, show, time.time()).failed
        if failed:
            print(f"apprentice: {failed} messages could not be printed; they wait", file=sys.stderr)
        return 1 if failed else 0

    return _edge(work)


def _print(text: str) -> None:
    """Print so that a message counts as delivered only when somebody has got it.

    Raises:
        DeliveryError: Standard output is closed or full.
    """
    try:
        with open(1, "wb", closefd=False) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise DeliveryError(f"Standard output took nothing: {error.strerror}") from error


def digest() -> int:
    """Write the week's digest into the outbox, once a week, if there is anything to say."""

    def work(settings: Settings) -> int:
        from hermes_apprentice.interfaces.cron_digest import digest_of
        from hermes_apprentice.storage.approvals import add_message

        now = time.time()
        with Database(settings.database_path) as database:
            text = digest_of(database, settings, now - _WEEK, now)
            if text is not None:
                week = datetime.fromtimestamp(now, UTC).strftime("%G-W%V")
                with database.transaction() as connection:
                    add_message(connection, "digest", f"digest:{week}", text, now)
        return 0

    return _edge(work)


def start_tick(settings: Settings) -> subprocess.Popen[bytes] | None:
    """Start a tick now, after telling what became of the last; ``None`` where one runs."""
    _tell_last(settings, TICK)
    return start(settings, TICK)


def _in_background(settings: Settings, job: Job, patience: float) -> int:
    code = _tell_last(settings, job)
    child = start(settings, job)
    if child is None:
        began = running_since(settings, job)
        if began is not None and time.time() - began > _LONG:
            hours = (time.time() - began) / 3_600
            _tell(settings, job, "slow", f"has been running for {hours:.0f} hours")
        return code
    if not wait(child, patience):
        return code
    return max(code, _tell_last(settings, job))


def _tell_last(settings: Settings, job: Job) -> int:
    """Report a run that failed, and return the exit code for it."""
    ending = last_ending(settings, job)
    if ending is None or ending.ok:
        return 0
    _tell(settings, job, "failed", f"failed: {ending.message}")
    return 1


def _tell(settings: Settings, job: Job, occasion: str, what: str) -> None:
    """Tell Hermes' history at once, and the operator once a day."""
    from hermes_apprentice.storage.approvals import add_message

    text = f"The scheduled job '{job.name}' {what}"
    now = time.time()
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    print(f"apprentice: {text}", file=sys.stderr)
    with Database(settings.database_path) as database, database.transaction() as connection:
        add_message(connection, "schedule", f"job-{occasion}:{job.name}:{day}", text, now)


def _edge(work: Callable[[Settings], int]) -> int:
    try:
        return work(load_settings())
    except ApprenticeError as error:
        print(f"apprentice: {error}", file=sys.stderr)
        return 1


def _child(name: str) -> int:
    """Do a job's work; the process that ``start`` has started."""
    from hermes_apprentice.pipeline import open_pipeline

    settings = load_settings()

    def look() -> None:
        with Database(settings.database_path) as database:
            pipeline = open_pipeline(settings, database)
            pipeline.observe()
            pipeline.detect()

    def move() -> None:
        with Database(settings.database_path) as database:
            pipeline = open_pipeline(settings, database)
            while pipeline.tick().pending:
                pass

    if name == DETECT.name:
        return finish(settings, DETECT, look)
    return finish(settings, TICK, move)


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1]))
