from __future__ import annotations

from itertools import pairwise

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.policy import decide


def rollout(stage: Stage, share: float = 0.0) -> Rollout:
    return Rollout(
        slug="label-ticket",
        version=1,
        stage=stage,
        share=share,
        held=False,
        step_started_at=0.0,
        reason="",
    )


def answered(stage: Stage, share: float, count: int = 400) -> set[str]:
    sessions = [f"session-{number}" for number in range(count)]
    found = rollout(stage, share)
    return {session for session in sessions if decide(found, session, "r", 0.0).answer}


def test_in_shadow_the_specialist_never_answers_and_is_always_compared() -> None:
    plan = decide(rollout(Stage.SHADOW), "s", "r", 1.0)
    assert (plan.answer, plan.shadow, plan.audit) == (False, True, False)


def test_a_canary_answers_about_its_share_and_is_compared_on_the_rest() -> None:
    inside = answered(Stage.CANARY, 0.25)
    assert 60 < len(inside) < 140
    plans = [decide(rollout(Stage.CANARY, 0.25), f"session-{n}", "r", 0.0) for n in range(400)]
    assert all(plan.answer != plan.shadow for plan in plans)


def test_a_session_stays_where_it_is_while_the_share_grows() -> None:
    grown = [answered(Stage.CANARY, share) for share in (0.05, 0.15, 0.25, 0.5, 1.0)]
    assert all(small <= large for small, large in pairwise(grown))
    assert len(grown[-1]) == 400


@pytest.mark.parametrize("stage", [Stage.QUARANTINED, Stage.RETIRED])
def test_a_specialist_out_of_service_neither_answers_nor_runs(stage: Stage) -> None:
    plan = decide(rollout(stage, 1.0), "s", "r", 1.0)
    assert (plan.answer, plan.shadow, plan.audit) == (False, False, False)


def test_the_audited_share_of_live_answers_is_as_set_and_depends_on_the_request_alone() -> None:
    live = rollout(Stage.LIVE, 1.0)
    drawn = [decide(live, "s", f"request-{n}", 0.1).audit for n in range(2_000)]
    assert 140 < sum(drawn) < 270
    again = [decide(live, "other", f"request-{n}", 0.1).audit for n in range(2_000)]
    assert drawn == again
    assert not any(decide(live, "s", f"request-{n}", 0.0).audit for n in range(100))
    assert all(decide(live, "s", f"request-{n}", 1.0).audit for n in range(100))
