"""Compare a specialist with the upstream, off the response path.

Free direction: where the upstream answered, the specialist is run beside it.
Audit: where the specialist answered, the upstream is asked as well, and paid.
Again: the upstream is asked a small share of requests twice, and paid, to see how
often it agrees with itself. All wait in one bounded queue; what does not fit is
dropped and counted. An answer that is missing on either side is missing data and
not a disagreement.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hermes_apprentice.domain.accounting import (
    Attempt,
    Comparison,
    LedgerEntry,
    Origin,
    Repeat,
)
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import StorageError, UpstreamError, place_of
from hermes_apprentice.router.answers import checked
from hermes_apprentice.router.costing import Costing
from hermes_apprentice.router.headers import RawHeaders
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.router.tap import Heard
from hermes_apprentice.router.upstream import Upstream
from hermes_apprentice.storage.audits import AuditedAnswer

QUEUE = 256
"""Comparisons that wait at most."""

WORKERS = 2
"""Comparisons made at the same time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The upstream answered; run the specialist."""

    loaded: Loaded
    """The specialist."""

    request: str
    """What the user typed."""

    encoding: Encoding | None
    """What the embedder saw."""

    heard: Heard
    """The upstream's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that the upstream is asked in the background."""

    body: dict[str, Any]
    """The client's request."""

    size: int
    """Its length in bytes."""

    headers: RawHeaders
    """The client's headers."""

    request_id: str
    """Name of the answered call."""

    session: str
    """Hermes' session."""

    model: str
    """The model's name upstream."""

    tenant: str = ""
    """Who asked; empty while there are no tenants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The specialist answered; ask the upstream."""

    loaded: Loaded
    """The specialist."""

    text: str
    """Its answer."""

    question: Question
    """What was asked."""

    repeat: bool = False
    """Whether to ask the upstream twice."""

    request: str = ""
    """What the user typed."""

    encoding: Encoding | None = None
    """What the embedder saw."""

    heir: Loaded | None = None
    """A merged specialist that is compared with the same answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The upstream answered; ask it once more."""

    loaded: Loaded
    """The specialist whose pattern the request belongs to."""

    question: Question
    """What was asked."""

    heard: Heard
    """The upstream's first answer."""


class Shadow:
    """Makes comparisons in the background."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        recorder: Recorder,
        costing: Costing,
        metrics: Metrics,
        deadline: float,
        may_repeat: Callable[[str, str], Awaitable[bool]] | None = None,
        keep: Callable[[AuditedAnswer], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
        limit: int = QUEUE,
    ) -> None:
        self.dropped = 0
        self._upstream = upstream
        self._recorder = recorder
        self._costing = costing
        self._metrics = metrics
        self._deadline = deadline
        self._may_repeat = may_repeat
        self._keep = keep
        self._clock = clock
        self._queue: asyncio.Queue[Beside | Audit | Again] = asyncio.Queue(limit)

    @property
    def waiting(self) -> int:
        """Comparisons that are not made yet."""
        return self._queue.qsize()

    def offer(self, job: Beside | Audit | Again) -> bool:
        """Queue a comparison; returns whether there was room for it."""
        try:
            self._queue.put_nowait(job)
        except asyncio.QueueFull:
            self.dropped += 1
            return False
        return True

    async def run(self) -> None:
        """Make comparisons until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def settle(self) -> None:
        """Wait until every comparison that was offered is made."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            try:
                await self._make(job)
            except Exception as error:  # the edge: one comparison must not end the others
                self._metrics.faults["shadow"] += 1
                _log.error("a comparison failed: %s", place_of(error))
            finally:
                self._queue.task_done()

    async def _make(self, job: Beside | Audit | Again) -> None:
        match job:
            case Beside():
                await self._beside(job)
            case Audit():
                await self._audit(job)
            case Again():
                await self._again(job.loaded, job.question, job.heard)

    async def _beside(self, job: Beside) -> None:
        loaded, heard = job.loaded, job.heard
        if heard.text is None and not heard.tools:
            self._record(loaded, Origin.SHADOW, None, answered=False, reason="no_upstream_answer")
            return
        given: object
        began = time.perf_counter()
        try:
            async with asyncio.timeout(loaded.deadline or self._deadline):
                given = await loaded.runtime.answer(job.request, job.encoding)
        except TimeoutError:
            given = Abstain(reason="deadline")
        except Exception as error:  # the edge: whatever a runtime does, it is missing data
            self._metrics.faults["specialist"] += 1
            _log.error("%s failed in shadow: %s", loaded.slug, place_of(error))
            given = Abstain(reason="error")
        given = checked(loaded.shape, given)
        self.attempted(loaded, given, time.perf_counter() - began)
        if isinstance(given, Answer):
            self.compare(loaded, Origin.SHADOW, given.text, heard)
        else:
            self._record(loaded, Origin.SHADOW, None, answered=False, reason=given.reason)

    async def _audit(self, job: Audit) -> None:
        heard = await self._ask(job.loaded, job.question, "audit")
        if heard is None:
            self._record(job.loaded, Origin.AUDIT, None, answered=True, reason="no_upstream_answer")
            return
        self.compare(job.loaded, Origin.AUDIT, job.text, heard)
        await self._learnable(job.question, heard)
        if job.heir is not None:
            await self._beside(
                Beside(loaded=job.heir, request=job.request, encoding=job.encoding, heard=heard)
            )
        if job.repeat:
            await self._again(job.loaded, job.question, heard)

    async def _learnable(self, question: Question, heard: Heard) -> None:
        """Keep the upstream's answer for a later training, where its session can be told.

        Tenants' sessions are on other machines, where nobody could delete it with them.
        """
        if self._keep is None or heard.text is None or heard.tools:
            return
        if question.tenant or not question.session or question.session.startswith("fp-"):
            return
        audited = AuditedAnswer(
            request_id=question.request_id,
            session_id=question.session,
            at=self._clock(),
            model=question.model,
            answer=heard.text,
        )
        try:
            await self._keep(audited)
        except StorageError as error:
            self._metrics.faults["shadow"] += 1
            _log.warning("an audited answer was not kept: %s", place_of(error))

    async def _again(self, loaded: Loaded, question: Question, first: Heard) -> None:
        """Ask the upstream what it has answered already."""
        if first.text is None and not first.tools:
            return
        if self._may_repeat is None or not await self._may_repeat(loaded.slug, question.model):
            return
        second = await self._ask(loaded, question, "repeat")
        agreed, reason = _same(loaded, first, second)
        result = {True: "agreed", False: "disagreed", None: reason}[agreed]
        self._metrics.comparisons[loaded.slug, "repeat", result] += 1
        self._recorder.repeat(
            Repeat(
                slug=loaded.slug,
                at=self._clock(),
                model=question.model,
                agreed=agreed,
                reason=reason,
            )
        )

    async def _ask(self, loaded: Loaded, question: Question, reason: str) -> Heard | None:
        """Ask the upstream and book what it costs; ``None`` where it did not answer."""
        began = time.perf_counter()
        status, heard = 502, None
        try:
            status, heard = await self._upstream.ask(question.body, question.headers)
        except UpstreamError as error:
            _log.warning("an %s of %s failed: %s", reason, loaded.slug, type(error).__name__)
        usage = heard.usage if heard is not None else None
        if usage is not None:
            self._costing.observe(question.model, question.size, usage, first=True)
        self._recorder.entry(
            LedgerEntry(
                at=self._clock(),
                request_id=question.request_id,
                tenant=question.tenant,
                session=question.session,
                call_kind=CallKind.FIRST,
                route=Route.AUDIT,
                reason=reason,
                slug=loaded.slug,
                version=loaded.version,
                digest=loaded.digest,
                model=question.model,
                tier=self._upstream.first.name if heard is not None else "",
                status=status,
                prompt_tokens=usage.prompt_tokens if usage else 0,
                cached_tokens=usage.cached_tokens if usage else 0,
                completion_tokens=usage.completion_tokens if usage else 0,
                cost=self._costing.charge(question.model, usage) if usage else None,
                latency_ms=(time.perf_counter() - began) * 1_000,
            )
        )
        return heard if status == 200 else None

    def compare(self, loaded: Loaded, origin: Origin, text: str, heard: Heard) -> None:
        """Record whether an answer equals the upstream's.

        An upstream that called tools instead did something that no specialist can:
        that is a disagreement.
        """
        if heard.text is None and not heard.tools:
            self._record(loaded, origin, None, answered=True, reason="no_upstream_answer")
            return
        agreed = heard.text is not None and agrees(loaded.shape, text, heard.text)
        reason = "tools" if heard.tools else ""
        self._record(loaded, origin, agreed, answered=True, reason=reason)

    def abstained(self, loaded: Loaded, reason: str) -> None:
        """Record that a specialist left a request to the upstream."""
        self._record(loaded, Origin.SHADOW, None, answered=False, reason=reason)

    def attempted(self, loaded: Loaded, given: Answer | Abstain, seconds: float) -> None:
        """Record how a run of a specialist went.

        One that was stopped before it had half of its time says nothing about it: the time
        went elsewhere.
        """
        outcome = "answered" if isinstance(given, Answer) else given.reason
        if outcome == "deadline" and seconds < (loaded.deadline or self._deadline) / 2:
            return
        self._recorder.attempt(
            Attempt(
                slug=loaded.slug,
                version=loaded.version,
                at=self._clock(),
                outcome=outcome,
                took_ms=seconds * 1_000,
            )
        )

    def _record(
        self, loaded: Loaded, origin: Origin, agreed: bool | None, *, answered: bool, reason: str
    ) -> None:
        result = {True: "agreed", False: "disagreed", None: reason}[agreed]
        self._metrics.comparisons[loaded.slug, origin.value, result] += 1
        self._recorder.comparison(
            Comparison(
                slug=loaded.slug,
                version=loaded.version,
                at=self._clock(),
                origin=origin,
                agreed=agreed,
                answered=answered,
                reason=reason,
            )
        )


def _same(loaded: Loaded, first: Heard, second: Heard | None) -> tuple[bool | None, str]:
    """Return whether the upstream gave the same answer twice, and what is to be noted."""
    if second is None or (second.text is None and not second.tools):
        return None, "no_upstream_answer"
    if first.tools and second.tools:
        return None, "tools"
    if first.text is None or second.text is None:
        return False, "tools"
    return agrees(loaded.shape, first.text, second.text), ""
