"""How commands talk to a terminal: tables, JSON, a progress bar, one line per error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.workshop import silent
from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database

Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """Print any value of ours as JSON on standard output."""
    typer.echo(TypeAdapter(Any).dump_json(value, indent=2).decode())


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; an empty one says so."""
    console = Console()
    if not rows:
        console.print(f"{title}: none.")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


def day(moment: float) -> str:
    """Write a Unix time as a day and minute, UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


@contextmanager
def opened(show_progress: bool = False) -> Iterator[tuple[Settings, Database, Pipeline]]:
    """Open settings, database and pipeline; with a progress bar on standard error if wanted."""
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
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=1.0)

            def show(what: str, share: float) -> None:
                bar.update(task, description=what, completed=share)

            yield settings, database, open_pipeline(settings, database, progress=show)
