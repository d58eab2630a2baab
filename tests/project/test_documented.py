"""What is public is documented."""

from __future__ import annotations

import inspect
from pathlib import Path

import typer.main

from hermes_apprentice import errors
from hermes_apprentice.interfaces.cli.main import app
from hermes_apprentice.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def commands(group: typer.main.TyperGroup, prefix: str = "apprentice") -> list[str]:
    found = []
    for name, command in group.commands.items():
        if isinstance(command, typer.main.TyperGroup):
            found += commands(command, f"{prefix} {name}")
        else:
            found.append(f"{prefix} {name}")
    return found


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    group = typer.main.get_group(app)
    missing = [name for name in commands(group) if f"## `{name}`" not in page]
    assert missing == []


def test_every_setting_is_in_the_reference() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    for section, field in Settings.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None)
        for name in fields or ():
            assert f"`{section}.{name}`" in page


def test_every_error_has_a_message_for_the_operator() -> None:
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        assert kind.__doc__, name
        assert name in (errors.__doc__ or ""), f"{name} is not in the map"


def test_every_package_is_in_the_architecture_page() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    for folder in (ROOT / "hermes_apprentice").iterdir():
        if (folder / "__init__.py").exists():
            assert f"`{folder.name}/`" in page


def test_every_glossary_word_of_the_domain_is_explained() -> None:
    page = (ROOT / "docs/glossary.md").read_text().lower()
    for word in (
        "session",
        "message",
        "exchange",
        "embedding",
        "cluster",
        "pattern",
        "candidate",
        "shape",
        "example",
        "split",
        "redaction",
        "specialist",
        "kind",
        "model version",
        "stage",
        "gate",
        "verdict",
        "envelope",
        "upstream",
        "fallback",
        "agreement",
        "proposal",
        "decision",
        "burst",
        "tenant",
        "ledger",
    ):
        assert f"**{word}**" in page
