"""What Hermes' scheduler runs without an agent.

Standard output is delivered to the operator word for word and silence is
silence, so nothing is printed unless somebody should read it. An exit code
other than 0 becomes an alert.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from hermes_apprentice.approvals.desk import deliver
from hermes_apprentice.errors import ApprenticeError, LeaseHeldError
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.settings import load_settings
from hermes_apprentice.storage.database import Database


def detect() -> int:
    """Read new sessions and look for patterns."""

    def work(pipeline: Pipeline) -> None:
        pipeline.observe()
        pipeline.detect()

    return _run(work)


def tick() -> int:
    """Take every approved specialist one step further."""
    return _run(lambda pipeline: pipeline.tick())


def outbox() -> int:
    """Print the waiting messages; Hermes delivers what is printed."""

    def work(pipeline: Pipeline) -> None:
        deliver(
            pipeline.shop.database, lambda key, text: print(text, flush=True), pipeline.shop.clock()
        )

    return _run(work)


def _run(work: Callable[[Pipeline], object]) -> int:
    try:
        settings = load_settings()
        with Database(settings.database_path) as database:
            work(open_pipeline(settings, database))
    except LeaseHeldError:
        return 0  # the run before this one is still at it
    except ApprenticeError as error:
        print(f"apprentice: {error}", file=sys.stderr)
        return 1
    return 0
