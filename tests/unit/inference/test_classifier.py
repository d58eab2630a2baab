"""The classifier's short cuts give the very numbers of the formulas they stand for."""

from __future__ import annotations

import numpy as np

from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.inference.classifier import label_signals
from hermes_apprentice.inference.confidence import NEIGHBOURS, nearness
from hermes_apprentice.inference.features import text_inputs
from hermes_apprentice.inference.head import softmax
from hermes_apprentice.inference.perceptron import Perceptron


def test_signals_are_those_of_the_softmax_to_the_last_bit() -> None:
    generator = np.random.default_rng(1)
    for scale in (0.01, 1.0, 60.0):
        for _ in range(200):
            scores = scale * generator.standard_normal(generator.integers(2, 160))
            best = float(np.clip(softmax(scores).max(), 1e-6, 1 - 1e-6))
            expected = [np.log(best / (1 - best)), scores.max(), 0.5]
            assert label_signals(scores, 0.5).tolist() == expected


def test_nearness_is_the_mean_of_the_largest_to_the_last_bit() -> None:
    generator = np.random.default_rng(2)
    for count in (1, 2, 3, 4, 500):
        cosines = generator.uniform(-1, 1, count).astype(np.float32)
        before = cosines.copy()
        kept = min(NEIGHBOURS, count)
        expected = np.partition(cosines, count - kept)[-kept:].mean()
        assert nearness(cosines) == float(expected)
        assert (cosines == before).all()


def test_a_network_reads_the_embedding_and_the_mean_state_to_the_last_bit() -> None:
    generator = np.random.default_rng(3)
    for tokens in (0, 1, 7, 128):
        encoding = Encoding(
            embedding=generator.standard_normal(48).astype(np.float32),
            tokens=("x",) * tokens,
            offsets=np.zeros((tokens, 2), np.int32),
            states=generator.standard_normal((tokens, 96)).astype(np.float32),
        )
        mean = encoding.states.mean(axis=0) if tokens else np.zeros(96, np.float32)
        inputs = text_inputs(encoding)
        assert inputs.dtype == np.float32
        assert inputs.tolist() == [*encoding.embedding.tolist(), *mean.tolist()]


def test_scoring_leaves_the_weights_and_the_inputs_as_they_are() -> None:
    generator = np.random.default_rng(4)
    shapes = {"hidden": (6, 5), "hidden_bias": 5, "output": (5, 3), "output_bias": 3}
    arrays = {name: generator.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    kept = {name: array.copy() for name, array in arrays.items()}
    inputs = generator.standard_normal((2, 6)).astype(np.float32)
    before = inputs.copy()
    first, second = Perceptron(**arrays).scores(inputs), Perceptron(**arrays).scores(inputs)
    units = np.maximum(before @ kept["hidden"] + kept["hidden_bias"], 0.0)
    assert (first == units @ kept["output"] + kept["output_bias"]).all()
    assert (first == second).all() and (inputs == before).all()
    assert all((arrays[name] == kept[name]).all() for name in arrays)
