import numpy as np
import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.perceptron import Perceptron, log_softmax


def network() -> Perceptron:
    rng = np.random.default_rng(5)
    return Perceptron(
        hidden=rng.normal(size=(6, 4)).astype(np.float32),
        hidden_bias=rng.normal(size=4).astype(np.float32),
        output=rng.normal(size=(4, 3)).astype(np.float32),
        output_bias=rng.normal(size=3).astype(np.float32),
    )


def test_one_text_is_scored_as_in_a_batch() -> None:
    inputs = np.random.default_rng(6).normal(size=(5, 6)).astype(np.float32)
    batch = network().scores(inputs)
    assert batch.shape == (5, 3)
    assert np.allclose(batch[2], network().scores(inputs[2]), atol=1e-5)


def test_log_probabilities_sum_to_one_however_large_the_scores() -> None:
    scores = np.array([[1e4, 0.0, -1e4], [1.0, 1.0, 1.0]])
    assert np.allclose(np.exp(log_softmax(scores)).sum(axis=1), 1.0)


def test_a_network_survives_its_arrays() -> None:
    inputs = np.random.default_rng(7).normal(size=(5, 6)).astype(np.float32)
    again = Perceptron.from_arrays(network().to_arrays())
    assert np.allclose(network().scores(inputs), again.scores(inputs), atol=0.02)


@pytest.mark.parametrize("name", ["hidden", "hidden_bias", "output", "output_bias"])
def test_arrays_that_are_missing_or_do_not_fit_are_refused(name: str) -> None:
    arrays = network().to_arrays()
    whole = arrays.pop(name)
    with pytest.raises(ArtefactError):
        Perceptron.from_arrays(arrays)
    with pytest.raises(ArtefactError):
        Perceptron.from_arrays({**arrays, name: whole[..., :-1]})
