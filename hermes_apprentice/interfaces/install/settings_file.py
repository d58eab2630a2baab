"""Writes Apprentice's settings.toml, and later only the section about isolation. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import IsolationSettings, Settings

BASE_MODELS = (
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen2.5-3B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
)
"""Models that are offered for generators."""

_SECTION = re.compile(r"^\[isolation\][^\n]*\n(?:(?!\[)[^\n]*(?:\n|\Z))*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a first settings.toml says."""

    base_url: str
    """The upstream, as the sidecar reaches it."""

    key_env: str
    """Variable with its key."""

    budget: float | None
    """Ceiling for paid training, dollars per month; ``None`` leaves the default."""

    base_model: str | None
    """Model that generators start from; ``None`` leaves the default."""

    train_python: str
    """Interpreter of the training environment; empty where there is none."""

    deciders: tuple[str, ...]
    """Who may decide, as ``platform:id``."""


def settings_text(settings: Settings, chosen: Chosen) -> str:
    """Write the first settings.toml."""
    lines = [
        "# Written by `apprentice setup`; yours to change. docs/settings.md says what there is.",
    ]
    if settings.hermes_home != Path.home() / ".hermes":
        lines.append(f"hermes_home = {_toml(str(settings.hermes_home))}")
    head = "\n".join(lines)
    return f"{head}\n{shared_text(chosen)}{isolation_text(settings.isolation)}"


def shared_text(chosen: Chosen) -> str:
    """Write the sections that mean the same wherever Apprentice runs."""
    lines = [
        "",
        "[upstream]",
        f"base_url = {_toml(chosen.base_url)}",
        f"api_key_env = {_toml(chosen.key_env)}",
    ]
    if chosen.budget is not None:
        lines += ["", "[budget]", f"monthly_dollars = {chosen.budget}"]
    if chosen.base_model is not None or chosen.train_python:
        lines += ["", "[trainer]"]
    if chosen.base_model is not None:
        lines.append(f"base_model = {_toml(chosen.base_model)}")
    if chosen.train_python:
        lines.append(f"train_python = {_toml(chosen.train_python)}")
    if chosen.deciders:
        lines += ["", "[approvals]", f"deciders = {_toml(list(chosen.deciders))}"]
    return "\n".join(lines) + "\n"


def isolation_text(isolation: IsolationSettings) -> str:
    """Write the section about isolation; nothing where everything is as by default."""
    changed = isolation.model_dump(exclude_defaults=True)
    if not changed:
        return ""
    rows = [f"{name} = {_toml(value)}" for name, value in changed.items()]
    return "\n".join(("", "[isolation]", *rows)) + "\n"


def with_isolation(text: str, isolation: IsolationSettings, name: str) -> str:
    """Return a settings.toml that says where Apprentice runs; the rest stays as it is.

    Args:
        text: The file.
        isolation: What it is to say.
        name: The file's name, for the message.

    Raises:
        ConfigError: The section is written in a way that cannot be replaced.
    """
    data = _parsed(text, name)
    if _isolation(data) == isolation:
        return text
    section = isolation_text(isolation)
    if "isolation" in data:
        written = _SECTION.sub(lambda _: section.lstrip("\n"), text, count=1)
    else:
        written = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{section}"
    try:
        after = tomllib.loads(written)
    except tomllib.TOMLDecodeError:
        after = {}
    rest = {key: value for key, value in data.items() if key != "isolation"}
    if {key: value for key, value in after.items() if key != "isolation"} != rest or (
        _isolation(after) != isolation
    ):
        raise ConfigError(
            f"{name} says something about isolation that cannot be edited safely. Make it say:"
            f"{section or ' nothing about isolation'}"
        )
    return written


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} cannot be read: {error}. Correct or move it.") from error


def _isolation(data: dict[str, Any]) -> IsolationSettings | None:
    try:
        return IsolationSettings.model_validate(data.get("isolation", {}))
    except ValidationError:
        return None


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
