import numpy as np
import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.confidence import (
    Calibration,
    Typicality,
    confidence_arrays,
    nearness,
    read_confidence,
)


def typicality() -> Typicality:
    return Typicality(exemplars=np.eye(4, dtype=np.float32), usual=0.3, foreign=0.1)


def test_a_request_like_the_training_requests_is_fully_typical() -> None:
    assert typicality().of(np.array([1, 0, 0, 0], np.float32)) == 1.0


def test_a_request_of_another_kind_is_not_typical_at_all() -> None:
    assert typicality().of(np.array([-1, 0, 0, 0], np.float32)) == 0.0


def test_nearness_is_the_mean_of_the_nearest() -> None:
    assert nearness(np.array([0.1, 0.9, 0.8, 0.7])) == pytest.approx(0.8)
    assert nearness(np.array([0.5])) == 0.5
    assert nearness(np.array([])) == 0.0


def test_extreme_signals_give_probabilities() -> None:
    curve = Calibration(weights=np.array([1e9]), bias=0.0)
    assert 0.0 <= curve.probability(np.array([-1e9])) < 1e-9
    assert 1 - 1e-9 < curve.probability(np.array([1e9])) <= 1.0


def test_confidence_survives_its_arrays() -> None:
    curve = Calibration(weights=np.array([0.5, -2.0]), bias=0.25)
    again, home = read_confidence(confidence_arrays(curve, typicality()), signals=2)
    assert again.weights.tolist() == [0.5, -2.0] and again.bias == 0.25
    assert (home.usual, home.foreign) == (0.3, 0.1)
    with pytest.raises(ArtefactError):
        read_confidence(confidence_arrays(curve, typicality()), signals=3)
    with pytest.raises(ArtefactError):
        read_confidence({}, signals=2)
