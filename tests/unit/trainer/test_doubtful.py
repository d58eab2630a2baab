"""Which answers are argued away, and which never."""

from __future__ import annotations

import numpy as np

from hermes_apprentice.trainer.doubtful import doubtful, without
from hermes_apprentice.trainer.folds import Fold


def sure_of(labels: list[int], count: int = 2, share: float = 0.9) -> np.ndarray:
    table = np.full((len(labels), count), (1 - share) / (count - 1))
    table[np.arange(len(labels)), labels] = share
    return table


def test_an_answer_against_a_confident_model_is_doubtful() -> None:
    given = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0], np.intp)
    said = sure_of([0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert doubtful(said, given, 2).tolist() == [False] * 8 + [True]


def test_a_model_that_is_not_sure_doubts_nothing() -> None:
    given = np.array([0, 0, 0, 1, 1, 1], np.intp)
    said = sure_of([0, 0, 0, 1, 1, 1])
    said[2] = (0.49, 0.51)  # below what label 1 usually gets
    assert not doubtful(said, given, 2).any()


def test_a_label_that_nobody_understands_keeps_half_of_its_answers() -> None:
    given = np.array([0] * 8 + [1] * 6, np.intp)
    found = doubtful(sure_of([0] * 14), given, 2)
    assert not found[:8].any()
    assert found[8:].sum() <= 3


def test_doubtful_answers_are_still_predicted() -> None:
    folds = [Fold(np.array([0, 1]), np.array([2, 3])), Fold(np.array([2, 3]), np.array([0, 1]))]
    fewer = without(folds, np.array([False, True, False, False]))
    assert [fold.learn.tolist() for fold in fewer] == [[0], [2, 3]]
    assert [fold.predict.tolist() for fold in fewer] == [[2, 3], [0, 1]]
