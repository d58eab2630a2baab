from __future__ import annotations

from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError, TrainingError
from hermes_apprentice.trainer.recipes import choose_recipe, load_recipes


@pytest.mark.parametrize(
    ("free", "name"),
    [(None, "cpu"), (7.5, "8gb"), (10.4, "11gb"), (23.2, "24gb"), (40.0, "24gb"), (79.0, "80gb")],
)
def test_the_largest_recipe_that_fits_is_chosen(free: float | None, name: str) -> None:
    assert choose_recipe("auto", load_recipes(), free).name == name


def test_too_little_free_memory_is_said_and_nothing_is_ended_for_it() -> None:
    with pytest.raises(TrainingError, match=r"2\.0 GB .* left alone"):
        choose_recipe("auto", load_recipes(), 2.0)
    with pytest.raises(TrainingError, match=r"needs 20 GB .* 8\.0 GB are free"):
        choose_recipe("24gb", load_recipes(), 8.0)
    with pytest.raises(TrainingError, match="there is no GPU"):
        choose_recipe("24gb", load_recipes(), None)
    with pytest.raises(ConfigError, match="known: cpu"):
        choose_recipe("huge", load_recipes(), None)
    assert choose_recipe("cpu", load_recipes(), 8.0).needs_gb == 0


def test_the_operator_changes_single_values_and_adds_recipes(tmp_path: Path) -> None:
    own = tmp_path / "recipes.toml"
    own.write_text('[24gb]\nbatch = 3\n[mine]\nlike = "cpu"\nmax_steps = 5\n', encoding="utf-8")
    shipped, recipes = load_recipes(), load_recipes(own)
    assert recipes["24gb"] == shipped["24gb"].model_copy(update={"batch": 3})
    assert recipes["mine"] == shipped["cpu"].model_copy(update={"name": "mine", "max_steps": 5})
    assert load_recipes(tmp_path / "none.toml") == shipped


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[24gb]\nbatch = 0\n", r"\[24gb\] batch"),
        ("[24gb]\nlearning_rate = nan\n", r"\[24gb\] learning_rate"),
        ("[24gb]\nbatches = 2\n", r"\[24gb\] batches"),
        ("[mine]\nbatch = 2\n", r"\[mine\] needs like"),
        ("batch = 2\n", "outside of a recipe"),
        ("[24gb\n", "cannot be read"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_name(text: str, problem: str, tmp_path: Path) -> None:
    own = tmp_path / "recipes.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        load_recipes(own)
