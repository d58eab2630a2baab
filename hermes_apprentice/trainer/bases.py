"""The base models that generators may be trained on, with licences and what they need.

A list ships with the package; the operator's own file changes and extends it. A folder with a
model is a base, too. Knows nothing about training or GPUs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hermes_apprentice.errors import ConfigError

ALL_LINEAR = ("all-linear",)
"""Stands for every linear layer of a model whose layers are not listed."""

_SHIPPED = Path(__file__).with_name("supported_models.yaml")
_USUAL_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_USUAL_TYPES = {"gemma2", "llama", "mistral", "qwen2", "qwen3"}
_BYTES_PER_PARAMETER = 2
_FOUR_BIT_SHARE = 0.35
"""Of the 16-bit weights: the 4-bit ones, and the parts that stay in 16 bit."""

_WORKING_GB = 2.0


class Base(BaseModel):
    """One base model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(min_length=1)
    """Its name on the model hub, or the folder it lies in."""

    licence: str = Field(min_length=1)
    """Licence of its weights."""

    parameters: float = Field(gt=0, lt=1_000)
    """Billions."""

    min_vram_gb: float = Field(ge=0, lt=10_000)
    """Free GPU memory that training needs at least, in 4 bit and with a batch of one."""

    chat_template: Literal["chatml", "llama-3", "own"]
    """Family of its chat template; the template itself comes from its tokenizer."""

    target_modules: tuple[str, ...] = Field(min_length=1)
    """Linear layers that get an adapter."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Base, ...]


def load_bases(own: Path | None = None) -> dict[str, Base]:
    """Return the known bases by name, those of the operator's file on top.

    Args:
        own: The operator's file; need not exist.

    Raises:
        ConfigError: The file cannot be read, or an entry is not right; says which and why.
    """
    bases = {base.name: base for base in _read(_SHIPPED)}
    if own is not None and own.is_file():
        bases |= {base.name: base for base in _read(own)}
    return bases


def find_base(wanted: str, bases: dict[str, Base]) -> Base:
    """Return the base with this name, or the one in this folder.

    Raises:
        ConfigError: It is neither in the list nor a folder with a model.
    """
    if wanted in bases:
        return bases[wanted]
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        return _in_folder(folder)
    raise ConfigError(
        f"the base model {wanted!r} is neither a folder nor in the list "
        f"({', '.join(bases)}); add it to supported_models.yaml"
    )


def _in_folder(folder: Path) -> Base:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(
            f"{folder} holds no model: its config.json is missing or damaged"
        ) from exc
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not size:
        raise ConfigError(f"{folder} holds no weights: there is no *.safetensors in it")
    gigabytes = size / 1e9
    return Base(
        name=str(folder.resolve()),
        licence="as its own folder says",
        parameters=max(1e-6, gigabytes / _BYTES_PER_PARAMETER),
        min_vram_gb=round(_WORKING_GB + _FOUR_BIT_SHARE * gigabytes, 1),
        chat_template="own",
        target_modules=_USUAL_LAYERS if kind in _USUAL_TYPES else ALL_LINEAR,
    )


def _read(path: Path) -> tuple[Base, ...]:
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    try:
        found = _File.model_validate(content)
    except ValidationError as exc:
        raise ConfigError(f"{path}: {_problems(exc, content)}") from exc
    names = [base.name for base in found.models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}: {', '.join(twice)} is listed twice")
    return found.models


def _problems(error: ValidationError, content: object) -> str:
    """Return what is wrong, with the name of the entry instead of its number."""
    parts = []
    for problem in error.errors():
        place = list(problem["loc"])
        entry = ""
        if len(place) > 1 and place[0] == "models" and isinstance(place[1], int):
            try:
                entry = str(content["models"][place[1]]["name"])  # type: ignore[index]
            except (KeyError, TypeError):
                entry = f"entry {place[1] + 1}"
            place = place[2:]
        where = ": ".join(part for part in (entry, ".".join(map(str, place))) if part)
        parts.append(f"{where}: {problem['msg']}" if where else problem["msg"])
    return "; ".join(parts)
