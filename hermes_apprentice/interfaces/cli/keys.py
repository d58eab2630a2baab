"""Commands about the keys that specialists are signed with."""

from __future__ import annotations

from pathlib import Path

import typer

from hermes_apprentice.errors import RegistryError
from hermes_apprentice.interfaces.cli.console import Json, print_json
from hermes_apprentice.registry.signing import (
    PRIVATE_KEY,
    TRUSTED,
    distrust_key,
    load_or_create_keys,
    rotate_keys,
    trust_key,
)
from hermes_apprentice.settings import load_settings
from hermes_apprentice.terminal import print_table

app = typer.Typer(help="The Ed25519 keys that specialists are signed with.", no_args_is_help=True)


@app.command()
def new() -> None:
    """Make the first key; setup and the first training do it, too."""
    folder = load_settings().keys_dir
    if (folder / PRIVATE_KEY).exists():
        raise RegistryError("There is a key already; to replace it run: apprentice keys rotate")
    typer.echo(f"{load_or_create_keys(folder).key_id} signs from now on; it lies in {folder}.")


@app.command()
def show(as_json: bool = Json) -> None:
    """Show which key signs, and whose signatures count."""
    folder = load_settings().keys_dir
    if not (folder / PRIVATE_KEY).exists():
        raise RegistryError("There is no key yet; make one with: apprentice keys new")
    keys = load_or_create_keys(folder)
    rows = [(name, name == keys.key_id) for name in sorted(keys.trusted)]
    if as_json:
        print_json([{"key": name, "signs": signs} for name, signs in rows])
        return
    print_table(
        "Keys", ("key", "use"), [(name, "signs" if own else "verifies") for name, own in rows]
    )
    typer.echo(f"Public keys lie in {folder / TRUSTED}.")


@app.command()
def rotate(yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Sign with a new key; what the earlier one signed stays valid."""
    if not yes:
        typer.confirm("Replace the signing key? The earlier one cannot sign again.", abort=True)
    typer.echo(f"{rotate_keys(load_settings().keys_dir).key_id} signs from now on.")


@app.command()
def trust(file: Path) -> None:
    """Count the signatures of another machine's public key."""
    typer.echo(f"Signatures of {trust_key(load_settings().keys_dir, file)} count from now on.")


@app.command()
def distrust(key: str, yes: bool = typer.Option(False, "--yes", help="Do not ask.")) -> None:
    """Stop counting a key's signatures; what only it signed is no longer served."""
    if not yes:
        typer.confirm(f"Serve nothing that only {key} signed?", abort=True)
    distrust_key(load_settings().keys_dir, key)
    typer.echo(f"Signatures of {key} no longer count.")
