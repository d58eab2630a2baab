"""Does a request belong to a pattern?

A cascade: a length or script that no specialist may answer ends it at once, and so
do words that no pattern uses; then one embedding and one model over all patterns
and other traffic; then the envelope of the pattern that was found. Knows nothing
about stages or shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Protocol

from hermes_apprentice.domain.routing import Match, outside
from hermes_apprentice.domain.specialist import Envelope
from hermes_apprentice.embedding.base import Embedder, Encoding
from hermes_apprentice.embedding.views import matching_vector
from hermes_apprentice.router.calls import Call
from hermes_apprentice.statistics.open_set import OpenSetModel
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.statistics.word_filter import WordCheck, WordFilter

NEAREST = 3
"""Patterns named in an explanation."""


@dataclass(frozen=True, slots=True)
class Near:
    """How close a pattern is."""

    slug: str
    """The pattern's specialist."""

    score: float
    """The matcher's score."""

    threshold: float
    """What the score must reach."""

    bound: ClassBound | None = None
    """What is proven about the false routes of this pattern by itself."""

    envelope: Envelope | None = None
    """What its specialist may answer; ``None`` while none is served."""

    outside: str | None = None
    """What of the request lies outside that envelope, if anything does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOutcome:
    """What the matcher found."""

    match: Match | None
    """The pattern, or ``None``: the request is the upstream's."""

    reason: str
    """A fixed word: ``matched``, ``no_pattern``, or what lies outside an envelope."""

    encoding: Encoding | None = None
    """What the embedder saw, for the specialist to read."""

    nearest: tuple[Near, ...] = ()
    """The closest patterns, closest first."""

    words: WordCheck | None = None
    """What the word filter said, where there is one."""


class PatternMatcher(Protocol):
    """Finds the pattern of a request."""

    async def match(
        self,
        request: str,
        turn_index: int,
        hidden: frozenset[str] = frozenset(),
        *,
        thorough: bool = False,
    ) -> MatchOutcome:
        """Decide about one request.

        Args:
            request: What the user typed.
            turn_index: How many user turns came before it.
            hidden: Patterns that do not exist for whoever asks.
            thorough: Name the nearest patterns even where that is not needed to decide.
        """
        ...


async def visible_match(
    matcher: PatternMatcher, call: Call, hidden: frozenset[str], *, thorough: bool = False
) -> MatchOutcome:
    """Match a call, and let nothing of what is hidden out, whatever the matcher does."""
    outcome = await matcher.match(call.request, call.turn_index, hidden, thorough=thorough)
    if not hidden:
        return outcome
    # What the word filter says is about all patterns, hidden ones too.
    outcome = replace(outcome, words=None)
    nearest = tuple(near for near in outcome.nearest if near.slug not in hidden)
    if outcome.match is not None and outcome.match.slug in hidden:
        return replace(outcome, match=None, reason="no_pattern", nearest=nearest)
    return replace(outcome, nearest=nearest)


class EmbeddingMatcher:
    """The cascade described above."""

    def __init__(
        self,
        *,
        embedder: Embedder,
        model: OpenSetModel,
        envelopes: Mapping[str, Envelope],
        executor: Executor,
        words: WordFilter | None = None,
    ) -> None:
        self._embedder = embedder
        self._model = model
        self._envelopes = dict(envelopes)
        self._executor = executor
        self._words = words

    async def match(
        self,
        request: str,
        turn_index: int,
        hidden: frozenset[str] = frozenset(),
        *,
        thorough: bool = False,
    ) -> MatchOutcome:
        """Decide about one request; the embedder runs off the event loop.

        A hidden pattern takes part in nothing, so another tenant's patterns cannot draw a
        request away. The bound on false routes holds all the same: it counts a request as
        falsely routed when any pattern takes it, and fewer patterns take fewer. The word filter
        looks at all patterns, since its bound is about all of them.
        """
        rejected = self.prefilter(request, turn_index, hidden)
        words = None
        if self._words is not None and (rejected is None or thorough):
            words = self._words.check(request)
            if words.rejected:
                rejected = rejected or "words"
        if rejected is not None and not (thorough and self._envelopes):
            return MatchOutcome(match=None, reason=rejected, words=words)
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(
            self._executor, self._decide, request, turn_index, hidden
        )
        if rejected is not None:
            return replace(outcome, match=None, reason=rejected, words=words)
        return replace(outcome, words=words)

    def prefilter(
        self, request: str, turn_index: int, hidden: frozenset[str] = frozenset()
    ) -> str | None:
        """Return why no specialist may answer, before anything is computed."""
        reasons = set()
        for slug, envelope in self._envelopes.items():
            if slug in hidden:
                continue
            reason = outside(envelope, request, turn_index)
            if reason is None:
                return None
            reasons.add(reason)
        return f"envelope_{min(reasons)}" if reasons else "no_pattern"

    def _decide(self, request: str, turn_index: int, hidden: frozenset[str]) -> MatchOutcome:
        encoding = self._embedder.encode([request])[0]
        scores = self._model.scores(matching_vector(encoding))[0]
        ranked = scores.argsort()[::-1]
        if hidden:
            classes = self._model.classes
            ranked = [index for index in ranked if classes[index] not in hidden]
        order = ranked[:NEAREST]
        nearest = tuple(
            self._near(int(index), float(scores[index]), request, turn_index) for index in order
        )
        if not nearest:
            return MatchOutcome(match=None, reason="no_pattern", encoding=encoding)
        best = nearest[0]
        reason = "matched"
        if not best.score >= best.threshold:  # not a number is no match either
            reason = "no_pattern"
        elif best.envelope is None:
            reason = "not_served"
        elif best.outside is not None:
            reason = f"envelope_{best.outside}"
        found = Match(slug=best.slug, score=best.score, threshold=best.threshold)
        return MatchOutcome(
            match=found if reason == "matched" else None,
            reason=reason,
            encoding=encoding,
            nearest=nearest,
        )

    def _near(self, index: int, score: float, request: str, turn_index: int) -> Near:
        slug = self._model.classes[index]
        envelope = self._envelopes.get(slug)
        return Near(
            slug=slug,
            score=score,
            threshold=float(self._model.thresholds[index]),
            bound=self._model.bound_of(index),
            envelope=envelope,
            outside=None if envelope is None else outside(envelope, request, turn_index),
        )
