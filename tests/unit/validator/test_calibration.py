from __future__ import annotations

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.validator.calibration import NEVER, Calibration, calibrate
from hermes_apprentice.validator.evaluate import Row

EXAMPLE = Example(
    example_id="ex", group="g", split=Split.TRAIN, request="r", answer="bug", asked_at=0.0
)


def rows_of(confidences: np.ndarray, right: np.ndarray) -> list[Row]:
    return [
        Row(
            example=EXAMPLE,
            text="bug",
            confidence=float(confidence),
            agrees=bool(agrees),
            cross_fitted=True,
        )
        for confidence, agrees in zip(confidences, right, strict=True)
    ]


def choose(rows: list[Row], target: float = 0.95) -> Calibration:
    return calibrate(rows, target, 0.3, 0.95)


def test_a_proven_threshold_keeps_its_promise_in_nearly_every_run() -> None:
    """The chance of agreement rises with confidence, so the truth above a threshold is known."""
    generator = np.random.default_rng(2)
    broken = proven = 0
    for _ in range(300):
        confidences = generator.random(800)
        chances = np.minimum(1.0, 0.85 + 0.25 * confidences)
        found = choose(rows_of(confidences, generator.random(800) < chances))
        if found.proven:
            proven += 1
            above = np.linspace(found.threshold, 1, 10_000)
            broken += np.minimum(1.0, 0.85 + 0.25 * above).mean() < 0.95
    assert proven > 100
    assert broken / 300 <= 0.05


def test_confidence_that_says_nothing_is_never_taken_for_proof() -> None:
    generator = np.random.default_rng(3)
    found = [
        choose(rows_of(generator.random(200), generator.random(200) < 0.94)) for _ in range(200)
    ]
    assert sum(calibration.proven for calibration in found) <= 10


def test_the_largest_share_that_is_proven_is_answered() -> None:
    confidences = np.linspace(0, 1, 500)
    found = choose(rows_of(confidences, confidences > 0.25))
    assert found.proven
    assert found.coverage == pytest.approx(0.7, abs=0.01)
    assert 0.25 < found.threshold < 0.35


def test_little_data_gives_an_estimate_that_is_called_one() -> None:
    found = choose(rows_of(np.linspace(0.5, 1, 40), np.ones(40, bool)))
    assert not found.proven
    assert found.coverage == 1
    assert found.agreement == 1


def test_a_target_out_of_reach_takes_the_best_share_worth_answering() -> None:
    confidences = np.linspace(0, 1, 200)
    right = (np.arange(200) % 10 != 0) & (confidences > 0.5)
    found = choose(rows_of(confidences, right))
    assert not found.proven
    assert found.coverage >= 0.3
    assert found.threshold > 0.4


def test_equal_confidences_are_answered_together() -> None:
    found = choose(rows_of(np.full(300, 0.8), np.ones(300, bool)))
    assert found.threshold == 0.8
    assert found.coverage == 1


def test_without_a_single_answer_it_always_abstains() -> None:
    nothing = [Row(example=EXAMPLE, text=None, confidence=0.0, agrees=False) for _ in range(20)]
    assert choose(nothing).threshold == NEVER
    assert choose([]).threshold == NEVER


def test_rows_without_an_answer_count_against_coverage() -> None:
    rows = rows_of(np.full(60, 0.9), np.ones(60, bool))
    nothing = [Row(example=EXAMPLE, text=None, confidence=0.0, agrees=False) for _ in range(40)]
    assert choose(rows + nothing).coverage == 0.6
