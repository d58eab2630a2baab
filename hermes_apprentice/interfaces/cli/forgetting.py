"""The command that forgets sessions."""

from __future__ import annotations

import typer

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.cli.console import Json, opened, print_json, say
from hermes_apprentice.terminal import print_table


def forget(
    sessions: list[str] | None = typer.Argument(None, help="Hermes' session ids."),
    containing: str = typer.Option(
        "", help="Also every session of which a stored request or answer holds this text."
    ),
    retire: bool = typer.Option(
        False,
        "--retire",
        help="Take what was trained on forgotten sessions out of service and delete it at once.",
    ),
    yes: bool = typer.Option(False, "--yes", help="Do it; otherwise it is only shown."),
    as_json: bool = Json,
) -> None:
    """Forget sessions, through to the datasets and specialists that learnt from them."""
    from hermes_apprentice.pipeline import forgetting  # heavy

    if not sessions and not containing and not retire:
        raise ConfigError("Name a session, or --containing with a text.")
    with opened() as (_, _, pipeline):
        names = list(sessions or ())
        if containing:
            names += forgetting.sessions_with(pipeline.shop, containing)
        act = forgetting.forget if yes else forgetting.plan
        found = act(pipeline.shop, names, retire=retire)
    if as_json:
        print_json(found)
        return
    if found.sessions:
        say(f"Sessions: {', '.join(found.sessions)}.")
    say(
        f"Stored exchanges {'forgotten' if found.done else 'to forget'}: {found.exchanges}, "
        f"and their examples in {len(found.runs)} training runs."
    )
    if found.branches:
        say(
            f"These sessions branched off and are not named: {', '.join(found.branches)}. Turns "
            "that they only copied are not learnt from; their own stay."
        )
    if found.versions:
        print_table(
            "Trained on them",
            ("specialist", "version", "examples", "what becomes of it"),
            [
                (one.slug, one.version, one.examples or "unknown", one.fate)
                for one in found.versions
            ],
        )
    say("Done." if found.done else "Nothing was changed; to do it, add --yes. It has no way back.")


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(forget)
