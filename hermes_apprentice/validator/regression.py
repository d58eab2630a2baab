"""Is a specialist no worse than the one whose place it would take?

Both answer the same requests, those that the older one was judged on, and only
rows where they differ count. No worse means: it is proven that at most a few
more requests in a hundred lose a right answer, and that at most a few more get
a wrong one. Knows nothing about where the two come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.statistics.intervals import Bounds, paired_bounds
from hermes_apprentice.validator.evaluate import AnswerMany, Row, cross_fitted_rows, served_rows
from hermes_apprentice.validator.gate import CONFIDENCE, LARGE_TEST, Check, worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One of the two."""

    name: str
    """What the operator knows it by."""

    dataset: Dataset
    """What it was trained and judged on."""

    answer_many: AnswerMany
    """The artefact that is or would be served, abstaining from nothing."""

    out_of_fold: Path
    """Its training run's cross-fitted predictions; may be missing."""

    threshold: float
    """Confidence below which it abstains."""


class Contrast(NamedTuple):
    """How often something held for the one and for the other, on the same requests."""

    old: int
    """For the older."""

    new: int
    """For the newer."""

    only_new: int
    """For the newer alone."""

    only_old: int
    """For the older alone."""


class Paired(NamedTuple):
    """What two contenders made of the same requests."""

    rows: int
    """Requests."""

    tested: int
    """Of those, the ones of the frozen test split."""

    right: Contrast
    """Sure answers that equal the upstream's."""

    wrong: Contrast
    """Sure answers that do not."""


def regress(new: Contender, old: Contender, settings: GateSettings) -> list[Check]:
    """Return whether the newer is no worse than the older on what that was judged on.

    A frozen test split below 50 examples is judged together with the predictions that both
    training runs made for the same examples without having seen them.

    Raises:
        EvaluationError: A contender does not answer, or its predictions are damaged.
    """
    paired = pair(new, old)
    return [_right(paired, old.name, settings), _wrong(paired, old.name, settings)]


def with_checks(verdict: Verdict, checks: Sequence[Check]) -> Verdict:
    """Return a verdict that holds only if these checks pass as well."""
    if not checks:
        return verdict
    outcome = worst([verdict.outcome, *(one.outcome for one in checks)])
    own = list(verdict.reasons)
    added = [one.reason for one in checks]
    decisive = [one.reason for one in checks if one.outcome is outcome]
    if outcome is Outcome.PASSED:
        reasons = [own[0], *added, *own[1:]]
    elif verdict.outcome is outcome:
        reasons = [*own, *added]
    else:
        reasons = [*decisive, *(one for one in added if one not in decisive), *own]
    return replace(verdict, outcome=outcome, reasons=tuple(reasons))


def pair(new: Contender, old: Contender) -> Paired:
    """Let both answer the same requests, and count."""
    test = old.dataset.of(Split.TEST)
    olds = list(served_rows(old.dataset.shape, test, old.answer_many))
    news = list(served_rows(new.dataset.shape, test, new.answer_many))
    tested = len(test)
    if tested < LARGE_TEST:
        before, after = _unseen(old), _unseen(new)
        shared = [
            name
            for name in before
            if name in after and before[name].example.request == after[name].example.request
        ]
        olds += [before[name] for name in shared]
        news += [after[name] for name in shared]
    right = _contrast(olds, news, old, new, lambda row: row.agrees)
    wrong = _contrast(olds, news, old, new, lambda row: not row.agrees)
    return Paired(rows=len(olds), tested=tested, right=right, wrong=wrong)


def _unseen(one: Contender) -> dict[str, Row]:
    known = (*one.dataset.of(Split.TRAIN), *one.dataset.of(Split.VALIDATION))
    rows = cross_fitted_rows(one.dataset.shape, known, one.out_of_fold)
    return {row.example.example_id: row for row in rows}


def _contrast(
    olds: Sequence[Row],
    news: Sequence[Row],
    old: Contender,
    new: Contender,
    counts: Callable[[Row], bool],
) -> Contrast:
    """Count what holds for answers that the two would send."""

    def holds(row: Row, one: Contender) -> bool:
        return row.text is not None and row.confidence >= one.threshold and counts(row)

    both = [
        (holds(before, old), holds(after, new)) for before, after in zip(olds, news, strict=True)
    ]
    return Contrast(
        old=sum(before for before, _ in both),
        new=sum(after for _, after in both),
        only_new=sum(after and not before for before, after in both),
        only_old=sum(before and not after for before, after in both),
    )


def _right(paired: Paired, name: str, settings: GateSettings) -> Check:
    right = paired.right
    return _judged(
        paired,
        paired_bounds(right.only_new, right.only_old, paired.rows, CONFIDENCE),
        f"Right and sure on the {_requests(paired)} of '{name}': {right.new} against {right.old}",
        settings.regression_margin,
    )


def _wrong(paired: Paired, name: str, settings: GateSettings) -> Check:
    wrong = paired.wrong
    return _judged(
        paired,
        paired_bounds(wrong.only_old, wrong.only_new, paired.rows, CONFIDENCE),
        f"Wrong and sure on those of '{name}': {wrong.new} against {wrong.old}",
        settings.regression_margin / 2,
    )


def _judged(paired: Paired, change: Bounds, what: str, margin: float) -> Check:
    """Judge a change for the better (above 0) or for the worse."""
    reason = (
        f"{what}, {_points(change.value)} points, at worst {_points(change.low)}; "
        f"{_points(-margin)} is allowed"
    )
    if change.low >= -margin:
        return Check(Outcome.PASSED, f"{reason}.")
    if change.high < -margin or (change.value < -margin and paired.tested >= LARGE_TEST):
        return Check(Outcome.REJECTED, f"{reason}.")
    return Check(Outcome.INCONCLUSIVE, f"{reason}: too few requests to be certain.")


def _requests(paired: Paired) -> str:
    more = paired.rows - paired.tested
    crossed = f" and {more} cross-fitted" if more else ""
    return f"{paired.tested} test{crossed} requests"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
