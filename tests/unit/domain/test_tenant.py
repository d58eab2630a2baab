from __future__ import annotations

import hashlib
import random
import secrets
from dataclasses import astuple, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.tenant import (
    Limits,
    Use,
    checked_limits,
    checked_name,
    key_id_of,
    new_key,
    periods_at,
    proves,
    reached,
    with_changes,
)
from hermes_apprentice.errors import TenantError

NOW = 1_790_000_000.0
EVERYTHING = Limits(
    per_minute=60,
    burst=5,
    daily_requests=10,
    monthly_requests=100,
    daily_tokens=1_000,
    monthly_tokens=10_000,
    monthly_budget=5_000_000,
)


def test_a_key_proves_itself_and_its_digest_does_not_hold_it() -> None:
    key = new_key(secrets.token_bytes)
    assert key_id_of(key.text) == key.key_id
    assert proves(key.text, key.digest)
    assert key.digest == hashlib.sha256(key.text.encode()).digest()
    assert key.text.rpartition("-")[2] not in repr(key.digest.hex())


def test_keys_differ_in_256_random_bits() -> None:
    keys = {new_key(secrets.token_bytes).text for _ in range(200)}
    assert len({key.rpartition("-")[2] for key in keys}) == 200
    assert {len(key) for key in keys} == {3 + 10 + 1 + 64}


@given(st.text())
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    key = new_key(random.Random(1).randbytes)
    assert key_id_of(text) is None
    assert not proves(text, key.digest)
    assert not proves(text, None)


@given(
    st.integers(0, 77),
    st.characters() | st.just(""),
    st.sampled_from(["replace", "insert"]),
)
def test_a_key_with_any_character_changed_proves_nothing(
    place: int, character: str, how: str
) -> None:
    key = new_key(random.Random(2).randbytes)
    rest = place + 1 if how == "replace" else place
    changed = key.text[:place] + character + key.text[rest:]
    if changed != key.text:
        assert not proves(changed, key.digest)


@pytest.mark.parametrize(
    "text", ["", "ap-", "ap-" + "0" * 10 + "-", " " * 10**6, "ap-\n", "\ud800"]
)
def test_what_only_begins_like_a_key_is_none(text: str) -> None:
    assert key_id_of(text) is None
    assert not proves(text, bytes(32))


def test_a_key_followed_by_a_line_end_is_none() -> None:
    key = new_key(secrets.token_bytes)
    assert key_id_of(key.text + "\n") is None


def test_nobodys_digest_is_proven_by_nothing() -> None:
    assert not proves("", None)
    assert not proves("ap-0", None)


@pytest.mark.parametrize("name", ["a", "ann", "team-7", "0", "a" * 32])
def test_names_that_fit(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Ann", "a b", "-a", "a-", "a" * 33, "ü", "a_b", "a\n", "../x", "a,b"]
)
def test_names_that_do_not_fit(name: str) -> None:
    with pytest.raises(TenantError, match="cannot name a tenant"):
        checked_name(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"per_minute": 0},
        {"burst": 0},
        {"burst": 3, "per_minute": None},
        {"daily_requests": -1},
        {"monthly_budget": 2**60},
        {"monthly_tokens": True},
        {"daily_tokens": 1.5},
    ],
)
def test_limits_that_make_no_sense(changes: dict[str, int | None]) -> None:
    with pytest.raises(TenantError):
        checked_limits(replace(EVERYTHING, **changes))


def test_a_change_leaves_what_it_does_not_name() -> None:
    changed = with_changes(EVERYTHING, {"daily_requests": 20, "burst": None}, ["monthly_budget"])
    assert changed == replace(EVERYTHING, daily_requests=20, monthly_budget=None)
    with pytest.raises(TenantError, match="known: per-minute"):
        with_changes(EVERYTHING, {}, ["rate"])
    with pytest.raises(TenantError, match="burst"):
        with_changes(EVERYTHING, {}, ["per_minute"])


@pytest.mark.parametrize(
    ("limits", "counted", "metered", "bucket"),
    [
        (Limits(), False, False, 1),
        (Limits(per_minute=60), False, False, 15),
        (Limits(per_minute=2), False, False, 1),
        (Limits(per_minute=60, burst=2), False, False, 2),
        (Limits(monthly_requests=0), True, False, 1),
        (Limits(daily_tokens=0), True, True, 1),
        (Limits(monthly_budget=0), True, True, 1),
    ],
)
def test_what_has_to_be_counted(limits: Limits, counted: bool, metered: bool, bucket: int) -> None:
    assert (limits.counted, limits.metered, limits.bucket) == (counted, metered, bucket)


def test_a_limit_of_nothing_lets_nothing_through() -> None:
    over = reached(Limits(monthly_budget=0), Use(), Use(), periods_at(NOW))
    assert over is not None and over.what == "budget of this month"


@given(st.builds(Use, *[st.integers(0, 20)] * 3), st.builds(Use, *[st.integers(0, 20)] * 3))
def test_room_is_exactly_below_every_limit(day: Use, month: Use) -> None:
    limits = Limits(
        daily_requests=10,
        monthly_requests=12,
        daily_tokens=9,
        monthly_tokens=13,
        monthly_budget=11,
    )
    free = (
        day.requests < 10
        and month.requests < 12
        and day.tokens < 9
        and month.tokens < 13
        and month.cost < 11
    )
    periods = periods_at(NOW)
    over = reached(limits, day, month, periods)
    assert (over is None) == free
    if over is not None:
        assert over.until == (periods.day_ends if "day" in over.what else periods.month_ends)


@given(st.builds(Use, *[st.integers(0, 99)] * 3), st.builds(Use, *[st.integers(0, 99)] * 3))
def test_uses_add_up(one: Use, other: Use) -> None:
    expected = tuple(a + b for a, b in zip(astuple(one), astuple(other), strict=True))
    assert astuple(one.plus(other)) == expected


@given(st.floats(0, 4_000_000_000, allow_nan=False))
def test_a_moment_lies_in_its_day_and_month(now: float) -> None:
    found = periods_at(now)
    moment = datetime.fromtimestamp(now, UTC)
    assert found.day.startswith(found.month) and found.day == moment.strftime("%Y-%m-%d")
    assert now < found.day_ends <= now + 86_400
    assert periods_at(found.day_ends).day != found.day
    last = datetime.fromtimestamp(found.month_ends - 1, UTC)
    assert last.strftime("%Y-%m") == found.month
    assert datetime.fromtimestamp(found.month_ends, UTC).day == 1


def test_december_ends_in_january() -> None:
    new_year = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert periods_at(new_year - 1).month_ends == new_year
