"""How commands talk to a terminal: prose, JSON, a progress bar, one line per error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database

if TYPE_CHECKING:
    from hermes_apprentice.pipeline import Pipeline

Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """Print any value of ours as JSON on standard output."""
    typer.echo(TypeAdapter(Any).dump_json(value, indent=2).decode())


def say(text: str) -> None:
    """Print prose; a terminal gets it broken between words."""
    console = Console(highlight=False)
    console.print(Text(text), soft_wrap=not console.is_terminal)


def day(moment: float) -> str:
    """Write a Unix time as a day and minute, UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


@contextmanager
def opened(show_progress: bool = False) -> Iterator[tuple[Settings, Database, Pipeline]]:
    """Open settings, database and pipeline; with a progress bar on standard error if wanted."""
    # All of learning; help and the commands that do not learn are quicker without it.
    from hermes_apprentice.pipeline import open_pipeline
    from hermes_apprentice.pipeline.workshop import silent

    settings = load_settings()
    with Database(settings.database_path) as database:
        console = Console(stderr=True)
        if not show_progress or not console.is_terminal:
            yield settings, database, open_pipeline(settings, database, progress=silent)
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
        )
        # What is said meanwhile appears above the bar; what goes into a file stays out of it.
        above = sys.stdout.isatty()
        with Progress(*columns, console=console, transient=True, redirect_stdout=above) as bar:
            task = bar.add_task("starting", total=1.0)

            def show(what: str, share: float) -> None:
                bar.update(task, description=what, completed=share)

            yield settings, database, open_pipeline(settings, database, progress=show)
