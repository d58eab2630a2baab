import numpy as np
import pytest

from hermes_apprentice.trainer.calibrating import (
    choose_exemplars,
    cross_calibrated,
    fit_calibration,
    fit_typicality,
    held_out_typicality,
)
from hermes_apprentice.trainer.folds import make_folds


def outcomes(count: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    signals = rng.normal(size=(count, 2))
    chance = 1 / (1 + np.exp(-(1.5 * signals[:, 0] + 1)))
    return signals, rng.uniform(size=count) < chance


def test_confidence_is_how_often_answers_are_right() -> None:
    signals, right = outcomes()
    curve = fit_calibration(signals, right)
    confidence = np.array([curve.probability(row) for row in signals])
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        inside = (confidence >= low) & (confidence < high)
        assert right[inside].mean() == pytest.approx(confidence[inside].mean(), abs=0.06)


def test_a_set_without_mistakes_does_not_claim_certainty() -> None:
    signals = np.random.default_rng(0).normal(size=(20, 2))
    curve = fit_calibration(signals, np.ones(20, bool))
    assert 0.85 < curve.probability(signals.mean(axis=0)) < 0.99


def test_a_better_signal_never_lowers_the_confidence() -> None:
    signals, right = outcomes()
    curve = fit_calibration(-signals, right)
    assert (curve.weights >= 0).all()


def test_a_warning_that_training_never_saw_brings_the_confidence_to_nothing() -> None:
    signals, right = outcomes(200)
    flagged = np.column_stack([signals, np.zeros(200)])
    curve = fit_calibration(flagged, right, flags=(2,))
    assert curve.probability(np.array([3.0, 0.0, 1.0])) < 1e-6
    assert curve.probability(np.array([3.0, 0.0, 0.0])) > 0.9


def test_a_warning_seen_in_training_costs_what_it_cost_there() -> None:
    rng = np.random.default_rng(1)
    flags = rng.uniform(size=1_000) < 0.3
    right = rng.uniform(size=1_000) < np.where(flags, 0.6, 0.95)
    curve = fit_calibration(np.column_stack([flags]).astype(float), right, flags=(0,))
    assert curve.probability(np.array([1.0])) == pytest.approx(0.6, abs=0.06)
    assert curve.probability(np.array([0.0])) == pytest.approx(0.95, abs=0.03)


def test_held_out_confidences_come_from_other_folds() -> None:
    signals, right = outcomes(300)
    folds = make_folds([f"g{n}" for n in range(300)], right.tolist(), 3, seed=0)
    before = cross_calibrated(signals, right, folds)
    changed = right.copy()
    changed[folds[0].predict] = ~changed[folds[0].predict]
    after = cross_calibrated(signals, changed, folds)
    assert np.array_equal(before[folds[0].predict], after[folds[0].predict])
    assert not np.array_equal(before[folds[1].predict], after[folds[1].predict])


def test_exemplars_are_spread_over_their_owners() -> None:
    owners = np.array([0] * 90 + [1] * 10, np.int32)
    kept = choose_exemplars(100, seed=0, owners=owners, most=20)
    assert len(kept) == 20 and (owners[kept] == 1).sum() == 10
    assert choose_exemplars(5, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_near_all_training_requests_are_typical_and_foreign_ones_are_not() -> None:
    rng = np.random.default_rng(3)
    home = rng.normal(size=(200, 16)) + np.array([4.0] + [0.0] * 15)
    home /= np.linalg.norm(home, axis=1, keepdims=True)
    home = home.astype(np.float32)
    groups = [f"g{n}" for n in range(200)]
    typicality = fit_typicality(home, groups)
    typical = held_out_typicality(typicality, home, groups, np.arange(200))
    assert (typical == 1.0).mean() >= 0.98
    foreign = -home[0]
    assert typicality.of(foreign) == 0.0


def test_a_request_does_not_vouch_for_itself_or_its_near_duplicates() -> None:
    home = np.eye(6, dtype=np.float32)[[0, 0, 1, 2, 3, 4]]
    groups = ["same", "same", "b", "c", "d", "e"]
    typicality = fit_typicality(home, groups)
    typical = held_out_typicality(typicality, home, groups, np.arange(6))
    assert typicality.of(home[0]) >= typical[0]
    assert typical[0] == typical[2]
