"""The specialists that are loaded right now.

A snapshot that requests read without waiting; a task of its own compares it with
the database and the registry about once a second and replaces it in one step. A
version that cannot be loaded or verified is not in the snapshot, and so is never
served. Knows nothing about HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import ApprenticeError, place_of
from hermes_apprentice.router.breaker import Breaker
from hermes_apprentice.router.matcher import PatternMatcher
from hermes_apprentice.router.policy import answers
from hermes_apprentice.router.store import Store
from hermes_apprentice.serving.runtime import Runtime
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.storage.rollouts import read_rollouts

POLL_SECONDS = 1.0
"""Between two looks at the database and the registry."""

RETRY_SECONDS = 10.0
"""Between two tries to load what could not be loaded, though nothing seems to have changed."""

FAILURES = 3
"""Failures in a row after which a specialist rests."""

REST_SECONDS = 30.0
"""How long it rests before one request tries it again."""

_ACTIVE = (Stage.SHADOW, Stage.CANARY, Stage.LIVE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One verified version, ready to answer."""

    slug: str
    """The specialist."""

    version: int
    """Its version."""

    shape: Shape
    """What its answers must look like."""

    runtime: Runtime
    """What answers."""

    parents: tuple[str, ...] = ()
    """The specialists that it was merged from, whose place it takes once it is live."""

    deadline: float | None = None
    """Seconds that it has, where its kind needs longer than the others."""

    digest: str = ""
    """What names its files: the beginning of the sha256 over all of them."""

    breaker: Breaker = field(
        default_factory=lambda: Breaker(failures=FAILURES, rest=REST_SECONDS), compare=False
    )
    """Keeps requests away while it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """What a source could load."""

    specialists: Mapping[str, Loaded] = field(default_factory=dict)
    """The verified versions, by slug."""

    matcher: PatternMatcher | None = None
    """Finds the pattern of a request; ``None`` if there is nothing to match."""

    bounds: Mapping[str, ClassBound] = field(default_factory=dict)
    """What is proven about the false routes of each pattern that the matcher knows."""

    problems: Mapping[str, str] = field(default_factory=dict)
    """What could not be loaded and why, by slug or part."""

    breaker: Breaker = field(
        default_factory=lambda: Breaker(failures=FAILURES, rest=REST_SECONDS), compare=False
    )
    """Keeps requests away from the matcher while it fails."""

    def resting(self) -> dict[str, Rest]:
        """Return what was loaded and keeps failing, by slug or part."""
        parts = {slug: loaded.breaker for slug, loaded in self.specialists.items()}
        if self.matcher is not None:
            parts["matcher"] = self.breaker
        return {
            name: Rest(breaker.reason or "it failed", breaker.rests_for)
            for name, breaker in parts.items()
            if breaker.open
        }


class Rest(NamedTuple):
    """Something that keeps failing and is left alone for a while."""

    reason: str
    """What went wrong last."""

    seconds: float
    """Until it may be tried again; 0 when the next request tries it, or one does now."""

    def in_words(self, now: float) -> str:
        """Return a sentence for a person; ``now`` is a Unix time."""
        if self.seconds > 0:
            moment = datetime.fromtimestamp(now + self.seconds, UTC)
            until = f"it rests until {moment:%H:%M:%S} UTC, then one request tries it"
        else:
            until = "the next request tries it"
        return f"it keeps failing (last: {self.reason}), so the upstream answers; {until}"


class Source(Protocol):
    """Where specialists come from: the registry, or a test's own."""

    def stamp(self, wanted: Mapping[str, int]) -> object:
        """Return something cheap that differs when ``load`` would."""
        ...

    def load(self, wanted: Mapping[str, int]) -> Loading:
        """Load and verify versions, by slug. Runs in a thread; may take seconds."""
        ...


class Serving(NamedTuple):
    """Who is meant by a match."""

    loaded: Loaded
    """The specialist whose turn it is."""

    rollout: Rollout
    """How far it has come."""

    heir: Loaded | None = None
    """A merged specialist that proves itself beside it."""

    proving: bool = False
    """Whether a merged specialist proves itself, as the one or as the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What requests see; never changed, only replaced."""

    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    """How far each specialist has come."""

    loading: Loading = field(default_factory=Loading)
    """What is loaded."""

    @property
    def idle(self) -> bool:
        """Whether no request can match anything."""
        return self.loading.matcher is None or not self.loading.specialists

    def find(self, slug: str) -> tuple[Loaded, Rollout] | None:
        """Return a specialist with its rollout if that very version is loaded."""
        loaded, rollout = self.loading.specialists.get(slug), self.rollouts.get(slug)
        if loaded is None or rollout is None or loaded.version != rollout.version:
            return None
        return loaded, rollout

    def serving(
        self, slug: str, session: str, hidden: frozenset[str] = frozenset()
    ) -> Serving | None:
        """Return whose turn it is when a request matched ``slug``; never one of ``hidden``.

        A merged specialist has no requests of its own before its parents retire. It answers
        those of theirs that fall into its share; of the others it is told the outcome.
        """
        own = self.find(slug)
        for loaded in self.loading.specialists.values():
            found = self.find(loaded.slug) if slug in loaded.parents else None
            if found is None or loaded.slug in hidden:
                continue
            rollout = found[1]
            proving = rollout.stage is not Stage.LIVE
            if own is None or answers(rollout, session):
                return Serving(loaded, rollout, None, proving)
            return Serving(*own, loaded, proving)
        return Serving(*own) if own is not None else None


class Specialists:
    """Keeps the snapshot up to date."""

    def __init__(
        self,
        source: Source,
        store: Store,
        further: Callable[[], Mapping[str, str]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing loaded.

        Args:
            source: Where specialists come from.
            store: Where rollouts are read.
            further: Tells what goes wrong after loading, by slug or part.
            clock: Seconds that only ever grow.
        """
        self.now = Snapshot()
        self.problem = ""
        self.source = source
        self._store = store
        self._further = further
        self._stamp: object = None
        self._wanted: dict[str, int] | None = None
        self._clock = clock
        self._retry_at = float("inf")
        self._refreshing = asyncio.Lock()

    @property
    def problems(self) -> dict[str, str]:
        """Everything that keeps a specialist from being served, by slug or part."""
        own = {"rollouts": self.problem} if self.problem else {}
        loading = self.now.loading
        now = time.time()
        resting = {name: rest.in_words(now) for name, rest in loading.resting().items()}
        return {**resting, **self._further(), **loading.problems, **own}

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self, *, force: bool = False) -> None:
        """Read the rollouts, and load versions again if they or the registry changed."""
        async with self._refreshing:
            try:
                found = await read_rollouts(await self._store.database())
            except (ApprenticeError, ValueError) as error:
                # What was known a moment ago still holds; a restart would know nothing.
                self.problem = str(error)
                rollouts = self.now.rollouts
            else:
                self.problem = ""
                rollouts = {rollout.slug: rollout for rollout in found}
            wanted = {
                slug: rollout.version
                for slug, rollout in rollouts.items()
                if rollout.stage in _ACTIVE
            }
            self.now = replace(self.now, rollouts=rollouts)
            stamp = await asyncio.to_thread(self.source.stamp, wanted)
            known = wanted == self._wanted and stamp == self._stamp
            if known and not force and self._clock() < self._retry_at:
                return
            loading = await asyncio.to_thread(self._load, wanted)
            self.now = replace(self.now, loading=loading)
            self._wanted, self._stamp = wanted, stamp
            # A full disk or a missing model says nothing when it is repaired.
            self._retry_at = self._clock() + RETRY_SECONDS if loading.problems else float("inf")

    def _load(self, wanted: Mapping[str, int]) -> Loading:
        try:
            loading = self.source.load(wanted)
        except Exception as error:  # the edge: nothing of ours may stop the sidecar
            _log.error("specialists could not be loaded: %s", place_of(error))
            return Loading(problems={"registry": f"it cannot be read: {place_of(error)}"})
        for name, problem in loading.problems.items():
            if self.now.loading.problems.get(name) != problem:
                _log.error("%s is not served: %s", name, problem)
        return loading
