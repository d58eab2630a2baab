from __future__ import annotations

from dataclasses import replace

import pytest

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.stages import advance, hold, resume
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout

NOW = 1_790_000_000.0
SHADOW = Rollout(
    slug="label-ticket",
    version=2,
    stage=Stage.SHADOW,
    share=0.0,
    held=False,
    step_started_at=NOW - 60,
    reason="new",
)


@pytest.fixture
def pipeline(settings: Settings, database: Database) -> Pipeline:
    return open_pipeline(settings, database, clock=lambda: NOW)


def place(database: Database, rollout: Rollout) -> None:
    with database.transaction() as connection:
        save_rollout(connection, rollout, NOW)


def stored(database: Database) -> Rollout:
    with database.transaction() as connection:
        found = find_rollout(connection, "label-ticket")
    assert found is not None
    return found


def test_steps_by_hand_are_those_of_the_settings_up_to_live(
    pipeline: Pipeline, database: Database, settings: Settings
) -> None:
    place(database, SHADOW)
    for share in settings.rollout.steps:
        assert f"{share:.0%}" in advance(pipeline, "label-ticket", "by hand")
        found = stored(database)
        assert (found.share, found.step_started_at, found.reason) == (share, NOW, "by hand")
    assert stored(database).stage is Stage.LIVE
    with pytest.raises(ReplyError, match="live already"):
        advance(pipeline, "label-ticket", "by hand")


def test_a_step_by_hand_lifts_no_hold(pipeline: Pipeline, database: Database) -> None:
    place(database, SHADOW)
    hold(pipeline, "label-ticket")
    assert stored(database) == replace(SHADOW, held=True)
    assert "stays held" in advance(pipeline, "label-ticket", "by hand")
    assert stored(database).held
    resume(pipeline, "label-ticket", "by hand")
    assert not stored(database).held and stored(database).stage is Stage.CANARY


@pytest.mark.parametrize(("stage", "judged_from"), [(Stage.QUARANTINED, NOW), (Stage.RETIRED, 5.0)])
def test_another_chance_begins_in_shadow_and_only_an_alarm_is_forgotten(
    pipeline: Pipeline, database: Database, stage: Stage, judged_from: float
) -> None:
    place(database, replace(SHADOW, stage=stage, held=True, judged_from=5.0))
    with pytest.raises(ReplyError, match="resume label-ticket"):
        advance(pipeline, "label-ticket", "by hand")
    with pytest.raises(ReplyError, match="nothing to hold"):
        hold(pipeline, "label-ticket")
    assert "anew" in resume(pipeline, "label-ticket", "by hand")
    expected = replace(SHADOW, step_started_at=NOW, reason="by hand", judged_from=judged_from)
    assert stored(database) == expected


def test_an_unknown_name_is_a_clear_error(pipeline: Pipeline) -> None:
    for act in (
        lambda: advance(pipeline, "nobody", "by hand"),
        lambda: hold(pipeline, "nobody"),
        lambda: resume(pipeline, "nobody", "by hand"),
    ):
        with pytest.raises(ReplyError, match="no specialist 'nobody'"):
            act()
