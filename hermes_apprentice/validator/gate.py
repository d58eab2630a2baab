"""Decide whether a model version may be promoted.

Pure: evidence and limits go in, a verdict with a reason for each check comes out. A check passes
only on proof; where the data can neither prove nor refute, the verdict is *inconclusive* and says
how many more examples it would take. Knows nothing about files, models or the registry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.statistics.intervals import binomial_lower, binomial_upper, trials_needed
from hermes_apprentice.validator.calibration import SHARES
from hermes_apprentice.validator.evidence import Evidence

CONFIDENCE = 0.95
"""Of every bound, one-sided."""

LEAST_TEST_ROWS = 4
"""With fewer held-out rows answered by the served artefact nothing is ever promoted."""

LARGE_TEST = 50
"""From here on the test split is judged alone, and a point estimate below a limit is a no."""


_ORDER = (Outcome.REJECTED, Outcome.INCONCLUSIVE, Outcome.PASSED)


class Check(NamedTuple):
    """The result of one check."""

    outcome: Outcome
    """Proven, refuted, or neither."""

    reason: str
    """One sentence for the operator."""


def judge(evidence: Evidence, limits: GateSettings) -> Verdict:
    """Return the verdict: passed if every check passed, rejected if any was refuted."""
    checks = [check(evidence, limits) for check in _CHECKS]
    outcome = worst([check.outcome for check in checks])
    reasons = [check.reason for check in sorted(checks, key=lambda c: _ORDER.index(c.outcome))]
    if outcome is Outcome.PASSED:
        reasons.insert(0, _summary(evidence))
    return Verdict(
        outcome=outcome,
        reasons=(*reasons, *_remarks(evidence)),
        scores=evidence.scores,
        threshold=evidence.calibration.threshold,
    )


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of several checks together: one refuted is enough."""
    return min(outcomes, key=_ORDER.index)


def _enough(evidence: Evidence, limits: GateSettings) -> Check:
    rows = evidence.test_rows
    if rows < LEAST_TEST_ROWS:
        return Check(
            Outcome.INCONCLUSIVE,
            f"Only {rows} held-out examples: at least {LEAST_TEST_ROWS} are needed, that is about "
            f"{_more(10 * (LEAST_TEST_ROWS - rows))} in all.",
        )
    return Check(Outcome.PASSED, f"{rows} held-out examples were answered by the served model.")


def _gain(evidence: Evidence, limits: GateSettings) -> Check:
    scores = evidence.scores
    gain = scores.f1_gain
    figures = (
        f"F1 {scores.f1:.2f} against {scores.baseline_f1:.2f} for {scores.baseline}: gain "
        f"{gain.value:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})"
    )
    if gain.value >= limits.min_gain and gain.low > 0:
        return Check(Outcome.PASSED, f"{figures}.")
    needed = f"at least {limits.min_gain:+.2f} is needed"
    if gain.high < limits.min_gain or (
        gain.value < limits.min_gain and scores.examples >= LARGE_TEST
    ):
        return Check(Outcome.REJECTED, f"{figures}; {needed}.")
    return Check(
        Outcome.INCONCLUSIVE,
        f"{figures}; {needed}, and zero must lie outside: {_more(max(10, scores.examples))}.",
    )


def _cheaper(evidence: Evidence, limits: GateSettings) -> Check:
    """What costs nothing to train must not do better."""
    over = evidence.over_cheaper
    if over is None:
        return Check(Outcome.PASSED, "No cheaper way to answer was tried.")
    others = " and ".join(f"{value:.2f} for {name}" for name, value in evidence.scores.others)
    figures = f"F1 {evidence.scores.f1:.2f} against {others} ({over.low:+.2f} to {over.high:+.2f})"
    if over.high < 0:
        return Check(Outcome.REJECTED, f"{figures}: that does better without any training.")
    return Check(Outcome.PASSED, f"{figures}.")


def _agreement(evidence: Evidence, limits: GateSettings) -> Check:
    """Non-inferiority: the lower bound must reach the floor.

    Where cross-fitted rows are judged, the threshold was chosen on them; the bound then pays for
    every threshold that could have been chosen.
    """
    floor, agreed = limits.agreement_floor, evidence.agreed
    error = 1 - CONFIDENCE
    if evidence.cross_fitted_rows:
        error /= len(SHARES)
    lower = binomial_lower(agreed.successes, agreed.trials, 1 - error)
    figures = (
        f"Among {agreed.trials} answers it is sure about, {agreed.share:.0%} agree with the "
        f"upstream, at least {lower:.0%} with {CONFIDENCE:.0%} confidence"
    )
    if agreed.trials and lower >= floor:
        return Check(Outcome.PASSED, f"{figures}; the floor is {floor:.0%}.")
    refuted = agreed.trials and (
        binomial_upper(agreed.successes, agreed.trials, CONFIDENCE) < floor
        or (agreed.share < floor and agreed.trials >= LARGE_TEST)
    )
    if refuted:
        return Check(Outcome.REJECTED, f"{figures}; the floor is {floor:.0%}.")
    total = trials_needed(floor, agreed.share if agreed.trials else 1.0, 1 - error)
    share = max(evidence.answered.share, limits.min_coverage, 0.05)
    missing = math.ceil(max(1, total - agreed.trials) / share)
    wish = _more(missing) if total < 10_000 else "more data alone will hardly do"
    return Check(Outcome.INCONCLUSIVE, f"{figures}; the floor is {floor:.0%}: {wish}.")


def _coverage(evidence: Evidence, limits: GateSettings) -> Check:
    answered, least = evidence.answered, limits.min_coverage
    figures = (
        f"It is sure about {answered.share:.0%} of the requests; {least:.0%} is the least that "
        "is worth serving"
    )
    if answered.trials and answered.share >= least:
        return Check(Outcome.PASSED, f"{figures}.")
    upper = binomial_upper(answered.successes, answered.trials, CONFIDENCE)
    if upper < least or answered.trials >= LARGE_TEST:
        return Check(Outcome.REJECTED, f"{figures}.")
    return Check(Outcome.INCONCLUSIVE, f"{figures}: {_more(LARGE_TEST - answered.trials)}.")


def _invalid(evidence: Evidence, limits: GateSettings) -> Check:
    invalid, most = evidence.invalid, limits.max_invalid
    figures = (
        f"{invalid.successes} of {invalid.trials} answers are not of the pattern's shape; "
        f"{most:.0%} may be"
    )
    if invalid.trials and invalid.share <= most:
        return Check(Outcome.PASSED, f"{figures}.")
    lower = binomial_lower(invalid.successes, invalid.trials, CONFIDENCE)
    if lower > most or invalid.trials >= LARGE_TEST:
        return Check(Outcome.REJECTED, f"{figures}.")
    return Check(Outcome.INCONCLUSIVE, f"{figures}: {_more(10 * LARGE_TEST)}.")


def _as_trained(evidence: Evidence, limits: GateSettings) -> Check:
    """The served artefact must be the model that the cross-fitted rows speak for.

    However well other models did without the rows, what is served may not agree too rarely on
    its own training requests or on the test split; it may not do worse than the others on requests
    that it knows and they do not (a sign test on the pairs); and it may not do worse on the test
    split than they did on the rest.
    """
    for count, where in (
        (evidence.agreed_when_seen, "requests that it was trained on"),
        (evidence.agreed_in_test, "the held-out requests"),
    ):
        if not count.trials:
            return Check(
                Outcome.REJECTED if evidence.test_rows >= LEAST_TEST_ROWS else Outcome.INCONCLUSIVE,
                f"The served model is not sure about a single one of {where}.",
            )
        if binomial_upper(count.successes, count.trials, CONFIDENCE) < limits.agreement_floor:
            return Check(
                Outcome.REJECTED,
                f"The served model agrees on only {count.successes} of {count.trials} of {where}; "
                f"the floor is {limits.agreement_floor:.0%}.",
            )
    worse, test = evidence.worse_when_seen, evidence.useful_in_test
    expected = evidence.useful_cross_fitted
    least = binomial_lower(expected.successes, expected.trials, CONFIDENCE)
    if (
        binomial_lower(worse.successes, worse.trials, CONFIDENCE) > 0.5
        or binomial_upper(test.successes, test.trials, CONFIDENCE) < least
    ):
        return Check(
            Outcome.REJECTED,
            "The served model answers worse than the models of its own cross-validation, so it is "
            "not the model they speak for; train it again.",
        )
    seen = evidence.agreed_when_seen
    return Check(
        Outcome.PASSED,
        f"The served model gives the upstream's answer to {seen.successes} of {seen.trials} "
        "requests that it was trained on and is sure about, as it should.",
    )


_CHECKS: tuple[Callable[[Evidence, GateSettings], Check], ...] = (
    _enough,
    _agreement,
    _gain,
    _cheaper,
    _coverage,
    _invalid,
    _as_trained,
)


def _summary(evidence: Evidence) -> str:
    scores = evidence.scores
    return (
        f"It answers {scores.coverage:.0%} of the requests by itself and agrees with the upstream "
        f"on {scores.selective_agreement.value:.0%} of those."
    )


def _remarks(evidence: Evidence) -> list[str]:
    """Say what the figures rest on."""
    calibration = evidence.calibration
    known = "proven" if calibration.proven else "estimated, too little data to prove it"
    remarks = [
        f"The confidence threshold was chosen for {calibration.target:.0%} agreement on "
        f"{calibration.rows} predictions of models that had not seen them ({known})."
    ]
    if evidence.cross_fitted_rows:
        remarks.append(
            f"The test split has only {evidence.test_rows} examples, so it was judged together "
            f"with {evidence.cross_fitted_rows} cross-fitted predictions for the other examples."
        )
    return remarks


def _more(examples: int) -> str:
    return f"{examples} more example{'s' if examples != 1 else ''} needed"
