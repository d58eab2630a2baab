from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.trainer import perceptron_fitting
from hermes_apprentice.trainer.perceptron_fitting import PerceptronSettings, fit_perceptron

SETTINGS = PerceptronSettings(units=32, dropout=0.0, least_steps=1_200)


def rings(seed: int, count: int = 300) -> tuple[FloatArray, NDArray[np.intp]]:
    """Points in three rings around each other: no line tells them apart."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count)
    angles = rng.uniform(0, 2 * np.pi, count)
    radius = 1.0 + 2 * classes + rng.normal(0, 0.15, count)
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)
    return points.astype(np.float32), classes.astype(np.intp)


def test_classes_that_no_line_tells_apart_are_learned() -> None:
    network = fit_perceptron(*rings(1), 3, SETTINGS, 7)
    points, classes = rings(2)
    assert (network.scores(points).argmax(axis=1) == classes).mean() > 0.95


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    rng = np.random.default_rng(3)
    points, classes = rings(4, 12)
    points = points.astype(np.float64)
    weights = [rng.normal(size=size) for size in ((2, 5), (5,), (5, 3), (3,))]
    still = replace(SETTINGS, dropout=0.0)

    def loss() -> float:
        return perceptron_fitting._slope(points, classes, weights, still, rng)[0]

    _, gradients = perceptron_fitting._slope(points, classes, weights, still, rng)
    for part, gradient in zip(weights, gradients, strict=True):
        place = tuple(size // 2 for size in part.shape)
        part[place] += 1e-4
        high = loss()
        part[place] -= 2e-4
        low = loss()
        part[place] += 1e-4
        assert (high - low) / 2e-4 == pytest.approx(float(gradient[place]), rel=1e-2, abs=1e-5)


def test_inputs_of_any_size_and_those_that_never_change_are_learned_from() -> None:
    points, classes = rings(1)
    wide = np.concatenate([points * 1e4 + 3e5, np.full((len(points), 2), 7.0)], axis=1)
    network = fit_perceptron(wide.astype(np.float32), classes, 3, SETTINGS, 7)
    assert (network.scores(wide.astype(np.float32)).argmax(axis=1) == classes).mean() > 0.95


def test_the_same_seed_gives_the_same_network() -> None:
    one, other = (fit_perceptron(*rings(1), 3, SETTINGS, 7) for _ in range(2))
    assert np.array_equal(one.hidden, other.hidden) and np.array_equal(one.output, other.output)


def test_a_class_without_examples_is_seldom_chosen() -> None:
    points, classes = rings(1)
    network = fit_perceptron(points, classes, 4, SETTINGS, 7)
    assert (network.scores(points).argmax(axis=1) != 3).all()


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(TrainingError, match="nothing"):
        fit_perceptron(np.zeros((0, 3), np.float32), np.zeros(0, np.intp), 2, SETTINGS, 7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    points, classes = rings(1)
    points[3, 0] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        fit_perceptron(points, classes, 3, SETTINGS, 7)
