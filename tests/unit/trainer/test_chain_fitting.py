import numpy as np
import pytest

from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.chain import FORBIDDEN
from hermes_apprentice.trainer.chain_fitting import ChainSettings, _Problem, fit_chain

NAMES = ("O", "B-a", "I-a")


def toy(seed: int = 0) -> tuple[list[list[list[str]]], list[np.ndarray], list[list[str]]]:
    rng = np.random.default_rng(seed)
    features, states, labels = [], [], []
    for length in (5, 1, 3, 4, 2):
        row = ["O"] * length
        if length > 2:
            row[1:3] = ["B-a", "I-a"]
        labels.append(row)
        features.append([[f"w{rng.integers(4)}", f"t{label}", ""] for label in row])
        states.append(rng.normal(size=(length, 3)).astype(np.float32))
    return features, states, labels


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    features, states, labels = toy()
    problem = _Problem(features, np.concatenate(states), labels, NAMES, ChainSettings())
    sizes = (problem.named.shape[1], 3, len(NAMES))
    problem.cuts = np.cumsum([size * len(NAMES) for size in sizes])
    start = np.random.default_rng(1).normal(size=problem.cuts[-1]) * 0.3
    _, gradient = problem._loss(start)
    step = 1e-2  # states are single precision, so smaller steps drown in rounding
    for place in range(len(start)):
        ahead, behind = start.copy(), start.copy()
        ahead[place] += step
        behind[place] -= step
        slope = (problem._loss(ahead)[0] - problem._loss(behind)[0]) / (2 * step)
        assert gradient[place] == pytest.approx(slope, abs=2e-3)


def test_a_fitted_chain_gives_the_labels_it_was_shown() -> None:
    features, states, labels = toy()
    chain = fit_chain(features, states, labels, NAMES, ChainSettings())
    for row, state, wanted in zip(features, states, labels, strict=True):
        assert list(chain.tag(chain.emissions(row, state)).labels) == wanted
    assert chain.transitions[0, 2] <= FORBIDDEN / 2 and chain.start[2] <= FORBIDDEN / 2


def test_words_without_a_state_do_not_disturb() -> None:
    features, states, labels = toy()
    states[0][:] = 0
    chain = fit_chain(features, states, labels, NAMES, ChainSettings())
    assert np.isfinite(chain.named).all() and np.isfinite(chain.dense).all()
    assert list(chain.tag(chain.emissions(features[0], states[0])).labels) == labels[0]


def test_the_same_data_give_the_same_chain() -> None:
    first, again = (fit_chain(*toy(), NAMES, ChainSettings()) for _ in range(2))
    assert np.array_equal(first.named, again.named) and first.vocabulary == again.vocabulary


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no words"):
        fit_chain([[]], [np.zeros((0, 3), np.float32)], [[]], NAMES, ChainSettings())
