from __future__ import annotations

from typing import Any

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.pipeline.views import SpecialistDetails, SpecialistView
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.storage.conduct import SelfAgreement

SPECIALIST = Specialist(
    slug="label-ticket",
    pattern_id="p1",
    candidate_id="gc-7f3a",
    kind=Kind.CLASSIFIER,
    step=Step.REGISTERED,
    reason="",
    run_id="run-1",
    version=3,
    updated_at=1.0,
)
ROLLOUT = Rollout(
    slug="label-ticket",
    version=3,
    stage=Stage.CANARY,
    share=0.15,
    held=True,
    step_started_at=1.0,
    reason="",
)


def details(
    rollout: Rollout | None, upstream: SelfAgreement | None, **changes: Any
) -> SpecialistDetails:
    view = SpecialistView(specialist=SPECIALIST, rollout=rollout, compared=43, agreed=41)
    values: dict[str, Any] = {"runs": 0, "failed_runs": 0, "merge": ""} | changes
    return SpecialistDetails(view=view, report="", target=0.8, self_agreement=upstream, **values)


def test_the_upstreams_agreement_with_itself_stands_beside_the_target() -> None:
    upstream = SelfAgreement(model="big-one", asked=20, compared=20, agreed=19)
    assert details(ROLLOUT, upstream).in_words().splitlines() == [
        "Version 3: canary at 15%, held.",
        "41 of 43 compared answers equal the upstream's; the target is 80%.",
        "The upstream (big-one) agrees with itself on 19 of 20 requests that it was asked twice: "
        "between 71% and 100%.",
    ]


def test_what_is_not_registered_and_not_measured_says_so() -> None:
    first, _, last = details(None, None).in_words().splitlines()
    assert first == "It is not registered."
    assert "not measured yet" in last


def test_what_is_proven_about_false_routes_is_told_where_a_matcher_knows_it() -> None:
    bound = ClassBound(
        threshold=0.412, rate=0.005, upper=0.0011, confidence=0.95, background=3_250, false_routes=0
    )
    assert (
        "Matched from a score of 0.412 on: at most 0.11% false routes (95% sure; "
        "0 of 3,250 other requests)."
    ) in details(ROLLOUT, None, matching=bound).in_words().splitlines()
    assert "Matched" not in details(ROLLOUT, None).in_words()


def test_runs_and_a_merge_are_told_where_there_are_any() -> None:
    merge = "mp-1a2b, 'a' and 'b' into 'c', proposed"
    lines = details(ROLLOUT, None, runs=40, failed_runs=2, merge=merge).in_words().splitlines()
    assert lines[2] == "2 of 40 runs failed, timed out or gave an invalid answer."
    assert lines[-1] == f"Merge: {merge}."
