"""Choose the confidence below which a specialist must abstain.

Selective prediction (Geifman and El-Yaniv, "Selective classification for deep neural networks",
2017): answer the share of requests one is surest about, as large as the target allows. Eight
shares are compared, each by an exact binomial bound at an eighth of the error, so that the choice
among them is paid for (Bonferroni; Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then test",
2021). Where the data cannot prove the target for any share, the largest share whose shrunken
agreement reaches it is taken and marked as not proven: the gate then has the last word.

The predictions must come from models that had not seen the rows. Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hermes_apprentice.statistics.intervals import binomial_lower
from hermes_apprentice.validator.evaluate import Row

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the requests that are compared, largest first."""

NEVER = 2.0
"""A threshold that no confidence reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A threshold, and what is known about it."""

    threshold: float
    """Confidence below which the specialist abstains."""

    proven: bool
    """Whether the target is proven above it with the stated confidence."""

    target: float
    """The agreement it was chosen for."""

    rows: int
    """Predictions it was chosen on."""

    coverage: float
    """Share of them at or above it."""

    agreement: float
    """Agreement among those."""


def calibrate(
    rows: Sequence[Row], target: float, min_coverage: float, confidence: float
) -> Calibration:
    """Choose a threshold.

    Args:
        rows: Answers of models that had not seen these requests.
        target: Agreement wanted among what is answered.
        min_coverage: Least share worth answering; where the target is out of reach, the share
            with the best agreement among those above it is taken.
        confidence: Of the proof.
    """
    answered = [row for row in rows if row.text is not None]
    sure = np.sort([row.confidence for row in answered])[::-1]
    options = []
    for share in SHARES:
        kept = min(round(share * len(rows)), len(sure))
        if kept:
            options.append(_at(float(sure[kept - 1]), rows, target))
    if not options:
        return Calibration(
            threshold=NEVER, proven=False, target=target, rows=len(rows), coverage=0, agreement=0
        )
    for option in options:
        if _lower(option, 1 - (1 - confidence) / len(SHARES)) >= target:
            return replace(option, proven=True)
    for option in options:
        if _shrunken(option) >= target:
            return option
    wide = [option for option in options if option.coverage >= min_coverage]
    return max(wide or options[:1], key=_shrunken)


def _at(threshold: float, rows: Sequence[Row], target: float) -> Calibration:
    kept = [row for row in rows if row.text is not None and row.confidence >= threshold]
    return Calibration(
        threshold=threshold,
        proven=False,
        target=target,
        rows=len(rows),
        coverage=len(kept) / len(rows),
        agreement=sum(row.agrees for row in kept) / len(kept),
    )


def _counts(option: Calibration) -> tuple[int, int]:
    trials = round(option.coverage * option.rows)
    return round(option.agreement * trials), trials


def _lower(option: Calibration, confidence: float) -> float:
    return binomial_lower(*_counts(option), confidence)


def _shrunken(option: Calibration) -> float:
    """Return the agreement with one more success and one more failure, as Laplace would."""
    successes, trials = _counts(option)
    return (successes + 1) / (trials + 2)
