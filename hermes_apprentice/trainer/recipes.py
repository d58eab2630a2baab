"""How a generator is trained: one format, a profile per size of GPU, and the operator's own.

Pure but for reading the files. Knows nothing about base models.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hermes_apprentice.errors import ConfigError, TrainingError

AUTO = "auto"
"""Chooses the largest recipe that the free memory is enough for."""

CPU = "cpu"
"""The recipe for machines without a GPU."""

_SHIPPED = Path(__file__).with_name("recipes.toml")


class Recipe(BaseModel):
    """One way to train an adapter."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: str
    """Its name."""

    needs_gb: float = Field(ge=0)
    """Free GPU memory it is made for; 0 runs on a CPU."""

    batch: int = Field(ge=1, le=1_024)
    """Examples that are computed at once; halved when the memory is not enough."""

    accumulation: int = Field(ge=1, le=1_024)
    """Batches per step."""

    learning_rate: float = Field(gt=0, lt=1)
    """Highest learning rate, after the warm-up."""

    epochs: int = Field(ge=1, le=1_000)
    """Most passes over the training split."""

    max_steps: int = Field(ge=1, le=1_000_000)
    """Most steps."""

    max_length: int = Field(ge=32, le=131_072)
    """Longest prompt and answer together, in tokens; longer examples are left out, never cut."""

    four_bit: bool
    """Whether the base is held in 4 bit (QLoRA); on CUDA only."""

    gradient_checkpointing: bool = True
    """Save memory by computing activations twice."""

    rank: int = Field(default=16, ge=1, le=1_024)
    """Rank of the adapter."""

    alpha: int = Field(default=16, ge=1, le=4_096)
    """Scale of the adapter."""

    weight_decay: float = Field(default=0.01, ge=0, lt=1)
    """Of the adapter's weights."""

    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""

    patience: int = Field(default=2, ge=1)
    """Looks at the validation split without an improvement after which training ends."""

    eval_every: int = Field(default=0, ge=0)
    """Steps between two looks; 0 looks once per epoch, and at least every 50 steps."""


def load_recipes(own: Path | None = None) -> dict[str, Recipe]:
    """Return the recipes by name, with the operator's values on top.

    A recipe of the operator that is not among the shipped ones starts from the one that its
    ``like`` names.

    Args:
        own: The operator's file; need not exist.

    Raises:
        ConfigError: The file cannot be read, or a value is not right; says which and why.
    """
    tables = _tables(_SHIPPED)
    recipes = {name: _recipe(_SHIPPED, name, values) for name, values in tables.items()}
    if own is not None and own.is_file():
        for name, values in _tables(own).items():
            like = values.pop("like", name)
            if name not in tables and like not in tables:
                raise ConfigError(
                    f"{own}: [{name}] needs like = one of {', '.join(tables)}, to start from"
                )
            recipes[name] = _recipe(own, name, {**tables[like], **values})
    return recipes


def choose_recipe(wanted: str, recipes: Mapping[str, Recipe], free_gb: float | None) -> Recipe:
    """Return the recipe to train by.

    Args:
        wanted: A name, or `AUTO`.
        recipes: By name.
        free_gb: Free memory of the GPU that would be used; ``None`` where there is none.

    Raises:
        ConfigError: There is no such recipe.
        TrainingError: It needs more memory than is free.
    """
    if wanted != AUTO:
        if wanted not in recipes:
            raise ConfigError(f"there is no recipe {wanted!r}; known: {', '.join(recipes)}")
        chosen = recipes[wanted]
        if chosen.needs_gb and (free_gb is None or chosen.needs_gb > free_gb):
            there = "there is no GPU" if free_gb is None else f"{free_gb:.1f} GB are free"
            raise TrainingError(
                f"the recipe {wanted!r} needs {chosen.needs_gb:g} GB of GPU memory, and {there}"
            )
        return chosen
    if free_gb is None:
        return recipes[CPU]
    fitting = [one for one in recipes.values() if 0 < one.needs_gb <= free_gb]
    if not fitting:
        least = min(one.needs_gb for one in recipes.values() if one.needs_gb)
        raise TrainingError(
            f"{free_gb:.1f} GB of GPU memory are free, and the smallest recipe needs {least:g}; "
            "programs that hold the rest are left alone: end one, or try again later"
        )
    return max(fitting, key=lambda one: one.needs_gb)


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    for name, values in content.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name} stands outside of a recipe such as [24gb]")
    return content


def _recipe(path: Path, name: str, values: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate({**values, "name": name})
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in exc.errors()
        )
        raise ConfigError(f"{path}: [{name}] {problems}") from exc
