from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.statistics.sequential import (
    confidence_lower,
    confidence_upper,
    evidence_above,
    evidence_below,
    rise_evidence,
)


def test_twenty_straight_agreements_are_needed_at_eighty_percent() -> None:
    assert evidence_above(19, 19, 0.8) < 20 <= evidence_above(20, 20, 0.8)


def test_evidence_starts_at_one() -> None:
    assert evidence_above(0, 0, 0.8) == pytest.approx(1)
    assert evidence_below(0, 0, 0.3) == pytest.approx(1)


@given(
    trials=st.integers(0, 300),
    share=st.floats(0, 1),
    target=st.floats(0.05, 0.95),
)
def test_at_the_target_the_evidence_is_a_martingale(
    trials: int, share: float, target: float
) -> None:
    successes = int(share * trials)
    now = evidence_above(successes, trials, target)
    after_success = evidence_above(successes + 1, trials + 1, target)
    after_failure = evidence_above(successes, trials + 1, target)
    expected = target * after_success + (1 - target) * after_failure
    assert expected == pytest.approx(now, rel=1e-6, abs=1e-12)


@given(trials=st.integers(0, 300), share=st.floats(0, 1), below=st.floats(0, 0.8))
def test_below_the_target_the_evidence_shrinks_in_expectation(
    trials: int, share: float, below: float
) -> None:
    successes = int(share * trials)
    expected = below * evidence_above(successes + 1, trials + 1, 0.8) + (
        1 - below
    ) * evidence_above(successes, trials + 1, 0.8)
    assert expected <= evidence_above(successes, trials, 0.8) * (1 + 1e-9)


@given(trials=st.integers(0, 200), share=st.floats(0, 1), target=st.floats(0.05, 0.95))
def test_evidence_below_is_the_mirror_of_evidence_above(
    trials: int, share: float, target: float
) -> None:
    successes = int(share * trials)
    assert evidence_below(successes, trials, target) == evidence_above(
        trials - successes, trials, 1 - target
    )


def test_at_most_five_percent_are_ever_promoted_at_exactly_the_target() -> None:
    generator = np.random.default_rng(11)
    horizon, people = 1_500, 1_000
    levels, enough = [], 1
    for trials in range(1, horizon + 1):  # what is enough only grows with the trials
        while enough <= trials and evidence_above(enough, trials, 0.8) < 20:
            enough += 1
        levels.append(enough)
    paths = (generator.random((people, horizon)) < 0.8).cumsum(axis=1)
    ever = (paths >= np.array(levels)).any(axis=1)
    assert 0.01 < ever.mean() <= 0.05


def test_a_good_specialist_is_shown_to_be_good_soon() -> None:
    generator = np.random.default_rng(12)
    taken = []
    for _ in range(200):
        successes = np.cumsum(generator.random(500) < 0.95)
        taken.append(
            next(n for n in range(1, 501) if evidence_above(int(successes[n - 1]), n, 0.8) >= 20)
        )
    assert 25 <= np.median(taken) <= 40


@given(trials=st.integers(0, 400), share=st.floats(0, 1), alpha=st.sampled_from([0.01, 0.05, 0.2]))
def test_the_bound_is_exactly_what_the_evidence_rules_out(
    trials: int, share: float, alpha: float
) -> None:
    successes = int(share * trials)
    bound = confidence_lower(successes, trials, alpha)
    assert 0 <= bound <= (successes / trials if trials else 0)
    if bound > 1e-6:
        assert evidence_above(successes, trials, bound * (1 - 1e-6)) >= 1 / alpha
        assert evidence_above(successes, trials, bound + 1e-6) < 1 / alpha


def test_bounds_close_in_on_the_rate_from_both_sides() -> None:
    widths = []
    for trials in (10, 100, 1_000, 10_000):
        successes = round(0.9 * trials)
        low, high = (
            bound(successes, trials, 0.05) for bound in (confidence_lower, confidence_upper)
        )
        assert low < 0.9 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.025


def test_large_counts_neither_overflow_nor_divide_by_zero() -> None:
    assert evidence_above(1_000_000, 1_000_000, 0.8) == math.inf
    assert evidence_above(500_000, 1_000_000, 0.8) == 0
    assert evidence_above(0, 1_000_000, 0.8) == 0


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        evidence_above(successes, trials, 0.8)


@pytest.mark.parametrize("target", [0, 1, -0.5, math.nan])
def test_impossible_targets_are_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target"):
        evidence_above(1, 2, target)


@pytest.mark.parametrize("alpha", [0, 1, math.nan])
def test_impossible_error_rates_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        confidence_lower(1, 2, alpha)


@given(events=st.lists(st.booleans(), max_size=60), rate=st.floats(0.02, 0.6))
def test_the_evidence_of_a_rise_grows_by_at_most_one_in_expectation(
    events: list[bool], rate: float
) -> None:
    now = rise_evidence(events, rate, 1_000)
    after = rate * rise_evidence([*events, True], rate, 1_000) + (1 - rate) * rise_evidence(
        [*events, False], rate, 1_000
    )
    assert after == pytest.approx(now + 1, rel=1e-6)
    assert rise_evidence(events, rate, 20) <= now * (1 + 1e-9)


def test_a_rise_is_noticed_after_a_long_quiet_time() -> None:
    quiet = [False] * 5_000
    assert rise_evidence(quiet, 0.05, 250) < 10
    assert rise_evidence([*quiet, *[True] * 4], 0.05, 250) > 10_000
    assert rise_evidence([], 0.05, 250) == 0


def test_alarms_of_a_rise_are_as_rare_as_promised() -> None:
    """At exactly the rate, 500 observations or more between two alarms at 500."""
    generator = np.random.default_rng(4)
    waited = []
    for _ in range(30):
        events: list[bool] = []
        while len(events) < 1_500:
            events.append(bool(generator.random() < 0.2))
            if events[-1] and rise_evidence(events, 0.2, 100) >= 500:
                break
        waited.append(len(events))
    assert np.mean(waited) >= 500


@given(events=st.lists(st.booleans(), max_size=80), rate=st.floats(0.01, 0.9))
def test_the_evidence_of_a_rise_is_the_sum_over_all_beginnings(
    events: list[bool], rate: float
) -> None:
    beginnings = [events[start:] for start in range(len(events))]
    expected = sum(evidence_above(sum(one), len(one), rate) for one in beginnings)
    assert rise_evidence(events, rate, 100) == pytest.approx(expected, rel=1e-9)


def test_overwhelming_evidence_of_a_rise_is_infinite_and_no_error() -> None:
    assert rise_evidence([True] * 900, 0.01, 900) == math.inf
    assert rise_evidence([False] * 9_000, 0.9, 9_000) >= 0
