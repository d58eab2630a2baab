from __future__ import annotations

from collections.abc import Sequence

import pytest

from hermes_apprentice.errors import TrainingError
from hermes_apprentice.trainer.recipes import load_recipes
from hermes_apprentice.trainer.steps import Batches, Schedule, Watch

RECIPE = load_recipes()["cpu"]


def test_every_epoch_has_every_example_once_in_an_order_of_its_own() -> None:
    schedule = Schedule(RECIPE, 20, seed=7)
    assert (schedule.per_epoch, schedule.total) == (3, 9)
    epochs = [
        [row for step in range(e * 3, e * 3 + 3) for row in schedule.rows(step)] for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]
    assert Schedule(RECIPE, 20, seed=7).rows(4) == schedule.rows(4)
    assert Schedule(RECIPE, 3, seed=7).rows(0) != [] and Schedule(RECIPE, 3, seed=7).per_epoch == 1


def test_the_rate_rises_then_falls_and_steps_are_bounded() -> None:
    schedule = Schedule(RECIPE.model_copy(update={"warmup_share": 0.2}), 1_000, seed=1)
    assert schedule.total == RECIPE.max_steps
    rates = [schedule.rate(step) for step in range(schedule.total)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[-1] < 0.01 * max(rates)
    assert schedule.looks(schedule.total - 1) and schedule.looks(49) and not schedule.looks(48)


def test_training_ends_when_the_validation_loss_did_not_improve() -> None:
    watch = Watch(patience=2)
    assert [watch.improved(loss) for loss in (1.0, 0.8, 0.9, 0.7, 0.71)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert not watch.over
    watch.improved(0.7)
    assert watch.over and watch.best == 0.7


def test_a_step_begins_anew_with_smaller_batches_until_they_fit() -> None:
    batches = Batches(8, lambda error: "memory" in str(error))
    seen: list[list[int]] = []

    def compute(rows: Sequence[int]) -> float:
        if len(rows) > 3:
            raise RuntimeError("out of memory")
        seen.append(list(rows))
        return float(len(rows))

    assert batches.run(range(8), compute, seen.clear) == 8.0
    assert batches.size == 2 and [row for part in seen for row in part] == list(range(8))
    assert batches.run(range(3), compute, seen.clear) == 3.0  # what fits is remembered


def test_what_never_fits_and_other_errors_are_not_tried_for_ever() -> None:
    def full(rows: Sequence[int]) -> float:
        raise MemoryError

    def broken(rows: Sequence[int]) -> float:
        raise RuntimeError("shapes differ")

    with pytest.raises(TrainingError, match="single example"):
        Batches(5, lambda error: True).run(range(5), full, lambda: None)
    with pytest.raises(RuntimeError, match="shapes differ"):
        Batches(5, lambda error: False).run(range(5), broken, lambda: None)
