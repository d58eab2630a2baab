"""The reference pages of commands and settings, made from the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from typer.core import TyperGroup
from typer.main import get_group

from hermes_apprentice.settings import Settings


def cli_reference() -> str:
    """Return one section per command, in Markdown."""
    from hermes_apprentice.interfaces.cli.main import app

    return "\n" + "\n".join(_sections(get_group(app), "apprentice"))


def _sections(group: TyperGroup, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if isinstance(command, TyperGroup):
            yield from _sections(command, full)
            continue
        yield f"## `{full}`\n\n{(command.help or '').strip()}\n"
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            option = parameter.param_type_name == "option"
            label = ", ".join(parameter.opts) if option else (parameter.name or "").upper()
            rows.append(f"| `{label}` | {getattr(parameter, 'help', '') or ''} |")
        if rows:
            yield "| argument | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"


def settings_reference() -> str:
    """Return one table per section, in Markdown."""
    parts = []
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        nested = getattr(kind, "model_fields", None)
        if nested is None or kind is None:
            continue
        parts.append(f"\n## [{section}]\n\n{(kind.__doc__ or '').strip()}\n")
        parts += _table(section, kind)
        for name, setting in nested.items():
            for item in get_args(setting.annotation):
                if hasattr(item, "model_fields"):
                    text = (item.__doc__ or "").strip()
                    parts.append(f"\n### [[{section}.{name}]]\n\n{text}\n")
                    parts += _table(f"{section}.{name}", item)
    return "\n".join(parts) + "\n"


def _table(section: str, kind: Any) -> Iterator[str]:
    yield "| setting | default | meaning |\n|---|---|---|"
    for name, setting in kind.model_fields.items():
        yield f"| `{section}.{name}` | {_shown(setting.default)} | {setting.description} |"


def _shown(default: object) -> str:
    if default is None or default in ("", {}):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{list(default)}`"
    return f"`{default}`"
