from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.router.token_bucket import TokenBucket

GAPS = st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=120)


@given(GAPS, st.integers(1, 600), st.integers(1, 20))
def test_no_span_lets_more_through_than_size_and_rate_allow(
    gaps: list[float], per_minute: int, size: int
) -> None:
    bucket, now, passed = TokenBucket(per_minute=per_minute, size=size), 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take(now) == 0:
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span = passed[last] - passed[first]
            assert last - first + 1 <= size + per_minute / 60 * span + 1e-6


@given(GAPS, st.integers(1, 600), st.integers(1, 20))
def test_whoever_waits_as_told_gets_through(gaps: list[float], per_minute: int, size: int) -> None:
    bucket, now = TokenBucket(per_minute=per_minute, size=size), 0.0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        assert 0 <= wait <= 60 / per_minute + 1e-6
        if wait:
            now += wait + 1e-6
            assert bucket.take(now) == 0


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50))
def test_a_clock_that_jumps_back_gives_nothing_away(times: list[float]) -> None:
    bucket, passed, forward, last = TokenBucket(per_minute=6, size=3), 0, 0.0, times[0]
    for now in times:
        forward += max(0.0, now - last)
        last = now
        passed += bucket.take(now) == 0
    assert passed <= 3 + forward * 6 / 60 + 1e-6


def test_it_starts_full_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(per_minute=60, size=2)
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, pytest.approx(1.0)]
    assert bucket.take(100.9) > 0
    assert bucket.take(101.1) == 0
