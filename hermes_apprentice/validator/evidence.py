"""What the gate is given: scores with their counts, ready to be judged.

Pure: rows go in, numbers come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import Interval, Scores, f1, mean_rouge_l
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.statistics.intervals import (
    Bounds,
    clopper_pearson,
    paired_bootstrap,
)
from hermes_apprentice.validator import baseline
from hermes_apprentice.validator.baseline import Rival
from hermes_apprentice.validator.calibration import Calibration
from hermes_apprentice.validator.evaluate import Row, split_digest
from hermes_apprentice.validator.resampling import f1_of_rows

BOOTSTRAP_ROUNDS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Successes among trials."""

    successes: int
    """How often it held."""

    trials: int
    """How often it was looked at."""

    @property
    def share(self) -> float:
        """Successes per trial, 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a verdict depends on."""

    scores: Scores
    """The figures for people, on all judged rows."""

    calibration: Calibration
    """How the threshold was chosen."""

    test_rows: int
    """Judged rows of the frozen test split, answered by the served artefact."""

    cross_fitted_rows: int
    """Judged rows that a model trained without them answered; 0 with a large test split."""

    answered: Count
    """Judged rows at or above the threshold."""

    agreed: Count
    """Of those, the ones that agree with the upstream."""

    invalid: Count
    """Answers of the served artefact that could not be sent."""

    agreed_in_test: Count
    """Agreement above the threshold on the test split alone."""

    agreed_when_seen: Count
    """Agreement above the threshold on requests that the served artefact was trained on."""

    worse_when_seen: Count
    """Of those requests, the ones that only one of two answered rightly and surely, the served
    artefact or a model trained without the request; successes are those where it was the latter."""

    useful_cross_fitted: Count
    """Right and sure answers among all cross-fitted predictions."""

    useful_in_test: Count
    """Right and sure answers of the served artefact on the test split."""

    over_cheaper: Bounds | None = None
    """F1 beyond that of a cheaper way to answer, with its paired bootstrap interval."""


def weigh(
    shape: Shape,
    *,
    test: Sequence[Row],
    cross_fitted: Sequence[Row],
    pooled: bool,
    seen: Sequence[Row],
    known: Sequence[Example],
    calibration: Calibration,
    latency_ms: float,
    size_bytes: int,
    seed: int,
    rival: Rival | None = None,
    cheaper: Rival | None = None,
) -> Evidence:
    """Count and score.

    Args:
        shape: Of the pattern's answers.
        test: The served artefact on the frozen test split.
        cross_fitted: Predictions of models that had not seen the rows.
        pooled: Whether those are judged together with the test split.
        seen: The served artefact on some of its training requests.
        known: Training and validation examples, for the best constant answer.
        calibration: The threshold.
        latency_ms: Median time of one answer.
        size_bytes: Of the artefact.
        seed: For the bootstrap.
        rival: The baseline; the best constant answer where there is none.
        cheaper: A cheaper way to answer that must not do better.
    """
    judged = [*test, *(cross_fitted if pooled else ())]
    threshold = calibration.threshold
    answered = [row for row in judged if _answered(row, threshold)]
    agreed = Count(successes=sum(row.agrees for row in answered), trials=len(answered))
    invalid = Count(successes=sum(row.text is None for row in judged), trials=len(judged))
    references = [row.example.answer for row in judged]
    texts = [row.text for row in judged]
    if rival is None:
        constant = baseline.best_constant(shape, [example.answer for example in known])
        rival = Rival(baseline.NAME, lambda examples: [constant] * len(examples))
    examples = [row.example for row in judged]
    given = list(rival.answer(examples))

    def gain(over: Sequence[str | None]) -> Bounds:
        if not judged:
            return Bounds(0.0, -1.0, 1.0)
        mine = f1_of_rows(shape, texts, references)
        theirs = f1_of_rows(shape, over, references)
        return paired_bootstrap(
            lambda rows: mine(rows) - theirs(rows),
            len(judged),
            seed=seed,
            rounds=BOOTSTRAP_ROUNDS,
        )

    repeated = None if cheaper is None else list(cheaper.answer(examples))
    total = sum(row.agrees for row in judged)
    return Evidence(
        scores=Scores(
            test_digest=split_digest(examples),
            examples=len(judged),
            agreement=_interval(clopper_pearson(total, len(judged))),
            f1=f1(shape, texts, references),
            baseline_f1=f1(shape, given, references),
            f1_gain=_interval(gain(given)),
            baseline=rival.name,
            coverage=len(answered) / len(judged) if judged else 0.0,
            selective_agreement=_interval(clopper_pearson(agreed.successes, agreed.trials)),
            invalid=invalid.share,
            latency_p50_ms=latency_ms,
            size_bytes=size_bytes,
            others=()
            if cheaper is None or repeated is None
            else ((cheaper.name, f1(shape, repeated, references)),),
            rouge_l=mean_rouge_l(shape, texts, references),
        ),
        calibration=calibration,
        test_rows=len(test),
        cross_fitted_rows=len(judged) - len(test),
        answered=Count(successes=len(answered), trials=len(judged)),
        agreed=agreed,
        invalid=invalid,
        agreed_in_test=_agreement(test, threshold),
        agreed_when_seen=_agreement(seen, threshold),
        worse_when_seen=_worse(seen, cross_fitted, threshold),
        useful_cross_fitted=_useful(cross_fitted, threshold),
        useful_in_test=_useful(test, threshold),
        over_cheaper=None if repeated is None else gain(repeated),
    )


def _answered(row: Row, threshold: float) -> bool:
    return row.text is not None and row.confidence >= threshold


def _agreement(rows: Sequence[Row], threshold: float) -> Count:
    answered = [row for row in rows if _answered(row, threshold)]
    return Count(successes=sum(row.agrees for row in answered), trials=len(answered))


def _is_useful(row: Row, threshold: float) -> bool:
    return row.agrees and _answered(row, threshold)


def _useful(rows: Sequence[Row], threshold: float) -> Count:
    return Count(successes=sum(_is_useful(row, threshold) for row in rows), trials=len(rows))


def _worse(seen: Sequence[Row], cross_fitted: Sequence[Row], threshold: float) -> Count:
    others = {row.example.example_id: _is_useful(row, threshold) for row in cross_fitted}
    differing = [
        others[row.example.example_id]
        for row in seen
        if row.example.example_id in others
        and others[row.example.example_id] != _is_useful(row, threshold)
    ]
    return Count(successes=sum(differing), trials=len(differing))


def _interval(bounds: Bounds) -> Interval:
    return Interval(value=bounds.value, low=bounds.low, high=bounds.high)
