from __future__ import annotations

from email.utils import formatdate

import pytest

from hermes_apprentice.router.tier import LONGEST_WAIT, Tier, retry_after
from hermes_apprentice.settings import TierSettings

NOW = 1_790_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def tier(clock: Clock | None = None, **changes: object) -> Tier:
    values = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "SOME_KEY", **changes}
    clock = clock or Clock()
    return Tier("one", TierSettings.model_validate(values), None, clock, clock)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("-3", 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("nan", 0.0),
        ("inf", LONGEST_WAIT),
        ("99999999999999999999", LONGEST_WAIT),
        ("Mon, 99 Xyz 2026 99:99:99 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == pytest.approx(seconds, abs=1.0)


def test_a_wait_is_for_one_model_and_ends() -> None:
    clock = Clock()
    one = tier(clock)
    one.note(429, {"retry-after": "30"}, "a", renamed=False)
    assert (one.wait("a"), one.wait("b")) == (30.0, 0.0)
    clock.now += 31
    assert one.wait("a") == 0.0


def test_an_answer_ends_the_wait_and_other_errors_start_none() -> None:
    one = tier()
    one.note(503, {"retry-after": "30"}, "a", renamed=False)
    one.note(500, {"retry-after": "30"}, "b", renamed=False)
    one.note(429, {}, "c", renamed=False)
    assert [one.wait(name) for name in "abc"] == [30.0, 0.0, 0.0]
    one.note(200, {}, "a", renamed=False)
    assert one.wait("a") == 0.0


def test_waits_do_not_pile_up_whatever_models_clients_name() -> None:
    clock = Clock()
    one = tier(clock)
    for number in range(10_000):
        one.note(429, {"retry-after": "30"}, f"model-{number}", renamed=False)
    assert sum(one.wait(f"model-{number}") > 0 for number in range(10_000)) == 64
    clock.now += 31
    one.note(429, {"retry-after": "30"}, "later", renamed=False)
    assert one.wait("later") == 30.0


def test_a_names_map_goes_before_the_name_for_everything() -> None:
    one = tier(models={"big": "vendor/big"}, model="vendor/any")
    assert [one.model_for(name) for name in ("big", "other", "")] == [
        "vendor/big",
        "vendor/any",
        "vendor/any",
    ]
    assert tier().model_for("big") == "big"


@pytest.mark.parametrize(
    ("status", "renamed", "word"),
    [(401, False, "SOME_KEY"), (402, False, "credit"), (404, True, "vendor/typo")],
)
def test_what_the_operator_must_repair_is_a_problem_until_it_works(
    status: int, renamed: bool, word: str
) -> None:
    one = tier()
    one.note(status, {}, "vendor/typo", renamed=renamed)
    assert word in one.problem
    one.note(500, {}, "vendor/typo", renamed=renamed)
    assert word in one.problem  # an error says nothing about the key
    one.note(200, {}, "vendor/typo", renamed=renamed)
    assert one.problem == ""


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_what_a_client_asked_wrongly_is_no_problem_of_the_settings(status: int) -> None:
    one = tier()
    one.note(status, {}, "a", renamed=False)
    assert one.problem == ""


def test_a_clock_that_is_set_back_makes_no_pause_longer() -> None:
    wall, ticks = Clock(), Clock()
    one = Tier("one", TierSettings(base_url="http://127.0.0.1:9/v1"), None, wall, ticks)
    one.note(429, {"retry-after": "30"}, "big", renamed=False)
    wall.now -= 365 * 86_400
    ticks.now += 31
    assert one.wait("big") == 0.0
    one.note(429, {"retry-after": "30"}, "big", renamed=False)
    wall.now += 365 * 86_400
    assert one.wait("big") == 30.0
