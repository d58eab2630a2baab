from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.routing import Rollout, in_canary
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.policy import decide
from hermes_apprentice.settings import child_environment


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


@given(
    session=st.text(max_size=40),
    slug=st.text("abcdefgh-", min_size=1, max_size=20),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)
def test_who_is_in_at_a_small_share_is_in_at_every_larger_one(
    session: str, slug: str, shares: list[float]
) -> None:
    inside = [in_canary(slug, session, share) for share in sorted(shares)]
    assert inside == sorted(inside)
    assert not in_canary(slug, session, 0.0) and in_canary(slug, session, 1.0)


def test_another_process_puts_every_session_on_the_same_side() -> None:
    program = (
        "from hermes_apprentice.domain.routing import in_canary\n"
        "print(''.join(str(int(in_canary('label-ticket', f's-{n}', 0.15))) for n in range(300)))"
    )
    sides = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=child_environment(PYTHONHASHSEED=seed),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = "".join(str(int(in_canary("label-ticket", f"s-{n}", 0.15))) for n in range(300))
    assert sides == {here}
    assert 20 < here.count("1") < 75


def test_what_is_asked_twice_is_drawn_apart_from_what_is_audited() -> None:
    shadow, live = rollout(Stage.SHADOW), rollout(Stage.LIVE, 1.0)
    plans = [decide(shadow, "s", f"r-{n}", 0.0, 0.1) for n in range(1_000)]
    assert 60 < sum(plan.repeat for plan in plans) < 150
    plans = [decide(live, "s", f"r-{n}", 0.5, 0.5) for n in range(1_000)]
    assert all(plan.audit for plan in plans if plan.repeat)
    assert 180 < sum(plan.repeat for plan in plans) < 320
    assert not any(decide(shadow, "s", f"r-{n}", 1.0).repeat for n in range(200))
