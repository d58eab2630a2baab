"""Tables and lists for a terminal: what is shown can be read, and copied."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
"""Between two columns."""

_LINES = 4
"""A table whose cells would be higher becomes a list."""


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    console: Console | None = None,
) -> None:
    """Print a table; an empty one says so, and one that is too wide becomes a list.

    Cells are shown as they are, whatever they hold. No word is broken in two, so that names and
    commands can be copied.

    Args:
        title: What the rows are.
        columns: Their names.
        rows: One cell for each column.
        console: Where to; standard output if there is none.
    """
    console = console or Console(highlight=False)
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        console.print(Text(f"{title}: none."))
        return
    widths = _widths([columns, *cells], console.width - _GAP * (len(columns) - 1))
    if widths is None:
        _print_list(console, title, columns, cells)
        return
    high = any(
        cell_len(line) > width
        for row in cells
        for cell, width in zip(row, widths, strict=True)
        for line in cell.splitlines()
    )
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        leading=int(high),
    )
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
