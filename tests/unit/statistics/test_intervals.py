from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hermes_apprentice.statistics.intervals import (
    Bounds,
    IndexArray,
    binomial_lower,
    binomial_upper,
    clopper_pearson,
    paired_bootstrap,
    paired_bounds,
    trials_needed,
    wilson,
)


@given(trials=st.integers(1, 60), share=st.floats(0, 1), rate=st.floats(0.01, 0.99))
def test_the_exact_bound_excludes_a_rate_only_when_the_data_do(
    trials: int, share: float, rate: float
) -> None:
    successes = int(share * trials)
    surprising = stats.binom.sf(successes - 1, trials, rate) <= 0.05
    assert (binomial_lower(successes, trials, 0.95) >= rate) == surprising or np.isclose(
        binomial_lower(successes, trials, 0.95), rate
    )


@given(trials=st.integers(0, 200), share=st.floats(0, 1))
def test_lower_and_upper_mirror_each_other(trials: int, share: float) -> None:
    successes = int(share * trials)
    assert binomial_lower(successes, trials, 0.9) == pytest.approx(
        1 - binomial_upper(trials - successes, trials, 0.9)
    )


def test_known_values() -> None:
    assert binomial_lower(59, 59, 0.95) == pytest.approx(0.05 ** (1 / 59))
    assert binomial_upper(0, 598, 0.95) < 0.005 < binomial_upper(0, 597, 0.95)
    exact = clopper_pearson(8, 10)
    assert (exact.low, exact.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    score = wilson(8, 10)
    assert (score.low, score.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_without_trials_nothing_is_known() -> None:
    assert clopper_pearson(0, 0)[1:] == (0, 1)
    assert wilson(0, 0)[1:] == (0, 1)
    assert binomial_lower(0, 0, 0.95) == 0
    assert binomial_upper(0, 0, 0.95) == 1


@given(trials=st.integers(1, 100), share=st.floats(0, 1))
def test_every_interval_contains_its_estimate(trials: int, share: float) -> None:
    successes = int(share * trials)
    for bounds in (clopper_pearson(successes, trials), wilson(successes, trials)):
        assert 0 <= bounds.low <= bounds.value <= bounds.high <= 1


def test_the_paired_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for run in range(200):
        hard = generator.random(120)
        ours = generator.random(120) < 0.9 - 0.4 * hard
        theirs = generator.random(120) < 0.7 - 0.4 * hard
        gains = ours.astype(float) - theirs

        def mean(rows: IndexArray, gains: np.ndarray = gains) -> float:
            return float(gains[rows].mean())

        bounds = paired_bootstrap(mean, 120, seed=run, rounds=300)
        covered += bounds.low <= 0.2 <= bounds.high
    assert 0.9 <= covered / 200 <= 0.99


def test_the_bootstrap_is_the_same_for_the_same_seed() -> None:
    values = np.arange(30.0)

    def mean(rows: IndexArray) -> float:
        return float(values[rows].mean())

    assert paired_bootstrap(mean, 30, seed=5) == paired_bootstrap(mean, 30, seed=5)
    assert paired_bootstrap(mean, 30, seed=5) != paired_bootstrap(mean, 30, seed=6)


def test_a_bootstrap_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        paired_bootstrap(lambda rows: 0.0, 0, seed=1)


def test_the_trials_that_are_announced_are_the_trials_that_are_needed() -> None:
    needed = trials_needed(0.8, 1.0, 0.95)
    assert binomial_lower(needed, needed, 0.95) >= 0.8
    assert binomial_lower(needed - 1, needed - 1, 0.95) < 0.8
    assert trials_needed(0.8, 0.9, 0.95) > needed
    assert trials_needed(0.8, 0.8, 0.95, most=999) == 999


@pytest.mark.parametrize(("successes", "trials"), [(-1, 2), (3, 2)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    for function in (binomial_lower, binomial_upper, wilson):
        with pytest.raises(ValueError, match="do not fit"):
            function(successes, trials, 0.95)


@pytest.mark.parametrize(("size", "gain", "loss"), [(60, 0.05, 0.1), (150, 0.02, 0.07)])
def test_the_paired_bound_is_missed_as_often_as_it_says(
    size: int, gain: float, loss: float
) -> None:
    generator = np.random.default_rng(4)
    drawn = generator.multinomial(size, [gain, loss, 1 - gain - loss], 1_000)
    missed = sum(
        paired_bounds(int(gained), int(lost), size, 0.95).low > gain - loss
        for gained, lost, _ in drawn
    )
    assert 0.03 < missed / 1_000 < 0.075


def test_no_difference_in_few_rows_proves_little() -> None:
    assert paired_bounds(0, 0, 0, 0.95) == Bounds(0.0, -1.0, 1.0)
    few, many = paired_bounds(0, 0, 20, 0.95), paired_bounds(0, 0, 200, 0.95)
    assert few.low < -0.1 < -0.02 < many.low < 0
    assert many.high == pytest.approx(-many.low)
    # Where no pair differs, the score equation has a closed form.
    assert few.low == pytest.approx(-(1.644854**2) / (20 + 1.644854**2), abs=1e-4)


@pytest.mark.parametrize(("gained", "lost", "trials"), [(3, 3, 5), (-1, 2, 5), (0, -1, 5)])
def test_impossible_pairs_are_refused(gained: int, lost: int, trials: int) -> None:
    with pytest.raises(ValueError, match=r"do not fit|no counts"):
        paired_bounds(gained, lost, trials, 0.95)
