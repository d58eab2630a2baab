"""The ``apprentice`` command: joins the commands, and turns errors into one line each.

Exit codes: 0 done, 1 failed, 2 the command line, a setting or an optional dependency is
wrong or missing, 130 stopped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import typer

from hermes_apprentice import __version__
from hermes_apprentice.errors import ApprenticeError, ConfigError, KindError, MissingExtraError
from hermes_apprentice.interfaces.cli import (
    forgetting,
    installing,
    jobs,
    keys,
    learning,
    money,
    running,
    specialists,
    tenants,
    weights,
)
from hermes_apprentice.interfaces.cli.entry import STOPPED

_CLICK_ERROR: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Recent versions of Typer bring their own copy of click, so click's own class may be another."""

_ADVICE = {
    errno.ENOSPC: "; make room on the disk and run this again",
    errno.EDQUOT: "; make room on the disk and run this again",
    errno.EROFS: "; APPRENTICE_HOME must lie where it can be written",
    errno.EACCES: "; it belongs to somebody else: run this as its owner, or change its owner",
    errno.EPERM: "; it belongs to somebody else: run this as its owner, or change its owner",
}
"""What to do about what the operating system refuses."""

app = typer.Typer(
    help="Small, proven specialists for the requests your Hermes Agent keeps answering.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
learning.add_to(app)
forgetting.add_to(app)
running.add_to(app)
money.add_to(app)
installing.add_to(app)
app.add_typer(specialists.app, name="specialists")
app.add_typer(tenants.app, name="tenants")
app.add_typer(weights.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(jobs.app, name="jobs")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show a traceback when something fails."),
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Settings come from APPRENTICE_HOME/settings.toml; HERMES_HOME says where Hermes lives."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        result = app(args=list(arguments), prog_name="apprentice", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == STOPPED:  # this is how Typer hands Ctrl-C on
            typer.echo("Stopped.", err=True)
        return code
    except typer.Exit as stop:
        return int(stop.exit_code)
    except _CLICK_ERROR as error:
        error.show()
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("Stopped.", err=True)
        return STOPPED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ApprenticeError as error:
        if "--debug" in arguments:
            raise
        typer.echo(f"apprentice: {error}", err=True)
        return 2 if isinstance(error, (ConfigError, KindError, MissingExtraError)) else 1
    except OSError as error:
        if "--debug" in arguments:
            raise
        typer.echo(f"apprentice: {error}{_ADVICE.get(error.errno or 0, '')}", err=True)
        return 1


def main() -> None:
    """Start the command from a shell."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a request may hold what the terminal cannot show
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
