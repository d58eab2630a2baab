"""Does a request belong to a pattern?

A cascade: a length or script that no specialist may answer ends it at once; then
one embedding and one model over all patterns and other traffic; then the
envelope of the pattern that was found. Knows nothing about stages or shares.
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


class PatternMatcher(Protocol):
    """Finds the pattern of a request."""

    async def match(
        self, request: str, turn_index: int, hidden: frozenset[str] = frozenset()
    ) -> MatchOutcome:
        """Decide about one request.

        Args:
            request: What the user typed.
            turn_index: How many user turns came before it.
            hidden: Patterns that do not exist for whoever asks.
        """
        ...


async def visible_match(
    matcher: PatternMatcher, call: Call, hidden: frozenset[str]
) -> MatchOutcome:
    """Match a call, and let nothing of what is hidden out, whatever the matcher does."""
    if not hidden:
        return await matcher.match(call.request, call.turn_index)
    outcome = await matcher.match(call.request, call.turn_index, hidden)
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
    ) -> None:
        self._embedder = embedder
        self._model = model
        self._envelopes = dict(envelopes)
        self._executor = executor

    async def match(
        self, request: str, turn_index: int, hidden: frozenset[str] = frozenset()
    ) -> MatchOutcome:
        """Decide about one request; the embedder runs off the event loop.

        A hidden pattern takes part in nothing, so another tenant's patterns cannot draw a
        request away. The bound on false routes holds all the same: it counts a request as
        falsely routed when any pattern takes it, and fewer patterns take fewer.
        """
        rejected = self.prefilter(request, turn_index, hidden)
        if rejected is not None:
            return MatchOutcome(match=None, reason=rejected)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._decide, request, turn_index, hidden)

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
            Near(
                self._model.classes[index],
                float(scores[index]),
                float(self._model.thresholds[index]),
            )
            for index in order
        )
        if not nearest:
            return MatchOutcome(match=None, reason="no_pattern", encoding=encoding)
        best = nearest[0]
        reason = "matched"
        if not best.score >= best.threshold:  # not a number is no match either
            reason = "no_pattern"
        elif best.slug not in self._envelopes:
            reason = "not_served"
        else:
            why = outside(self._envelopes[best.slug], request, turn_index)
            reason = f"envelope_{why}" if why else "matched"
        found = Match(slug=best.slug, score=best.score, threshold=best.threshold)
        return MatchOutcome(
            match=found if reason == "matched" else None,
            reason=reason,
            encoding=encoding,
            nearest=nearest,
        )
