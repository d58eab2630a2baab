"""From a dataset and a served artefact to a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.evaluation import Verdict
from hermes_apprentice.errors import EvaluationError
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.validator.baseline import Embed, Rival, nearest
from hermes_apprentice.validator.calibration import calibrate
from hermes_apprentice.validator.evaluate import (
    AnswerMany,
    Row,
    cross_fitted_rows,
    latency_p50_ms,
    served_rows,
)
from hermes_apprentice.validator.evidence import weigh
from hermes_apprentice.validator.gate import CONFIDENCE, LARGE_TEST, judge

_SEEN = 100
"""Training requests that the served artefact is asked again."""


Review = Callable[[Sequence[Row]], tuple[Row, ...]]
"""Gives rows back, some of them with another word on whether they agree."""


class Examination(NamedTuple):
    """A verdict with the rows behind it."""

    verdict: Verdict
    """The gate's answer."""

    rows: tuple[Row, ...]
    """Every judged row, those of the test split first."""


def validate(
    dataset: Dataset,
    answer_many: AnswerMany,
    out_of_fold: Path,
    settings: GateSettings,
    *,
    seed: int,
    size_bytes: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> Verdict:
    """Score a served artefact and return the gate's verdict; see `examine`."""
    return examine(
        dataset,
        answer_many,
        out_of_fold,
        settings,
        seed=seed,
        size_bytes=size_bytes,
        clock=clock,
    ).verdict


def examine(
    dataset: Dataset,
    answer_many: AnswerMany,
    out_of_fold: Path,
    settings: GateSettings,
    *,
    seed: int,
    size_bytes: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    rival: Rival | None = None,
    embed: Embed | None = None,
    served_by: str = "",
    review: Review | None = None,
) -> Examination:
    """Score a served artefact, and keep the rows for the report.

    The threshold is chosen on cross-fitted predictions, or on the served artefact's answers for
    the validation split where there are none. A test split below 50 examples is judged together
    with the cross-fitted predictions.

    Args:
        dataset: With its frozen test split.
        answer_many: The served artefact, abstaining from nothing.
        out_of_fold: The training run's cross-fitted predictions; may be missing.
        settings: The limits.
        seed: For the bootstrap and for choosing training requests.
        size_bytes: Of the artefact, for the scores.
        clock: Seconds.
        rival: The baseline; the best constant answer where there is none.
        embed: Finds the most similar known request; without it that comparison is left out.
        served_by: What the artefact was asked through, for the reasons; empty for the sidecar.
        review: Looks at every row once more, before anything is counted.

    Raises:
        EvaluationError: The dataset has no example to judge by, or predictions are damaged.
    """
    test = dataset.of(Split.TEST)
    known = (*dataset.of(Split.TRAIN), *dataset.of(Split.VALIDATION))
    if not known:
        raise EvaluationError("the dataset has no training example; build it again")
    look: Review = review or tuple

    def served(examples: Sequence[Example]) -> tuple[Row, ...]:
        return look(served_rows(dataset.shape, examples, answer_many))

    unseen = look(cross_fitted_rows(dataset.shape, known, out_of_fold))
    calibrating = unseen or served(dataset.of(Split.VALIDATION))
    calibration = calibrate(
        calibrating, settings.target_agreement, settings.min_coverage, CONFIDENCE
    )
    tested = served(test)
    pooled = len(test) < LARGE_TEST
    evidence = weigh(
        dataset.shape,
        test=tested,
        cross_fitted=unseen,
        pooled=pooled,
        seen=served(_some(dataset.of(Split.TRAIN), seed)),
        known=known,
        calibration=calibration,
        latency_ms=latency_p50_ms(test or known, answer_many, clock),
        size_bytes=size_bytes,
        seed=seed,
        rival=rival,
        cheaper=None if embed is None else nearest(known, embed),
    )
    verdict = judge(evidence, settings)
    if served_by:
        said = f"It was asked through {served_by}, as it would be when serving."
        verdict = replace(verdict, reasons=(*verdict.reasons, said))
    return Examination(verdict, (*tested, *(unseen if pooled else ())))


def _some(examples: tuple[Example, ...], seed: int) -> list[Example]:
    order = np.random.default_rng(seed).permutation(len(examples))[:_SEEN]
    return [examples[index] for index in sorted(order)]
