from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.testing import FakeEmbedder
from hermes_apprentice.trainer.batches import (
    Window,
    affordable,
    in_batches,
    pieces_of,
    wanted_epochs,
)
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.extractor import train_extractor
from hermes_apprentice.trainer.outcome import (
    LEAST_SECONDS,
    Outcome,
    cut_of,
    seconds_for,
    share_of_first,
)

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]


def clock_of(*times: float) -> Callable[[], float]:
    told: Iterator[float] = iter(times)
    return lambda: next(told)


def test_work_here_and_elsewhere_is_taken_from_the_budget() -> None:
    budget = Budget(100.0, clock_of(5.0, 25.0, 30.0))
    assert budget.left == 80.0
    budget.spend(50.0)
    assert budget.left == 25.0


def test_a_budget_that_is_used_up_still_allows_a_little() -> None:
    assert seconds_for(Budget(10.0, clock_of(0.0, 500.0)), 0.5) == LEAST_SECONDS / 2


def test_the_first_of_three_folds_gets_its_part_of_the_work() -> None:
    assert share_of_first(90, [range(30), range(30), range(30)]) == pytest.approx(60 / 270)


@pytest.mark.parametrize(
    ("planned", "wanted", "told"), [((4, 3), (9, 8), "3 of 9 epochs"), ((9, 9), (9, 9), "nothing")]
)
def test_what_was_left_out_is_told(
    planned: tuple[int, int], wanted: tuple[int, int], told: str
) -> None:
    one, two = (
        Outcome(epochs=3, held_out={}, planned=have, wanted=want, seconds=1.0)
        for have, want in zip(planned, wanted, strict=True)
    )
    assert cut_of(one, two) == told


@pytest.mark.parametrize(
    ("wanted", "epochs", "planned", "share"),
    [(9, 40.0, 9, 1.0), (9, 5.7, 5, 1.0), (9, 3.0, 3, 1.0), (9, 1.5, 3, 0.5), (3, -2.0, 3, 0.0)],
)
def test_texts_are_left_out_where_the_time_is_not_enough_for_the_fewest_epochs(
    wanted: int, epochs: float, planned: int, share: float
) -> None:
    assert affordable(wanted, epochs) == (planned, share)


@pytest.mark.parametrize("texts", [1, 20, 400, 6_000])
def test_no_set_makes_a_fit_read_more_than_its_bound_beyond_the_fewest_epochs(texts: int) -> None:
    rng = np.random.default_rng(3)
    windows = [
        Window(np.zeros((int(size), 1)), [np.zeros(int(size), np.int64)])
        for size in rng.integers(4, 60, texts)
    ]
    batches = in_batches(windows, rng)
    epochs = wanted_epochs(batches)
    assert sum(map(len, batches)) == texts
    assert 3 <= epochs <= 25
    assert epochs == 3 or (epochs - 1) * pieces_of(batches) <= 160_000


def test_networks_are_left_out_where_the_time_is_not_enough(make_examples: Make) -> None:
    rng = random.Random(3)
    towns = ("Aldmere", "Bronnholm", "Castelvar", "Dunwick", "Esterby")
    rows = [
        (f"go to {rng.choice(towns)} with {rng.choice(towns)}", f'{{"to": "{rng.choice(towns)}"}}')
        for _ in range(30)
    ]
    # Answers by chance, so that the chains are wrong and networks are worth a try.
    rows = [(text, f'{{"to": "{text.split()[rng.choice((2, 4))]}"}}') for text, _ in rows]
    shape = infer_shape([text for text, _ in rows], [answer for _, answer in rows])
    examples = make_examples(rows)
    ticks = count()
    budget = Budget(1.0, lambda: float(next(ticks)))
    encodings = FakeEmbedder().encode([one.request for one in examples])
    fit = train_extractor(shape, examples, encodings, 7, lambda share, doing: None, budget)
    assert fit.trained.recipe["network.cut"] == "networks"
