"""Commands about the embedder's weights."""

from __future__ import annotations

from pathlib import Path

import typer

from hermes_apprentice.embedding.catalogue import CATALOGUE
from hermes_apprentice.interfaces.cli.console import Json, print_json
from hermes_apprentice.settings import load_settings
from hermes_apprentice.terminal import print_table

app = typer.Typer(
    help="The embedder's weights: fetched once, checked by sha256.", no_args_is_help=True
)


@app.command("list")
def list_(as_json: bool = Json) -> None:
    """List the models that are known, and whether they are here."""
    from hermes_apprentice.embedding.store import ModelStore

    store = ModelStore(load_settings().models_dir)
    present = {row.name: row for row in store.list()}
    if as_json:
        print_json({name: present.get(name) for name in CATALOGUE})
        return
    print_table(
        "Models",
        ("name", "here", "licence", "dimension", "sha256"),
        [
            (
                name,
                "yes" if name in present else "no",
                model.licence,
                model.dimension,
                present[name].digest[:12] if name in present else "-",
            )
            for name, model in CATALOGUE.items()
        ],
    )


@app.command()
def pull(
    name: str = typer.Argument("all-MiniLM-L6-v2"),
    source: Path | None = typer.Option(
        None, "--from", help="A file or folder to take it from, instead of fetching it."
    ),
    force: bool = typer.Option(False, "--force", help="Fetch it again."),
) -> None:
    """Fetch a model, or take it from a file, and make it ready to run."""
    from hermes_apprentice.embedding.onnx_embedder import open_embedder
    from hermes_apprentice.embedding.store import ModelStore

    store = ModelStore(load_settings().models_dir)
    found = store.pull(name, origin=source, force=force, progress=lambda text: typer.echo(text))
    open_embedder(store, name, pull=False).load()
    typer.echo(f"{name} is ready in {store.path(name)}.")
    if not found.pinned:
        typer.echo(
            "Its sha256 was not known beforehand; it was recorded, and another one is refused."
        )


@app.command()
def bases(as_json: bool = Json) -> None:
    """List the base models that generators can be trained on."""
    from hermes_apprentice.trainer.bases import find_base, load_bases

    settings = load_settings()
    known = load_bases(settings.bases_path)
    if settings.trainer.base_model not in known:
        base = find_base(settings.trainer.base_model, known)
        known[base.name] = base
        chosen = base.name
    else:
        chosen = settings.trainer.base_model
    if as_json:
        print_json(known)
        return
    print_table(
        "Base models",
        ("name", "chosen", "licence", "billions", "GPU memory", "chat template"),
        [
            (
                base.name,
                "yes" if base.name == chosen else "",
                base.licence,
                f"{base.parameters:.2f}",
                f"{base.min_vram_gb:g} GB",
                base.chat_template,
            )
            for base in known.values()
        ],
    )


@app.command()
def verify(name: str = typer.Argument("all-MiniLM-L6-v2")) -> None:
    """Check a model's files against their sha256."""
    from hermes_apprentice.embedding.store import ModelStore

    found = ModelStore(load_settings().models_dir).verify(name)
    typer.echo(f"{name}: {found.digest}")
