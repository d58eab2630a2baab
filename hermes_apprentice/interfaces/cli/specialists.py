"""Commands about specialists."""

from __future__ import annotations

from pathlib import Path

import typer

from hermes_apprentice.interfaces.cli.console import Json, day, opened, print_json
from hermes_apprentice.terminal import print_table

app = typer.Typer(help="The specialists, their verdicts and their stages.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def default(context: typer.Context, as_json: bool = Json) -> None:
    """List the specialists."""
    if context.invoked_subcommand is None:
        list_(as_json)


@app.command("list")
def list_(as_json: bool = Json) -> None:
    """List the specialists."""
    with opened() as (_, _, pipeline):
        found = pipeline.specialists()
    if as_json:
        print_json(found)
        return
    print_table(
        "Specialists",
        ("name", "kind", "step", "stage", "share", "version", "since", "why"),
        [
            (
                item.specialist.slug,
                item.specialist.kind,
                item.specialist.step,
                item.rollout.stage if item.rollout else "-",
                f"{item.rollout.share:.0%}" if item.rollout else "-",
                item.specialist.version or "-",
                day(
                    (item.rollout.step_started_at if item.rollout else 0)
                    or item.specialist.updated_at
                ),
                item.rollout.reason if item.rollout else item.specialist.reason,
            )
            for item in found
        ],
    )


@app.command()
def show(name: str, as_json: bool = Json) -> None:
    """Show a specialist's verdict, scores and agreement so far."""
    with opened() as (_, _, pipeline):
        details = pipeline.specialist(name)
    if as_json:
        print_json(details)
        return
    typer.echo(f"{details.in_words()}\n\n{details.report}")


@app.command()
def demote(name: str, yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Take a specialist out of service."""
    if not yes:
        typer.confirm(f"Take '{name}' out of service?", abort=True)
    with opened() as (_, _, pipeline):
        typer.echo(pipeline.demote(name, "cli asked for it"))


@app.command()
def rollback(name: str, yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Go back to a specialist's previous version."""
    if not yes:
        typer.confirm(f"Go back to the previous version of '{name}'?", abort=True)
    with opened() as (_, _, pipeline):
        typer.echo(pipeline.rollback(name, "cli asked for it"))


@app.command("export-merged")
def export_merged(
    name: str,
    target: Path,
    gguf: bool = typer.Option(
        False, "--gguf", help="Write one GGUF file with llama.cpp's converter."
    ),
) -> None:
    """Write a generator and its base as one 16-bit model, for other servers."""
    from hermes_apprentice.pipeline.exports import export as export_model

    with opened() as (_, _, pipeline):
        typer.echo(export_model(pipeline.shop, name, target, gguf=gguf))


@app.command()
def merge(
    first: str,
    second: str,
    yes: bool = typer.Option(False, "--yes", help="Decide at once that they are merged."),
) -> None:
    """Propose to make one specialist of two; both go on until it is live."""
    from hermes_apprentice.approvals.changes import merge_question

    with opened() as (_, _, pipeline):
        proposed = pipeline.propose_merge(first, second)
        typer.echo(merge_question(proposed))
        if yes:
            typer.echo(pipeline.reply(f"merge {proposed.merge_id}"))


@app.command()
def gc(
    keep: int = typer.Option(2, help="Versions to keep of each, the current one among them."),
    days: float = typer.Option(30, min=0, help="Keep training runs that are younger than this."),
    apply: bool = typer.Option(False, "--apply", help="Remove it; otherwise it is only listed."),
    as_json: bool = Json,
) -> None:
    """List, and with --apply remove, old versions and training runs."""
    from hermes_apprentice.pipeline.housekeeping import clean

    with opened() as (_, _, pipeline):
        found = clean(pipeline.shop, keep=keep, young_days=days, apply=apply)
    if as_json:
        print_json(found)
        return
    print_table(
        "Removed" if apply else "May go",
        ("what", "size"),
        [(waste.what, f"{waste.size / 1e6:.1f} MB") for waste in found],
    )


@app.command()
def advance(name: str, yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Take a specialist's next step now, without waiting for evidence."""
    from hermes_apprentice.pipeline import stages

    if not yes:
        typer.confirm(f"Give '{name}' more traffic before it has shown enough?", abort=True)
    with opened() as (_, _, pipeline):
        typer.echo(stages.advance(pipeline, name, "cli asked for it"))


@app.command()
def hold(name: str) -> None:
    """Keep a specialist at its present share until it is resumed."""
    from hermes_apprentice.pipeline import stages

    with opened() as (_, _, pipeline):
        typer.echo(stages.hold(pipeline, name))


@app.command()
def resume(name: str) -> None:
    """Let a held specialist take steps again, or put one that was taken out into shadow."""
    from hermes_apprentice.pipeline import stages

    with opened() as (_, _, pipeline):
        typer.echo(stages.resume(pipeline, name, "cli asked for it"))


@app.command("export")
def export(name: str, file: Path) -> None:
    """Write a specialist into one signed file for another machine."""
    from hermes_apprentice.pipeline.exporting import export_specialist

    with opened(show_progress=True) as (settings, _, pipeline):
        done = export_specialist(pipeline.shop, name, file)
        trusted = settings.keys_dir / "trusted"
    trusting = "; ".join(f"apprentice keys trust {signer}.pem" for signer in done.signers)
    typer.echo(
        f"{done.path}: version {done.manifest.version} of '{name}' with {done.members} vectors of "
        f"requests, {done.size / 1e6:.1f} MB, signed by {done.signers[0]}.\n"
        f"On the other machine, once: {trusting} (from {trusted})\n"
        f"Then: apprentice specialists import {done.path.name}"
    )


@app.command("import")
def import_(
    file: Path,
    name: str = typer.Option("", "--as", help="What to call it here."),
) -> None:
    """Take in a specialist that another machine exported; it starts in shadow."""
    from hermes_apprentice.pipeline.importing import import_specialist

    with opened(show_progress=True) as (_, _, pipeline):
        done = import_specialist(pipeline.shop, file, name or None)
    if done.again:
        typer.echo(f"{done.origin} is here already, as version {done.version} of '{done.slug}'.")
        return
    typer.echo(
        f"{done.origin}, signed by {done.signer}, is version {done.version} of '{done.slug}' here, "
        "in shadow. Requests are recognised after the next tick: apprentice tick"
    )
