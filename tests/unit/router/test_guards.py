from __future__ import annotations

import random

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.guards import (
    INCIDENT,
    WINDOW,
    Conduct,
    alarm,
    conduct,
    watch_corrections,
)
from hermes_apprentice.router.rollout import next_rollout, notice_of, progress
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.storage.conduct import Attempted, Reception

RULES = RolloutSettings()
NOW = 1_790_000_000.0
NOBODY = Reception()


def runs(*outcomes: str, every: float = 60.0, took_ms: float = 4.0) -> list[Attempted]:
    return [
        Attempted(number, NOW + every * number, outcome, took_ms)
        for number, outcome in enumerate(outcomes, start=1)
    ]


def judged(attempts: list[Attempted], reception: Reception = NOBODY) -> Conduct:
    return conduct(attempts, reception, RULES)


def taken_out(stage: Stage, found: Conduct) -> tuple[str, str]:
    before = Rollout(
        slug="label-ticket",
        version=3,
        stage=stage,
        share={Stage.SHADOW: 0.0, Stage.CANARY: 0.15, Stage.LIVE: 1.0}[stage],
        held=True,
        step_started_at=NOW,
        reason="",
    )
    after = next_rollout(before, progress(before, [], RULES), RULES, NOW, alarm(found, RULES))
    assert after is not None
    assert (after.stage, after.share) == (Stage.QUARANTINED, 0.0)
    notice = notice_of(before, after)
    assert notice is not None and len(notice.text) < 1_000
    return after.reason, notice.text


def test_a_specialist_that_keeps_failing_is_taken_out_with_a_reason() -> None:
    found = judged(runs(*["answered"] * 96, "error", "deadline", "invalid", "error"))
    reason, text = taken_out(Stage.LIVE, found)
    assert reason == (
        "it failed, timed out or gave an invalid answer in 4 of its last 100 runs, repeats within "
        "half a minute left out; 5% are allowed"
    )
    assert text == (
        f"'label-ticket' version 3 was taken out of service: {reason}. The upstream answers "
        "these requests again; train it anew, retire it, or put it into shadow again with "
        "'apprentice specialists resume label-ticket'."
    )


def test_a_specialist_that_is_slow_is_taken_out_with_a_reason() -> None:
    quick = runs(*["answered"] * 50)
    slow = [one._replace(at=one.at + 10_000, took_ms=1_200.0) for one in runs(*["answered"] * 5)]
    reason, text = taken_out(Stage.CANARY, judged(quick + slow))
    assert reason == (
        "it took longer than 1,000 ms in 5 of its last 55 runs, repeats within half a minute left "
        "out; 5% are allowed"
    )
    assert text.startswith(f"'label-ticket' version 3 was taken out of service: {reason}. ")


def test_a_specialist_that_users_correct_is_taken_out_with_a_reason() -> None:
    reception = Reception(served=(False,) * 40 + (True,) * 12, upstream=200, upstream_corrected=4)
    reason, text = taken_out(Stage.LIVE, judged([], reception))
    assert reason == (
        "12 of its last 52 answers were corrected, more than the upstream's to the same requests "
        "(at most 7%)"
    )
    assert text.startswith(f"'label-ticket' version 3 was taken out of service: {reason}. ")


def test_what_fails_in_shadow_is_not_said_to_have_served() -> None:
    reason, text = taken_out(Stage.SHADOW, judged(runs(*["error"] * 5)))
    assert text == (
        f"'label-ticket' version 3 will not be put into service: {reason}. It only ran beside the "
        "upstream, and none of its answers was sent; train it anew, retire it, or put it into "
        "shadow again with 'apprentice specialists resume label-ticket'."
    )


def test_one_bad_moment_of_the_machine_counts_once() -> None:
    burst = runs(*["deadline"] * 200, every=INCIDENT / 201)
    found = judged(runs(*["answered"] * 50) + burst)
    assert not found.failures.alarm
    assert judged(runs(*["deadline"] * 200, every=INCIDENT)).failures.alarm


def test_being_unsure_is_no_failure() -> None:
    found = judged(runs(*["confidence", "length"] * 200))
    assert (found.failures.events, alarm(found, RULES)) == (0, "")


@pytest.mark.parametrize(
    "reception",
    [
        NOBODY,
        Reception(served=(True,) * 200),
        Reception(served=(True, False, False, False) * 60, upstream=200, upstream_corrected=60),
    ],
    ids=["nothing read", "nothing to compare with", "the upstream is no better"],
)
def test_corrections_say_nothing_without_an_upstream_that_does_better(reception: Reception) -> None:
    assert not watch_corrections(reception).alarm


def test_corrections_ask_for_more_while_little_is_known_of_the_upstream() -> None:
    served = (True, False, False) * 15
    few = watch_corrections(Reception(served=served, upstream=10, upstream_corrected=0))
    many = watch_corrections(Reception(served=served, upstream=1_000, upstream_corrected=0))
    assert few.allowed > many.allowed
    assert many.alarm and not few.alarm


def test_a_specialist_at_the_edge_of_the_rule_is_rarely_taken_out() -> None:
    """The promise is 10,000 runs between two alarms; 8 times 500 runs may see one or two."""
    draw = random.Random(3)
    alarms = 0
    for _ in range(8):
        outcomes = [
            "error" if draw.random() < RULES.max_failures else "answered" for _ in range(500)
        ]
        attempts = runs(*outcomes)
        alarms += any(
            judged(attempts[: count + 1]).failures.alarm
            for count in range(len(attempts))
            if outcomes[count] == "error"
        )
    assert alarms <= 2


def test_only_the_latest_runs_count() -> None:
    found = judged(runs(*["error"] * 3, *["answered"] * WINDOW))
    assert (found.failures.events, found.failures.trials) == (0, WINDOW)
