from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.rollout import (
    ALERT,
    DRIFT_WINDOW,
    RUN_LENGTH,
    SHADOW_ALPHA,
    audit_share,
    drift_evidence,
    next_rollout,
    notice_of,
    progress,
)
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.storage.rollouts import Seen

RULES = RolloutSettings(min_step_comparisons=5, min_step_seconds=60)
NOW = 1_790_000_000.0


def rollout(stage: Stage = Stage.SHADOW, share: float = 0.0, **changes: object) -> Rollout:
    values: dict[str, object] = {
        "slug": "label-ticket",
        "version": 2,
        "stage": stage,
        "share": share,
        "held": False,
        "step_started_at": NOW - 3_600,
        "reason": "",
        **changes,
    }
    return Rollout(**values)  # type: ignore[arg-type]


def seen(*agreed: bool, at: float = NOW - 10) -> list[Seen]:
    return [
        Seen(comparison_id=number, at=at, agreed=one) for number, one in enumerate(agreed, start=1)
    ]


def moved(
    start: Rollout, history: list[Seen], rules: RolloutSettings = RULES, now: float = NOW
) -> Rollout | None:
    return next_rollout(start, progress(start, history, rules), rules, now)


def test_twenty_straight_agreements_open_the_canary_and_nineteen_do_not() -> None:
    assert moved(rollout(), seen(*[True] * 19)) is None
    after = moved(rollout(), seen(*[True] * 20))
    assert after is not None
    assert (after.stage, after.share) == (Stage.CANARY, RULES.steps[0])
    assert after.step_started_at == NOW
    assert "20 of 20" in after.reason


def test_shares_grow_step_by_step_and_end_live() -> None:
    place = rollout()
    shares = []
    history = seen(*[True] * 30, at=NOW + 1e9)
    while place.stage is not Stage.LIVE:
        after = moved(place, history)
        assert after is not None
        shares.append((after.stage, after.share))
        place = replace(after, step_started_at=NOW - 3_600)
    expected = [(Stage.CANARY, share) for share in RULES.steps if share < 1]
    assert shares == [*expected, (Stage.LIVE, 1.0)]
    assert moved(place, history) is None


def test_each_share_needs_new_comparisons_and_time_of_its_own() -> None:
    old = seen(*[True] * 100, at=NOW - 7_200)
    start = rollout(Stage.CANARY, 0.05)
    assert moved(start, old) is None
    assert moved(start, old + seen(*[True] * 4)) is None
    assert moved(start, old + seen(*[True] * 5)) is not None
    fresh = replace(start, step_started_at=NOW - 59)
    assert moved(fresh, old + seen(*[True] * 5)) is None


def test_the_operator_can_hold_a_specialist_and_switch_automatic_steps_off() -> None:
    history = seen(*[True] * 50)
    assert moved(rollout(held=True), history) is None
    by_hand = RULES.model_copy(update={"auto_advance": False})
    assert moved(rollout(), history, by_hand) is None


@pytest.mark.parametrize(
    "start",
    [rollout(), rollout(Stage.CANARY, 0.25), rollout(Stage.LIVE, 1.0), rollout(held=True)],
    ids=["shadow", "canary", "live", "held"],
)
def test_disagreement_takes_a_specialist_out_of_any_stage(start: Rollout) -> None:
    after = moved(start, seen(*[False] * 8))
    assert after is not None
    assert (after.stage, after.share) == (Stage.QUARANTINED, 0.0)
    quoted = "0 of 8" if start.stage is Stage.SHADOW else "0 of the last 8"
    assert quoted in after.reason


def test_a_fall_is_noticed_soon_even_after_a_long_good_time() -> None:
    live = rollout(Stage.LIVE, 1.0)
    good = [True] * 3_000
    assert moved(live, seen(*good)) is None
    fallen = next(count for count in range(1, 50) if moved(live, seen(*good, *[False] * count)))
    assert fallen <= 10


@pytest.mark.parametrize("stage", [Stage.QUARANTINED, Stage.RETIRED])
def test_what_is_out_of_service_stays_out(stage: Stage) -> None:
    assert moved(rollout(stage), seen(*[True] * 500)) is None
    assert moved(rollout(stage), seen(*[False] * 500)) is None


def test_at_exactly_the_target_few_specialists_are_ever_promoted() -> None:
    draw = random.Random(5)
    promoted = 0
    for _ in range(100):
        history: list[Seen] = []
        for _ in range(8):
            history += seen(*[draw.random() < RULES.target_agreement for _ in range(10)])
            after = moved(rollout(), history)
            if after is not None and after.stage is Stage.CANARY:
                promoted += 1
                break
    assert promoted <= 10


def test_a_specialist_above_the_target_is_not_taken_out() -> None:
    draw = random.Random(6)
    for _ in range(5):
        agreed = [draw.random() < 0.9 for _ in range(1_500)]
        highest = max(
            drift_evidence(agreed[:count], 0.8) for count in range(DRIFT_WINDOW, 1_500, 50)
        )
        assert highest < RUN_LENGTH


def test_nothing_compared_is_no_evidence_for_anything() -> None:
    found = progress(rollout(), [], RULES)
    assert (found.compared, found.evidence, found.lower, found.drift) == (0, 1.0, 0.0, 0.0)


def test_the_operator_hears_of_every_step_up_and_of_an_alarm() -> None:
    shadow, canary = rollout(), rollout(Stage.CANARY, 0.05)
    wider, live = rollout(Stage.CANARY, 0.15), rollout(Stage.LIVE, 1.0)
    assert notice_of(canary, canary) is None
    second = notice_of(canary, wider)
    assert second is not None and "now answers 15% of its requests, up from 5%" in second.text
    first, last = notice_of(shadow, canary), notice_of(wider, live)
    alarm = notice_of(live, rollout(Stage.QUARANTINED))
    assert first is not None and "5%" in first.text
    assert last is not None and "live" in last.text
    assert alarm is not None and "out of service" in alarm.text
    assert len({first.key, second.key, last.key, alarm.key}) == 4


def test_the_message_about_a_fall_quotes_what_fell() -> None:
    history = seen(*[True] * 300, *[False] * 12)
    after = moved(rollout(Stage.LIVE, 1.0), history)
    assert after is not None
    assert after.stage is Stage.QUARANTINED
    assert after.reason == (
        "agreement fell below 80%: 13 of the last 25 answers equal the upstream's"
    )


def test_a_specialist_that_never_served_is_not_said_to_be_taken_out() -> None:
    before = rollout()
    after = moved(before, seen(*[False] * 30))
    assert after is not None
    notice = notice_of(before, after)
    assert notice is not None
    assert "will not be put into service" in notice.text
    assert "taken out" not in notice.text and "requests again" not in notice.text


def test_a_live_specialist_is_audited_more_closely_while_it_may_have_fallen() -> None:
    live = rollout(Stage.LIVE, 1.0)
    doubtful = progress(live, seen(*[True] * 40, False, False), RULES)
    assert ALERT <= doubtful.drift < RUN_LENGTH
    assert audit_share(live, doubtful, RULES) == RULES.alert_audit_share
    cleared = progress(live, seen(*[True] * 40, False, False, *[True] * 40), RULES)
    assert audit_share(live, cleared, RULES) == RULES.audit_share
    assert audit_share(live, None, RULES) == RULES.audit_share
    assert audit_share(rollout(Stage.CANARY, 0.5), doubtful, RULES) == RULES.audit_share


def test_audits_that_are_switched_off_stay_off() -> None:
    live = rollout(Stage.LIVE, 1.0)
    doubtful = progress(live, seen(False, False, False), RULES)
    off = RULES.model_copy(update={"audit_share": 0.0})
    assert audit_share(live, doubtful, off) == 0.0
    already = RULES.model_copy(update={"audit_share": 0.5})
    assert audit_share(live, doubtful, already) == 0.5


def test_in_shadow_a_specialist_near_the_target_is_given_up_rarely() -> None:
    draw = random.Random(8)
    given_up = 0
    for _ in range(60):
        history = seen(*[draw.random() < RULES.target_agreement for _ in range(200)])
        given_up += any(
            progress(rollout(), history[:count], RULES).against >= 1 / SHADOW_ALPHA
            for count in range(5, 200, 20)
        )
    assert given_up <= 3  # 1 % is promised for all moments together


def test_no_step_is_taken_on_old_merits_after_a_fall() -> None:
    history = seen(*[True] * 300, *[False] * 12)
    found = progress(rollout(), history, RULES)
    assert found.evidence >= found.needed and found.drift >= RUN_LENGTH
    assert moved(rollout(), history) is None


def test_a_guardrails_alarm_counts_in_every_stage_and_names_its_reason() -> None:
    good = progress(rollout(), seen(*[True] * 50), RULES)
    for start in (rollout(), rollout(Stage.CANARY, 0.5), rollout(Stage.LIVE, 1.0, held=True)):
        after = next_rollout(start, good, RULES, NOW, "it keeps failing")
        assert after is not None
        assert (after.stage, after.reason) == (Stage.QUARANTINED, "it keeps failing")
    assert next_rollout(rollout(Stage.RETIRED), good, RULES, NOW, "it keeps failing") is None


def test_the_messages_about_a_fall_are_as_they_are_documented() -> None:
    way_out = (
        "train it anew, retire it, or put it into shadow again with "
        "'apprentice specialists resume label-ticket'."
    )
    for start, history, text in (
        (
            rollout(),
            seen(*[True, False, False] * 8),
            "'label-ticket' version 2 will not be put into service: agreement is below 80%: 8 of "
            "24 answers equal the upstream's. It only ran beside the upstream, and none of its "
            f"answers was sent; {way_out}",
        ),
        (
            rollout(Stage.LIVE, 1.0),
            seen(*[True] * 30, *[False] * 9),
            "'label-ticket' version 2 was taken out of service: agreement fell below 80%: 16 of "
            "the last 25 answers equal the upstream's. The upstream answers these requests again; "
            + way_out,
        ),
    ):
        after = moved(start, history)
        assert after is not None
        notice = notice_of(start, after)
        assert notice is not None
        assert notice.text == text and len(text) < 1_000
