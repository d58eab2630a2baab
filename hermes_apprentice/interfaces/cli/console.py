"""How commands talk to a terminal: tables, lists, JSON, a progress bar, one line per error."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from pydantic import TypeAdapter
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database

if TYPE_CHECKING:
    from hermes_apprentice.pipeline import Pipeline

_FRAME = 3
"""What a column of a table needs beside its words."""

_LINES = 4
"""A table whose cells would be higher becomes a list."""

Json = typer.Option(False, "--json", help="Print JSON instead of a table.")


def print_json(value: Any) -> None:
    """Print any value of ours as JSON on standard output."""
    typer.echo(TypeAdapter(Any).dump_json(value, indent=2).decode())


def say(text: str) -> None:
    """Print prose; a terminal gets it broken between words."""
    console = Console(highlight=False)
    console.print(Text(text), soft_wrap=not console.is_terminal)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; an empty one says so, and one that is too wide becomes a list.

    Cells are shown as they are, whatever they hold. No word is broken in two, so that names and
    commands can be copied.
    """
    console = Console(highlight=False)
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        console.print(Text(f"{title}: none."))
        return
    widths = _widths([columns, *cells], console.width - _FRAME * len(columns) - 1)
    if widths is None:
        _print_list(console, title, columns, cells)
        return
    table = Table(title=Text(title), title_justify="left")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(Text(column), width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Return a width for each column, or nothing where words or readers would suffer."""
    columns = list(zip(*rows, strict=True))
    widths = [
        max(cell_len(word) for cell in column for word in (*cell.split(), "")) for column in columns
    ]
    wanted = [
        max(cell_len(line) for cell in column for line in (*cell.splitlines(), ""))
        for column in columns
    ]
    if sum(widths) > room:
        return None
    for _ in range(room - sum(widths)):
        short = [index for index, width in enumerate(widths) if width < wanted[index]]
        if not short:
            break
        widths[max(short, key=lambda index: wanted[index] / max(1, widths[index]))] += 1
    crowded = any(wanted[index] > _LINES * width for index, width in enumerate(widths))
    return None if crowded else widths


def _print_list(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    console.print(Text(title, style="italic"))
    indent = max(cell_len(column) for column in columns[1:]) + 4
    for head, *rest in rows:
        console.print(Text(f"\n{head}", style="bold"), soft_wrap=True)
        for column, cell in zip(columns[1:], rest, strict=True):
            if cell:
                first, *more = _lines(cell, console.width - indent)
                console.print(Text(f"  {column}".ljust(indent) + first), soft_wrap=True)
                for line in more:
                    console.print(Text(" " * indent + line), soft_wrap=True)


def print_findings(findings: Sequence[tuple[str, str, str, str]]) -> None:
    """Print what was looked at: a mark, a name, what was found, what to do about it."""
    console = Console(highlight=False)
    marks = max(len(mark) for mark, *_ in findings) + 2
    indent = marks + max(len(name) for _, name, *_ in findings) + 2
    for mark, name, found, advice in findings:
        begin = mark.ljust(marks) + name.ljust(indent - marks)
        lines = [*_lines(found, console.width - indent)]
        if advice:
            lines += [
                "-> " + line if not number else "   " + line
                for number, line in enumerate(_lines(advice, console.width - indent - 3))
            ]
        for line in lines:
            console.print(Text(begin + line), soft_wrap=True)
            begin = " " * indent


def _lines(text: str, width: int) -> list[str]:
    """Break a text between words; a word that is too long, such as a path, stays whole."""
    return [
        part
        for line in text.splitlines() or [""]
        for part in textwrap.wrap(
            line, max(20, width), break_long_words=False, break_on_hyphens=False
        )
        or [""]
    ]


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
