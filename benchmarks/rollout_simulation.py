"""How often the roll-out rules promote or take out the wrong specialist, on simulated ones.

A simulated specialist agrees with the upstream on each request with a chance of its own, sees
``REQUESTS`` requests, one each ``GAP`` seconds and each its own session, and is compared where
the router would: beside the upstream on every request it does not answer, and on an audit share
of those it does. Abstentions and failures do not occur. All rules meet the same requests.

Rules: ``ours`` is the product's `next_rollout` with the default settings, asked one second after
every comparison; ``ours_fixed_audits`` the same without closer audits while there is evidence of a
fall. ``mean_of_50`` takes one of ten equal steps to full traffic with each window of
50 new comparisons whose mean reaches the target, and takes the specialist out at the first that
does not; ``mean_of_50_patient`` goes one step back instead. Both go on with windows of audits.

Cases of 1,000 specialists: ``all`` (agreement uniform from 0.5 to 0.99, every fifth drifting),
``exactly_0.80``, ``0.85``, ``0.95``, and ``drifting`` (from 0.85 to 0.99 down to 0.5 to 0.75). A
fall begins between requests 50 and 5,000 (log-uniform) and takes up to 1,000 requests. And
``live_at_0.80``: live from the start and exactly at the target, for the detector's run length.

Figures: ``wrongly_promoted``, share with a step up at a moment of agreement at or below the target,
among those that have such a moment; ``wrongly_promoted_steady``, the same among those that do not
change, to which the promised ``alpha`` applies; ``wrongly_quarantined``, share taken out at a
moment above the target, among those that begin above, and ``wrongly_quarantined_serving`` those of
them that answered requests; ``requests_to_live``, median of those that begin at 0.9 or more (null
if most never arrive), ``reached_live`` their share and ``reached_live_any`` that of all;
``requests_to_first_step``, median of all, each with a comparison; ``served``, share of requests
answered while above the target; ``harm``, answers served per 1,000 requests that differ from the
upstream's, ``harm_below`` those given at or below the target; ``caught``, of those that fell while
answering requests, the share that stopped answering, with the medians ``requests_to_catch``,
``comparisons_to_catch`` and, as far as they were paid for, ``audits_to_catch`` from the fall on;
``audits_per_1000_served``, audits per 1,000 answers given while above the target;
``comparisons_per_alarm``, all comparisons of steady specialists over their quarantines.

Draws scatter around the promise (1,000 of them by 0.007), so ``exactly_0.80`` also has ``computed``
for ``ours``: the chance, without drawing anything, that a specialist at the target would show
enough evidence within ``REQUESTS`` comparisons if no alarm came first.

The product's `progress` reads the whole history anew. Here the same figures are kept up one
comparison at a time, from the same `evidence_above` and `evidence_below`; at drawn moments both
are computed, and the run ends with an error if they or the steps that follow from them differ.

Run: ``python benchmarks/rollout_simulation.py --json``
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.router.rollout import (
    ALERT,
    DRIFT_WINDOW,
    RUN_LENGTH,
    SHADOW_ALPHA,
    Progress,
    audit_share,
    next_rollout,
    progress,
)
from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.statistics.sequential import evidence_above, evidence_below
from hermes_apprentice.storage.rollouts import Seen

SPECIALISTS = 1_000
REQUESTS = 10_000
GAP = 360.0
RULES = RolloutSettings()
FIXED = RULES.model_copy(update={"alert_audit_share": RULES.audit_share})
WINDOW = 50
WINDOWS = 10
GOOD = 0.9
LOWEST, HIGHEST = 0.5, 0.99
DRIFTING_FROM = 0.85
FALLEN = (0.5, 0.75)
FALL_BEGINS = (50, 5_000)
FALL_TAKES = 1_000
EVERY = 5
CHUNK = 64
CHECKED_MOVES, CHECKED_MOMENTS = 0.02, 0.0002

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialist:
    """A simulated specialist with its traffic."""

    agreement: Floats
    """Chance of an equal answer, per request."""

    agrees: Bools
    """Whether its answer equals the upstream's, per request."""

    session: Floats
    """Stands for the hash of the session: below the share, the specialist answers."""

    audit: Floats
    """Stands for the hash of the request: below the audit share, an answer is audited."""

    def compared(
        self, start: int, share: float, audited: float = RULES.audit_share
    ) -> NDArray[np.intp]:
        """Return the requests from ``start`` on that are compared at a share."""
        found = (self.session[start:] >= share) | (self.audit[start:] < audited)
        return np.flatnonzero(found) + start


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of the share."""

    request: int
    """The request after whose comparison it came."""

    share: float
    """The new share; 1 is live."""

    out: bool = False
    """Whether the specialist was taken out for good."""


@dataclass(slots=True)
class Run:
    """What a rule did with a specialist."""

    moves: list[Move]
    comparisons: int
    shares: list[Move]
    """Changes of the audit share, ``share`` being the new one."""


class Checks:
    """Draws the moments at which the kept-up figures are compared with the product's."""

    def __init__(self, seed: int) -> None:
        self.made = 0
        self._random = random.Random(seed)

    def drawn(self, moved: bool) -> bool:
        """Return whether to check this moment."""
        return self._random.random() < (CHECKED_MOVES if moved else CHECKED_MOMENTS)

    def check(self, place: Rollout, seen: Progress, history: list[Seen], now: float) -> None:
        """Compare with the product's own figures and step."""
        self.made += 1
        whole = progress(place, history, RULES)
        counts = [(one.compared, one.agreed, one.new, one.needed) for one in (whole, seen)]
        close = all(
            math.isclose(one, other, rel_tol=1e-9)
            for one, other in (
                (whole.evidence, seen.evidence),
                (whole.drift, seen.drift),
                (whole.against, seen.against),
            )
        )
        steps = [
            after and (after.stage, after.share)
            for after in (next_rollout(place, one, RULES, now) for one in (whole, seen))
        ]
        if counts[0] != counts[1] or not close or steps[0] != steps[1]:
            raise RuntimeError(f"not the product's figures: {seen} instead of {whole}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="not needed: everything is simulated")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", help="only this case; may be repeated")
    options = parser.parse_args()
    checks = Checks(options.seed)
    rules: dict[str, Callable[[Specialist], Run]] = {
        "ours": lambda specialist: ours(specialist, checks),
        "ours_fixed_audits": lambda specialist: ours(specialist, checks, FIXED),
        "mean_of_50": lambda specialist: windows(specialist, patient=False),
        "mean_of_50_patient": lambda specialist: windows(specialist, patient=True),
    }
    cases: dict[str, Callable[[int, np.random.Generator], Specialist]] = {
        "all": mixed,
        "exactly_0.80": lambda _, rng: steady(RULES.target_agreement, rng),
        "0.85": lambda _, rng: steady(0.85, rng),
        "0.95": lambda _, rng: steady(0.95, rng),
        "drifting": lambda _, rng: falling(rng.uniform(DRIFTING_FROM, HIGHEST), rng),
    }
    figures: dict[str, Any] = {}
    for case, (name, make) in enumerate(cases.items()):
        if options.case and name not in options.case:
            continue
        seen: dict[str, list[Figures]] = {rule: [] for rule in rules}
        for number in range(SPECIALISTS):
            specialist = make(number, np.random.default_rng([options.seed, case, number]))
            for rule, apply in rules.items():
                seen[rule].append(outcome(specialist, apply(specialist)))
        figures[name] = {rule: summary(rows) for rule, rows in seen.items()}
        if not options.json:
            for rule, values in figures[name].items():
                print(name, rule, values, file=sys.stderr)
    if "exactly_0.80" in figures:
        figures["exactly_0.80"]["ours"]["computed"] = rounded(chance_at_target())
    if not options.case or "live_at_0.80" in options.case:
        figures["live_at_0.80"] = {
            "ours": run_length(RULES, options.seed, checks),
            "ours_fixed_audits": run_length(FIXED, options.seed, checks),
        }
    figures["checked_against_product"] = checks.made
    print(json.dumps(figures))


def run_length(rules: RolloutSettings, seed: int, checks: Checks) -> Figures:
    """Return what befalls specialists that are live, and agree exactly as often as they must.

    Their run length is the mean number of comparisons up to an alarm. Cut off at ``REQUESTS``, it
    is estimated as all comparisons over all alarms.
    """
    compared = alarms = requests = 0.0
    for number in range(SPECIALISTS):
        specialist = steady(RULES.target_agreement, np.random.default_rng([seed, 99, number]))
        run = ours(specialist, checks, rules, Stage.LIVE)
        compared += run.comparisons
        alarms += len(run.moves)
        requests += run.moves[-1].request + 1 if run.moves else REQUESTS
    return {
        "comparisons_per_alarm": rounded(compared / alarms) if alarms else None,
        "audits_per_1000_served": rounded(1_000 * compared / requests),
    }


def mixed(number: int, rng: np.random.Generator) -> Specialist:
    agreement = rng.uniform(LOWEST, HIGHEST)
    return falling(agreement, rng) if number % EVERY == 0 else steady(agreement, rng)


def steady(agreement: float, rng: np.random.Generator) -> Specialist:
    return specialist_of(np.full(REQUESTS, agreement), rng)


def falling(agreement: float, rng: np.random.Generator) -> Specialist:
    low, high = np.log(FALL_BEGINS)
    begins = math.exp(rng.uniform(low, high))
    ends = begins + rng.uniform(1, FALL_TAKES)
    fallen = min(agreement, rng.uniform(*FALLEN))
    course = np.interp(np.arange(REQUESTS), [begins, ends], [agreement, fallen])
    return specialist_of(course, rng)


def specialist_of(agreement: Floats, rng: np.random.Generator) -> Specialist:
    answers, session, audit = rng.random((3, REQUESTS))
    return Specialist(agreement=agreement, agrees=answers < agreement, session=session, audit=audit)


def ours(
    specialist: Specialist,
    checks: Checks,
    rules: RolloutSettings = RULES,
    stage: Stage = Stage.SHADOW,
) -> Run:
    """Follow the product's rules, looking after every comparison."""
    place = Rollout(
        slug="simulated",
        version=1,
        stage=stage,
        share=1.0 if stage is Stage.LIVE else 0.0,
        held=False,
        step_started_at=0.0,
        reason="",
    )
    moves: list[Move] = []
    shares: list[Move] = []
    requests: list[int] = []
    equal: list[bool] = []
    agreed = new = start = 0
    audited = rules.audit_share
    while place.stage is not Stage.QUARANTINED:
        upcoming = specialist.compared(start, place.share, audited)[:CHUNK]
        if not len(upcoming):
            break
        answers = specialist.agrees[upcoming]
        before = np.array(equal[-(DRIFT_WINDOW - 1) :], dtype=bool)
        after = None
        course = drifts(before, answers)
        looked_at = moments(place, audited, agreed, len(equal), answers, course, rules)
        for request, one, drift, look in zip(
            upcoming.tolist(), answers.tolist(), course, looked_at, strict=True
        ):
            drawn = checks.drawn(look)
            requests.append(request)
            equal.append(one)
            agreed += one
            new += 1
            if not (look or drawn):
                continue
            seen = Progress(
                compared=len(equal),
                agreed=agreed,
                new=new,
                evidence=evidence(agreed, len(equal)),
                needed=1 / RULES.alpha,
                lower=math.nan,  # only told to the operator, and slow to find
                drift=drift,
                against=evidence_against(agreed, len(equal)),
            )
            now = request * GAP + 1
            after = next_rollout(place, seen, rules, now)
            if drawn:
                checks.check(place, seen, history_of(requests, equal), now)
            if after is not None:
                out = after.stage is Stage.QUARANTINED
                moves.append(Move(request=request, share=after.share, out=out))
                place, new = after, 0
            share = audit_share(place, seen, rules)
            if share != audited:
                shares.append(Move(request=request, share=share))
            if after is not None or share != audited:
                audited = share
                break
        start = requests[-1] + 1
    return Run(moves, len(equal), shares)


def moments(
    place: Rollout,
    audited: float,
    agreed: int,
    compared: int,
    answers: Bools,
    course: list[float],
    rules: RolloutSettings,
) -> list[bool]:
    """Return at which of the next comparisons the rules could change anything.

    Only saves time: between them the evidence is on the near side of every limit.
    """
    drift = np.array(course)
    doubtful = (drift >= ALERT) != (audited > rules.audit_share)
    found = (drift >= RUN_LENGTH) | (doubtful & (rules.alert_audit_share > rules.audit_share))
    if place.stage is not Stage.LIVE:
        enough, few = limits()
        trials = compared + np.arange(1, len(answers) + 1)
        successes = agreed + np.cumsum(answers)
        found = (drift >= RUN_LENGTH) | (successes >= enough[trials]) | (successes <= few[trials])
    listed: list[bool] = found.tolist()
    return listed


@lru_cache(maxsize=1)
def limits() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the fewest agreements that show enough, and the most that show too little.

    Both by the number of comparisons.
    """
    enough, few = np.zeros((2, REQUESTS + 1), dtype=np.intp)
    most, least = 0, -1
    for trials in range(REQUESTS + 1):
        while most <= trials and evidence(most, trials) < 1 / RULES.alpha:
            most += 1
        while least + 1 <= trials and evidence_against(least + 1, trials) >= 1 / SHADOW_ALPHA:
            least += 1
        enough[trials], few[trials] = most, least
    return enough, few


def history_of(requests: Iterable[int], equal: Iterable[bool]) -> list[Seen]:
    return [
        Seen(comparison_id=number, at=request * GAP, agreed=one)
        for number, (request, one) in enumerate(zip(requests, equal, strict=True), start=1)
    ]


@lru_cache(maxsize=1 << 18)
def evidence(agreed: int, compared: int) -> float:
    return evidence_above(agreed, compared, RULES.target_agreement)


@lru_cache(maxsize=1 << 18)
def evidence_against(agreed: int, compared: int) -> float:
    return evidence_below(agreed, compared, RULES.target_agreement)


@lru_cache(maxsize=1)
def evidence_table() -> Floats:
    """Return the evidence below the target: row ``trials``, column ``successes``."""
    table = np.zeros((DRIFT_WINDOW + 1, DRIFT_WINDOW + 1))
    for trials in range(1, DRIFT_WINDOW + 1):
        for successes in range(trials + 1):
            table[trials, successes] = evidence_below(successes, trials, RULES.target_agreement)
    return table


def drifts(before: Bools, answers: Bools) -> list[float]:
    """Return the drift evidence after each new answer, given the ones before.

    Counts of a window's every tail are differences of one running sum; a table has the evidence.
    """
    sums = np.concatenate([[0], np.cumsum(np.concatenate([before, answers]))])
    ends = np.arange(len(before) + 1, len(sums))[:, None]
    trials = np.arange(1, DRIFT_WINDOW + 1)[None, : len(sums) - 1]
    begins = ends - trials
    successes = sums[ends] - sums[np.maximum(begins, 0)]
    terms = np.where(begins >= 0, evidence_table()[trials, successes], 0.0)
    found: list[float] = terms.sum(axis=1).tolist()
    return found


def chance_at_target() -> float:
    """Return the chance that the evidence ever suffices at exactly the target.

    Follows the distribution of the agreements so far over all comparisons, and takes out what
    reaches the needed evidence.
    """
    target = RULES.target_agreement
    left = np.zeros(REQUESTS + 2)
    left[0] = 1.0
    enough, reached = 1, 0.0
    for trials in range(1, REQUESTS + 1):
        left[1:] = left[1:] * (1 - target) + left[:-1] * target
        left[0] *= 1 - target
        # The evidence grows with the agreements, and what is enough grows with the trials.
        while enough <= trials and evidence(enough, trials) < 1 / RULES.alpha:
            enough += 1
        reached += left[enough:].sum()
        left[enough:] = 0.0
    return float(reached)


def windows(specialist: Specialist, *, patient: bool) -> Run:
    """Follow the mean of each 50 new comparisons."""
    moves: list[Move] = []
    start = step = comparisons = 0
    while True:
        window = specialist.compared(start, step / WINDOWS)[:WINDOW]
        if len(window) < WINDOW:
            return Run(moves, comparisons, [])
        comparisons += WINDOW
        start = int(window[-1]) + 1
        good = specialist.agrees[window].mean() >= RULES.target_agreement
        if not good and not patient:
            moves.append(Move(request=start - 1, share=0.0, out=True))
            return Run(moves, comparisons, [])
        following = min(WINDOWS, step + 1) if good else max(0, step - 1)
        if following != step:
            step = following
            moves.append(Move(request=start - 1, share=step / WINDOWS))


def outcome(specialist: Specialist, run: Run) -> Figures:
    """Judge a run by the agreement that only the simulation knows."""
    agreement, target = specialist.agreement, RULES.target_agreement
    below = agreement <= target
    share = np.zeros(REQUESTS)
    stepped_up_below = out_serving = False
    out = live = None
    last = 0.0
    for move in run.moves:
        share[move.request + 1 :] = move.share
        stepped_up_below |= bool(move.share > last and below[move.request])
        if move.out:
            out, out_serving = move.request, last > 0
        last = move.share
        if move.share == 1.0 and live is None:
            live = move.request + 1
    audited = np.full(REQUESTS, RULES.audit_share)
    for change in run.shares:
        audited[change.request + 1 :] = change.share
    audits = (specialist.session < share) & (specialist.audit < audited)
    served = specialist.session < share
    harm = served & ~specialist.agrees
    falls = int(np.argmax(below)) if not below[0] and below.any() else None
    fell_serving = falls is not None and share[falls] > 0
    caught = compared = audits_to_catch = None
    if fell_serving and falls is not None:
        zero = np.flatnonzero(share[falls:] == 0)
        caught = float(zero[0]) if len(zero) else math.inf
        until = falls + int(zero[0]) if len(zero) else REQUESTS
        looked_at = (specialist.session >= share) | audits
        compared = float(looked_at[falls:until].sum()) if len(zero) else math.inf
        audits_to_catch = float(audits[falls:until].sum()) if len(zero) else math.inf
    return {
        "begins": float(agreement[0]),
        "steady": float(agreement[0] == agreement[-1]),
        "ever_below": float(below.any()),
        "stepped_up_below": float(stepped_up_below),
        "out": float(out is not None),
        "out_above": float(out is not None and not below[out]),
        "out_above_serving": float(out is not None and not below[out] and out_serving),
        "live": math.inf if live is None else float(live),
        "first": next((move.request + 1.0 for move in run.moves if move.share), math.inf),
        "above": float((~below).sum()),
        "served_above": float((served & ~below).sum()),
        "harm": float(harm.sum()),
        "harm_below": float((harm & below).sum()),
        "caught": caught,
        "compared": compared,
        "audits_to_catch": audits_to_catch,
        "audits_above": float((audits & ~below).sum()),
        "comparisons": float(run.comparisons),
    }


def summary(rows: list[Figures]) -> Figures:
    """Return the figures of a case and a rule."""
    column = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    begins, below = column["begins"], column["ever_below"] == 1
    unchanging = column["steady"] == 1
    good = begins >= GOOD
    fell = ~np.isnan(column["caught"])
    alarms = column["out"][unchanging].sum()
    above, served_above = column["above"].sum(), column["served_above"].sum()
    requests = len(rows) * REQUESTS / 1_000
    return {
        "wrongly_promoted": mean(column["stepped_up_below"][below]),
        "wrongly_promoted_steady": mean(column["stepped_up_below"][below & unchanging]),
        "wrongly_quarantined": mean(column["out_above"][begins > RULES.target_agreement]),
        "wrongly_quarantined_serving": mean(
            column["out_above_serving"][begins > RULES.target_agreement]
        ),
        "requests_to_first_step": median(column["first"]),
        "requests_to_live": median(column["live"][good]),
        "reached_live": mean(column["live"][good] < math.inf),
        "reached_live_any": mean(column["live"] < math.inf),
        "served": rounded(served_above / above) if above else None,
        "harm": rounded(column["harm"].sum() / requests),
        "harm_below": rounded(column["harm_below"].sum() / requests),
        "caught": mean(column["caught"][fell] < math.inf),
        "requests_to_catch": median(column["caught"][fell]),
        "comparisons_to_catch": median(column["compared"][fell]),
        "audits_to_catch": median(column["audits_to_catch"][fell]),
        "audits_per_1000_served": (
            rounded(1_000 * column["audits_above"].sum() / served_above) if served_above else None
        ),
        "comparisons_per_alarm": (
            rounded(column["comparisons"][unchanging].sum() / alarms) if alarms else None
        ),
    }


def mean(values: NDArray[Any]) -> float | None:
    return rounded(values.mean()) if len(values) else None


def median(values: Floats) -> float | None:
    middle = float(np.median(values)) if len(values) else math.inf
    return middle if math.isfinite(middle) else None


def rounded(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
