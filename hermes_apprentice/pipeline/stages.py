"""What the operator does to a rollout by hand: one step further, a stop, another chance.

The sidecars read the new place within a second, and take no step from the old one.
``demote`` and ``rollback`` are the pipeline's own. Knows nothing about evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hermes_apprentice.domain.routing import Rollout, step_after
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import ReplyError
from hermes_apprentice.storage.rollouts import find_rollout, save_rollout
from hermes_apprentice.storage.specialists import find_specialist

if TYPE_CHECKING:
    from hermes_apprentice.pipeline.loop import Pipeline

_MOVING = (Stage.SHADOW, Stage.CANARY)


def advance(pipeline: Pipeline, slug: str, reason: str) -> str:
    """Take a specialist's next step now, whatever the evidence; returns what to tell.

    Alarms still take it out.

    Raises:
        ReplyError: There is no such specialist, or no step that it could take.
    """
    steps = pipeline.shop.settings.rollout.steps

    def further(before: Rollout, now: float) -> Rollout:
        if before.stage is Stage.LIVE:
            raise ReplyError(f"'{slug}' is live already; there is no step after that.")
        if before.stage not in _MOVING:
            raise ReplyError(
                f"'{slug}' is {before.stage}; `apprentice specialists resume {slug}` puts it "
                "into shadow again, and steps go on from there."
            )
        stage, share = step_after(before, steps)
        return replace(before, stage=stage, share=share, step_started_at=now, reason=reason)

    after = _change(pipeline, slug, further)
    pipeline.sync_skills()
    held = " It stays held." if after.held else ""
    return f"'{slug}' now answers {after.share:.0%} of its requests ({after.stage}).{held}"


def hold(pipeline: Pipeline, slug: str) -> str:
    """Stop automatic steps, until they are resumed; returns what to tell.

    Raises:
        ReplyError: There is no such specialist, or it is out of service.
    """

    def stopped(before: Rollout, now: float) -> Rollout:
        if before.stage not in (*_MOVING, Stage.LIVE):
            raise ReplyError(f"'{slug}' is {before.stage}; there is nothing to hold.")
        return replace(before, held=True)

    after = _change(pipeline, slug, stopped)
    return (
        f"'{slug}' stays at {after.share:.0%} ({after.stage}) until "
        f"`apprentice specialists resume {slug}`. An alarm still takes it out."
    )


def resume(pipeline: Pipeline, slug: str, reason: str) -> str:
    """Let steps be taken again; what was taken out gets another chance, in shadow.

    A quarantined version is judged by what it does from now on, because what it did before would
    take it out again at once.

    Raises:
        ReplyError: There is no such specialist.
    """
    with pipeline.shop.database.transaction() as connection:
        specialist = find_specialist(connection, slug)
    removed = specialist is not None and specialist.version is None

    def again(before: Rollout, now: float) -> Rollout:
        if before.stage in (*_MOVING, Stage.LIVE):
            return replace(before, held=False)
        if removed:
            raise ReplyError(
                f"Version {before.version} of '{slug}' was removed; train another one with: "
                f"apprentice tick --retry {slug}"
            )
        return replace(
            before,
            stage=Stage.SHADOW,
            share=0.0,
            held=False,
            step_started_at=now,
            reason=reason,
            judged_from=now if before.stage is Stage.QUARANTINED else before.judged_from,
        )

    after = _change(pipeline, slug, again)
    if after.stage is Stage.SHADOW and after.reason == reason:
        return f"'{slug}' runs beside the upstream again and has to earn its traffic anew."
    return f"'{slug}' is at {after.share:.0%} ({after.stage}) and takes its steps by itself."


def _change(pipeline: Pipeline, slug: str, change: Callable[[Rollout, float], Rollout]) -> Rollout:
    now = pipeline.shop.clock()
    with pipeline.shop.database.transaction() as connection:
        before = find_rollout(connection, slug)
        if before is None:
            raise ReplyError(
                f"There is no specialist '{slug}' in service; `apprentice specialists` lists them."
            )
        after = change(before, now)
        save_rollout(connection, after, now)
    return after
