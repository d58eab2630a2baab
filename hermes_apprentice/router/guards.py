"""Whether a specialist fails, dawdles or is corrected too often to go on.

Three rules beside that of agreement, each an e-detector (see ``rise_evidence``
in ``statistics.sequential``) with the same promise: while a specialist keeps to
the rule, an alarm comes after ``RUN_LENGTH`` observations or more, on average.
Assumed is that the chance of an event, given everything before it, stays within
the rule. Failures come in bursts, when the whole machine is busy; so what
follows a failure within ``INCIDENT`` seconds is neither counted for nor against.

Pure. Knows nothing about stages, and nothing about agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hermes_apprentice.settings import RolloutSettings
from hermes_apprentice.statistics.sequential import confidence_upper, rise_evidence
from hermes_apprentice.storage.conduct import FAILED, Attempted, Reception

RUN_LENGTH = 10_000
"""Observations between two false alarms of one rule, at least and on average."""

WINDOW = 250
"""Latest observations that a rule looks back on."""

INCIDENT = 30.0
"""Seconds that belong to one failure; a specialist that keeps failing rests as long."""

SETTLED = 900.0
"""Seconds that users have to turn an answer down before it counts."""

BASELINE_ALPHA = 0.01
"""Chance that the bound on how often the upstream is corrected is ever too low."""

_FAILED = frozenset(FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What one rule has seen."""

    events: int = 0
    """What should be rare, among the latest observations."""

    trials: int = 0
    """The latest observations, at most `WINDOW`."""

    allowed: float = 1.0
    """Share of events that is still right."""

    evidence: float = 0.0
    """Evidence that events are more frequent; `RUN_LENGTH` is an alarm."""

    @property
    def alarm(self) -> bool:
        """Whether the rule is broken."""
        return self.evidence >= RUN_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """What the three rules say about a version."""

    failures: Watch = Watch()
    """Runs that failed, timed out or gave an invalid answer."""

    slow: Watch = Watch()
    """Runs that took too much of the deadline."""

    corrections: Watch = Watch()
    """Served answers that users turned down, beside the upstream's."""


def conduct(
    attempts: Sequence[Attempted], reception: Reception, settings: RolloutSettings
) -> Conduct:
    """Judge the runs of a version, oldest first, and how its answers were received."""
    limit = slow_ms(settings)
    return Conduct(
        failures=_watch(
            _incidents(attempts, lambda one: one.outcome in _FAILED), settings.max_failures
        ),
        slow=_watch(_incidents(attempts, lambda one: one.took_ms > limit), settings.max_slow),
        corrections=watch_corrections(reception),
    )


def slow_ms(settings: RolloutSettings) -> float:
    """Return the milliseconds after which a run counts as slow."""
    return 1_000 * settings.slow_after * settings.deadline_seconds


def watch_corrections(reception: Reception) -> Watch:
    """Judge how a specialist's answers were received, beside the upstream's.

    The rule is the upper end of an always-valid confidence sequence for how often the upstream's
    answers to the same pattern are corrected (Howard et al., 2021), so it is lenient while there
    are few of them and says nothing without any. With a chance of at least
    ``1 - BASELINE_ALPHA`` it is never below the upstream's true rate; then a specialist that is
    corrected no more often alarms after ``RUN_LENGTH`` answers or more, on average.
    """
    allowed = confidence_upper(reception.upstream_corrected, reception.upstream, BASELINE_ALPHA)
    return _watch(reception.served, allowed)


def alarm(found: Conduct, settings: RolloutSettings) -> str:
    """Return why a specialist is taken out, as a sentence; empty when every rule is kept."""
    if found.failures.alarm:
        return (
            f"it failed, timed out or gave an invalid answer in {_figures(found.failures)}; "
            f"{settings.max_failures:.0%} are allowed"
        )
    if found.slow.alarm:
        return (
            f"it took longer than {slow_ms(settings):,.0f} ms in {_figures(found.slow)}; "
            f"{settings.max_slow:.0%} are allowed"
        )
    if found.corrections.alarm:
        one = found.corrections
        return (
            f"{one.events} of its last {one.trials} answers were corrected, more than the "
            f"upstream's to the same requests (at most {one.allowed:.0%})"
        )
    return ""


def _figures(one: Watch) -> str:
    return f"{one.events} of its last {one.trials} runs, repeats within half a minute left out"


def _incidents(attempts: Sequence[Attempted], bad: Callable[[Attempted], bool]) -> list[bool]:
    """Return whether each run is bad, without what follows a bad one at once."""
    found: list[bool] = []
    last = float("-inf")
    for one in attempts:
        if 0 <= one.at - last < INCIDENT:
            continue
        found.append(bad(one))
        if found[-1]:
            last = one.at
    return found


def _watch(events: Sequence[bool], allowed: float) -> Watch:
    latest = events[-WINDOW:]
    return Watch(
        events=sum(latest),
        trials=len(latest),
        allowed=allowed,
        evidence=rise_evidence(latest, allowed, WINDOW) if 0 < allowed < 1 else 0.0,
    )
