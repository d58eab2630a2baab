"""Commands about training runs."""

from __future__ import annotations

import typer

from hermes_apprentice.interfaces.cli.console import Json, day, opened, print_json
from hermes_apprentice.storage.jobs import list_jobs
from hermes_apprentice.terminal import print_table

app = typer.Typer(help="Training runs: how far they are, and how to stop them.")


@app.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: bool = Json) -> None:
    """List the training runs."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: bool = Json) -> None:
    """List the training runs, the latest first."""
    with opened() as (_, database, _), database.transaction() as connection:
        found = list_jobs(connection)
    if as_json:
        print_json(found)
        return
    print_table(
        "Training runs",
        ("specialist", "run", "state", "done", "started", "what"),
        [
            (job.slug, job.run_id, job.state, f"{job.progress:.0%}", day(job.started_at), job.note)
            for job in found
        ],
    )


@app.command()
def cancel(name: str) -> None:
    """Stop the running training of a specialist."""
    from hermes_apprentice.pipeline import training

    with opened() as (_, _, pipeline):
        typer.echo(training.cancel(pipeline.shop, name))


@app.command()
def resume(name: str) -> None:
    """Take a cancelled or failed training up again, with the same data."""
    from hermes_apprentice.pipeline import training

    with opened() as (_, _, pipeline):
        typer.echo(training.resume(pipeline.shop, name))


@app.command()
def log(name: str) -> None:
    """Print what a specialist's last training wrote."""
    from hermes_apprentice.pipeline import training

    with opened() as (_, _, pipeline):
        written = training.log_of(pipeline.shop, name)
    typer.echo(written or f"The last training of '{name}' wrote nothing.")
