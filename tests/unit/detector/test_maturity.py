from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hermes_apprentice.detector.maturity import (
    BEGINNING,
    DAY,
    first_asked,
    forecast,
    is_close,
    maturity,
    mean_cost,
    unformed,
    usual_turn,
)
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate, Pattern
from hermes_apprentice.domain.shape import FieldKind, FieldShape, Missing, Shape, ShapeKind
from hermes_apprentice.settings import DetectorSettings

SETTINGS = DetectorSettings()


@pytest.fixture
def pattern(make_candidate: Callable[..., Candidate]) -> Pattern:
    return make_candidate().pattern


def test_a_large_tight_stable_pattern_is_mature(pattern: Pattern) -> None:
    assert maturity(pattern, SETTINGS) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 13}, "13 of 14 exchanges"),
        ({"tightness": 0.49}, "tightness 0.49 of 0.50"),
        ({"runs_stable": 1}, "found in 1 of 2 runs"),
    ],
)
def test_what_a_pattern_lacks_is_said(
    pattern: Pattern, changes: dict[str, float], reason: str
) -> None:
    assert maturity(replace(pattern, **changes), SETTINGS) == (reason,)  # type: ignore[arg-type]


def test_answers_that_disagree_in_shape_are_no_pattern(pattern: Pattern) -> None:
    torn = replace(pattern, shape=replace(pattern.shape, agreement=0.7))

    assert unformed(torn, SETTINGS) == ("70% of the answers agree in shape, 80% are needed",)


def test_free_texts_must_be_tighter_and_objects_may_be_looser(pattern: Pattern) -> None:
    text = replace(pattern, tightness=0.55, shape=Shape(kind=ShapeKind.TEXT, agreement=1.0))
    objects = replace(text, tightness=0.45, shape=Shape(kind=ShapeKind.JSON, agreement=1.0))

    assert unformed(text, SETTINGS) == ("tightness 0.55 of 0.60",)
    assert unformed(objects, SETTINGS) == ()
    assert is_close(text, SETTINGS)
    assert is_close(objects, SETTINGS)
    assert not is_close(replace(text, tightness=0.45), SETTINGS)


def test_a_fixed_reply_needs_no_specialist(pattern: Pattern) -> None:
    constant = FieldShape(
        path="ok",
        kind=FieldKind.CONSTANT,
        missing=Missing.NEVER,
        presence=1.0,
        value_type="boolean",
        values=(True,),
    )
    one_label = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("done",))
    one_object = Shape(kind=ShapeKind.JSON, agreement=1.0, fields=(constant,))
    reason = ("every answer is the same, a fixed reply would do",)

    assert maturity(replace(pattern, shape=one_label), SETTINGS) == reason
    assert maturity(replace(pattern, shape=one_object), SETTINGS) == reason


def test_a_pattern_that_saves_nothing_is_not_proposed_and_one_without_price_is(
    pattern: Pattern,
) -> None:
    free = replace(pattern, forecast=replace(pattern.forecast, saved_per_month=0))
    unpriced = replace(free, forecast=replace(free.forecast, priced=False))

    assert maturity(free, SETTINGS) == ("it would save nothing",)
    assert maturity(unpriced, SETTINGS) == ()


def test_a_forecast_is_volume_times_coverage_times_cost() -> None:
    expected = forecast(60, 0.0, 30_000, 0.5, 10 * DAY)

    assert expected.requests_per_day == 6.0
    assert expected.saved_per_month == 6 * 30 * 15_000
    assert expected.priced


def test_a_time_before_there_was_hermes_does_not_stretch_the_history(
    make_exchange: Callable[..., Exchange],
) -> None:
    whole = make_exchange(asked_at=BEGINNING + 10 * DAY)
    broken = make_exchange(asked_at=0.0)
    assert first_asked([broken, whole], otherwise=1.0) == whole.asked_at
    assert first_asked([broken], otherwise=1.0) == 1.0


def test_a_burst_within_a_day_counts_as_one_day() -> None:
    assert forecast(60, 0.0, 1, 1.0, 60.0).requests_per_day == 60.0


def test_an_unknown_price_is_said_and_not_guessed() -> None:
    expected = forecast(60, 0.0, None, 0.5, DAY)

    assert (expected.priced, expected.cost_per_request, expected.saved_per_month) == (False, 0, 0)


def test_the_cost_of_a_request_needs_a_price_for_most_of_them(
    make_exchange: Callable[..., Exchange],
) -> None:
    exchanges = [make_exchange(model="known" if at < 3 else "new") for at in range(4)]

    def prices(model: str, prompt: int, completion: int) -> int | None:
        return prompt + completion if model == "known" else None

    assert mean_cost(exchanges, prices) == 12_008
    assert mean_cost(exchanges[2:], prices) == 12_008
    assert mean_cost(exchanges[3:], prices) is None
    assert mean_cost([], prices) is None


def test_a_turn_must_be_usual_to_be_trusted(make_exchange: Callable[..., Exchange]) -> None:
    turns = [0] * 90 + [1] * 6 + [2] * 4 + [40]

    assert usual_turn([make_exchange(turn_index=turn) for turn in turns]) == 1
    assert usual_turn([]) == 0
