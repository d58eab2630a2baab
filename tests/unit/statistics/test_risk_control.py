"""What the thresholds promise, counted in many drawings of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from hermes_apprentice.statistics.risk_control import (
    BACKGROUND,
    MARGIN,
    Bound,
    Thresholds,
    set_thresholds,
    upper_of_class,
)

RATE = 0.02
CONFIDENCE = 0.9


class Traffic:
    """Other traffic that comes close to each class as often as is stated, with normal scores."""

    def __init__(self, shares: tuple[float, ...], seed: int) -> None:
        self.shares = np.array(shares)
        self.generator = np.random.default_rng(seed)

    def others(self, count: int) -> np.ndarray:
        """Draw scores: each row is nearest to one class."""
        nearest = self.generator.choice(len(self.shares), count, p=self.shares)
        scores = np.full((count, len(self.shares)), -9.0)
        scores[np.arange(count), nearest] = 0.1 * self.generator.standard_normal(count)
        return scores

    def members(self, each: int) -> np.ndarray:
        """Draw scores of the classes' own rows, which overlap with the others'."""
        scores = np.full((each * len(self.shares), len(self.shares)), -9.0)
        labels = np.repeat(np.arange(len(self.shares)), each)
        scores[np.arange(len(labels)), labels] = 0.35 + 0.1 * self.generator.standard_normal(
            len(labels)
        )
        return scores

    def truth(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the true share of other traffic that each class takes."""
        return np.asarray(self.shares * special.ndtr(-thresholds / 0.1))


def drawn(
    traffic: Traffic, others: int, novel: np.ndarray | None = None, *, lower: float = 0.0
) -> Thresholds:
    """Set thresholds; without their near-copies, own rows score ``lower`` less."""
    own = traffic.members(40)
    scores = np.vstack([own, traffic.others(others)])
    labels = np.full(len(scores), BACKGROUND)
    labels[: len(own)] = np.repeat(np.arange(len(traffic.shares)), 40)
    given = np.empty((0, len(traffic.shares))) if novel is None else novel
    fresh = [scores[labels == k, k] - lower for k in range(len(traffic.shares))]
    return set_thresholds(scores, labels, given, fresh, rate=RATE, confidence=CONFIDENCE)


@pytest.mark.parametrize(
    ("others", "lower"), [(120, 0.0), (400, 0.0), (1_500, 0.0), (120, 9.0), (1_500, 9.0)]
)
def test_the_promise_over_all_classes_and_that_of_each_are_broken_as_seldom_as_stated(
    others: int, lower: float
) -> None:
    drawings, joint, each = 400, 0, np.zeros(3)
    for seed in range(drawings):
        traffic = Traffic((0.7, 0.25, 0.05), seed)
        found = drawn(traffic, others, lower=lower)
        truth = traffic.truth(found.values)
        assert found.bound.achieved
        joint += truth.sum() > RATE
        each += [truth[k] > found.bound.of(k, 0.0).upper for k in range(3)]
    # One in ten is allowed; three standard deviations above it would be 0.145.
    assert joint <= 0.145 * drawings
    assert (each <= 0.145 * drawings).all()
    assert joint > 0  # the traffic is hard enough for the promise to mean something


def test_the_bound_of_a_class_holds_at_a_level_chosen_in_the_worst_way() -> None:
    """Look at every level, and blame the one where the bound looks most too small."""
    trials, drawings, broken = 300, 1_000, 0
    uppers = np.array([upper_of_class(count, trials, 0.9) for count in range(trials)])
    for seed in range(drawings):
        # At the level just above the highest but c, so much of the traffic is really taken.
        shares = np.sort(np.random.default_rng(seed).random(trials))
        broken += bool((shares > uppers).any())
    naive = [
        special.betaincinv(count + 1, trials - count, 0.9) if count < trials else 1.0
        for count in range(trials)
    ]
    too_small = sum(
        bool((np.sort(np.random.default_rng(seed).random(trials)) > naive).any())
        for seed in range(200)
    )
    assert broken <= 0.13 * drawings
    assert too_small > 0.3 * 200  # the simple bound would not have held


def test_a_class_that_takes_most_false_routes_is_stopped_on_its_own() -> None:
    greedy, fair = (
        [drawn(Traffic(shares, seed), 3_000).bound for seed in range(20)]
        for shares in ((0.98, 0.01, 0.01), (0.34, 0.33, 0.33))
    )
    for bound in (*greedy, *fair):
        assert sum(bound.taken) == bound.false_routes
        assert all(upper_of_class(count, 3_000, CONFIDENCE) <= RATE for count in bound.taken)
    together = [sum(bound.taken) for bound in fair]
    assert np.mean(together) > np.mean([bound.taken[0] for bound in greedy])


def test_each_class_is_bounded_closer_than_all_of_them() -> None:
    bound = drawn(Traffic((0.4, 0.3, 0.3), 1), 3_000).bound
    uppers = [bound.of(k, 0.3).upper for k in range(3)]
    assert max(uppers) <= RATE == bound.upper
    assert min(uppers) < RATE


def test_where_little_is_known_the_bound_over_all_holds_for_each_or_nothing_does() -> None:
    just_enough = drawn(Traffic((0.4, 0.3, 0.3), 1), 120).bound
    assert just_enough.achieved
    assert upper_of_class(0, 120, CONFIDENCE) > RATE
    assert just_enough.of(0, 0.3).upper == RATE
    too_little = drawn(Traffic((0.4, 0.3, 0.3), 1), 60).bound
    assert not too_little.achieved
    found = too_little.of(0, 0.3)
    assert found.upper > RATE and not found.achieved
    assert "more than the 2% asked for" in found.in_words()


def test_near_copies_lower_the_own_floor_as_far_as_other_traffic_proves_the_rate() -> None:
    def threshold(others: int, lower: float) -> float:
        # Nothing comes near, so that the class's own floor is what counts.
        scores = np.concatenate([np.linspace(0.8, 1.0, 40), np.full(others, -9.0)])[:, None]
        labels = np.repeat([0, BACKGROUND], [40, others])
        fresh = [scores[:40, 0] - lower]
        none = np.empty((0, 1))
        found = set_thresholds(scores, labels, none, fresh, rate=RATE, confidence=CONFIDENCE)
        return float(found.values[0])

    assert threshold(1_500, 0.0) - threshold(1_500, 0.3) == pytest.approx(0.3)
    gains = [threshold(others, 0.0) - threshold(others, 0.3) for others in (0, 20, 60, 120)]
    assert gains[0] == pytest.approx(0.0)
    assert gains == sorted(gains) and gains[3] == pytest.approx(0.3)


def test_topics_that_are_new_only_ever_raise_a_threshold() -> None:
    traffic = Traffic((0.4, 0.3, 0.3), 1)
    before = drawn(traffic, 1_500)
    novel = Traffic((0.4, 0.3, 0.3), 2).others(500) + 0.1
    after = drawn(Traffic((0.4, 0.3, 0.3), 1), 1_500, novel)
    assert (after.values >= before.values).all()
    assert after.values.max() > before.values.max()
    assert after.bound.novel <= RATE


def test_a_bound_is_told_in_words() -> None:
    bound = Bound(
        rate=0.005,
        achieved=True,
        upper=0.005,
        confidence=0.95,
        background=3_250,
        false_routes=3,
        novel=0.004,
        taken=(0, 3),
        coverage=(0.9, 0.9),
        suspects=(),
    )
    said = bound.of(0, 0.41).in_words()
    assert said == "at most 0.11% false routes (95% sure; 0 of 3,250 other requests)"
    assert bound.of(1, 0.41).upper > bound.of(0, 0.41).upper
    assert "no other traffic" in drawn(Traffic((1.0,), 3), 0).bound.of(0, 0.5).in_words()


def test_the_margin_keeps_a_threshold_above_what_it_shuts_out() -> None:
    found = drawn(Traffic((0.4, 0.3, 0.3), 1), 1_500)
    assert found.bound.false_routes > 0
    assert MARGIN > np.finfo(np.float32).eps
