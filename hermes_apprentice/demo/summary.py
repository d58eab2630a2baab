"""What the demo showed, in figures. Pure: answers go in, figures come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hermes_apprentice.demo.request import Task
from hermes_apprentice.demo.traffic import Sent
from hermes_apprentice.domain.evaluation import agrees, f1
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.statistics.intervals import Bounds, clopper_pearson

LEARNED: dict[Task, ShapeKind] = {"order": ShapeKind.JSON, "ticket": ShapeKind.LABEL}
"""The tasks that a specialist should learn; everything else must be left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFigures:
    """How one task's held-out requests were answered."""

    task: Task
    """The task."""

    requests: int
    """Requests sent."""

    answered: int
    """Answered by the specialist."""

    exact: Bounds
    """Share of the specialist's answers that are right: whole JSON, or the label."""

    f1: float
    """Micro F1 over JSON leaves, or macro F1 over labels, of the specialist's answers."""

    specialist_ms: float
    """Median time to the last byte."""

    upstream_ms: float
    """The same where the upstream answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that was measured on held-out requests after both went live."""

    tasks: tuple[TaskFigures, ...]
    """One per learned task."""

    others: int
    """Requests that no specialist was trained for."""

    false_routes: Bounds
    """Share of those that a specialist answered all the same."""

    crossed: int
    """Requests of one learned task answered by the other's specialist."""

    routed: float
    """Share of all requests that specialists answered."""


def figures(sent: Sequence[Sent], slugs: dict[Task, str]) -> Figures:
    """Compare every answer with the truth.

    Args:
        sent: Held-out requests with their answers.
        slugs: The specialist of each learned task.
    """
    others = [one for one in sent if one.item.task not in LEARNED]
    wrong = sum(one.route == "specialist" for one in others)
    by_specialist = [one for one in sent if one.route == "specialist"]
    return Figures(
        tasks=tuple(
            _of_task(task, [one for one in sent if one.item.task == task], slugs.get(task, ""))
            for task in LEARNED
        ),
        others=len(others),
        false_routes=clopper_pearson(wrong, len(others)),
        crossed=sum(
            one.item.task in LEARNED and one.specialist != slugs.get(one.item.task)
            for one in by_specialist
        ),
        routed=len(by_specialist) / max(1, len(sent)),
    )


def _of_task(task: Task, sent: Sequence[Sent], slug: str) -> TaskFigures:
    shape = Shape(kind=LEARNED[task], agreement=1.0)
    mine = [one for one in sent if one.route == "specialist" and one.specialist == slug]
    theirs = [one for one in sent if one.route != "specialist"]
    right = sum(agrees(shape, one.text, one.item.answer) for one in mine)
    return TaskFigures(
        task=task,
        requests=len(sent),
        answered=len(mine),
        exact=clopper_pearson(right, len(mine)),
        f1=f1(shape, [one.text for one in mine], [one.item.answer for one in mine])
        if mine
        else 0.0,
        specialist_ms=_median_ms(mine),
        upstream_ms=_median_ms(theirs),
    )


def _median_ms(sent: Sequence[Sent]) -> float:
    return median(one.seconds for one in sent) * 1_000 if sent else float("nan")
