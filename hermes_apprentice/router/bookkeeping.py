"""Turn what happened to a call into its ledger entry and its counters.

Knows nothing about how a route was chosen.
"""

from __future__ import annotations

import itertools
import secrets
import time

from hermes_apprentice.domain.accounting import LedgerEntry
from hermes_apprentice.domain.money import Usage, estimate_tokens
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.router.calls import Call
from hermes_apprentice.router.costing import Costing
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.relay import Passage
from hermes_apprentice.router.specialists import Loaded
from hermes_apprentice.router.wire import HUNG_UP


class Work:
    """One call while it is being worked on."""

    __slots__ = ("at", "began", "body", "call", "deadline", "model", "request_id", "tenant")

    def __init__(
        self,
        *,
        request_id: str,
        call: Call,
        body: bytes,
        model: str,
        began: float,
        at: float,
        deadline: float,
        tenant: str = "",
    ) -> None:
        self.request_id = request_id
        self.call = call
        self.body = body
        self.model = model
        """The model's name where the call goes."""
        self.began = began
        """When the body was there, on ``time.perf_counter``."""
        self.at = at
        """The same as Unix time."""
        self.deadline = deadline
        """Until when a specialist may answer, on the event loop's clock."""
        self.tenant = tenant
        """Who asks; empty while there are no tenants."""


class Books:
    """Keeps the accounts of one sidecar."""

    def __init__(self, recorder: Recorder, costing: Costing, metrics: Metrics) -> None:
        self._recorder = recorder
        self._costing = costing
        self._metrics = metrics
        # Unique without asking the kernel for randomness at every request.
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """Return a name for a call that no other call has."""
        return f"{self._prefix}{next(self._numbers):08x}"

    def priced(self, model: str) -> bool:
        """Whether it is known what a model charges."""
        return self._costing.priced(model)

    def estimate(self, work: Work, answer: str) -> Usage:
        """Return what the upstream would have counted for a specialist's answer."""
        tokens = estimate_tokens(len(answer))
        return self._costing.estimate(work.model, len(work.body), tokens)

    def answered(
        self, work: Work, loaded: Loaded, reason: str, usage: Usage, *, sent: bool, overhead: float
    ) -> None:
        """Book a specialist's answer; ``sent`` says whether the client waited for it."""
        self._book(
            work,
            Route.SPECIALIST,
            reason,
            loaded,
            status=200 if sent else HUNG_UP,
            usage=usage,
            cost=0,
            saved=self._costing.charge(work.model, usage) if sent else None,
            overhead=overhead,
        )

    def passed(
        self, work: Work, route: Route, reason: str, loaded: Loaded | None, passage: Passage
    ) -> None:
        """Book a call that went to the upstream."""
        if passage.model:
            work.model = passage.model
        if passage.problem:
            self._metrics.upstream_problems[passage.problem] += 1
        usage, cost = self._charged(work, passage)
        self._book(
            work,
            route,
            passage.problem or reason,
            loaded,
            status=HUNG_UP if passage.problem == "hang_up" else passage.status,
            usage=usage,
            cost=cost,
            saved=None,
            overhead=passage.overhead,
            tier=passage.tier,
        )

    def refused(self, status: int) -> None:
        """Count a request that nobody could answer."""
        self._metrics.call("other", "refused", status, 0.0, 0.0)

    def _charged(self, work: Work, passage: Passage) -> tuple[Usage, int | None]:
        """Return the tokens and the cost of an upstream call."""
        heard = passage.heard
        if heard is not None and heard.usage is not None:
            self._costing.observe(
                work.model,
                len(work.body),
                heard.usage,
                first=work.call.kind is CallKind.FIRST,
            )
            return heard.usage, self._costing.charge(work.model, heard.usage)
        if passage.problem == "error" or (passage.status >= 400 and passage.problem != "hang_up"):
            # Nobody charges for an error.
            return Usage(prompt_tokens=0, completion_tokens=0), 0
        tokens = 0
        if heard is not None:
            tokens = heard.events or estimate_tokens(heard.size)
        usage = self._costing.estimate(work.model, len(work.body), tokens)
        return usage, self._costing.charge(work.model, usage)

    def _book(
        self,
        work: Work,
        route: Route,
        reason: str,
        loaded: Loaded | None,
        *,
        status: int,
        usage: Usage,
        cost: int | None,
        saved: int | None,
        overhead: float,
        tier: str = "",
    ) -> None:
        latency = time.perf_counter() - work.began
        kind = work.call.kind
        self._metrics.call(kind.value, route.value, status, overhead, latency)
        self._recorder.entry(
            LedgerEntry(
                at=work.at,
                request_id=work.request_id,
                tenant=work.tenant,
                session=work.call.session,
                call_kind=kind,
                route=route,
                reason=reason,
                slug=loaded.slug if loaded is not None else None,
                version=loaded.version if loaded is not None else None,
                digest=loaded.digest if loaded is not None else "",
                model=work.model,
                tier=tier,
                status=status,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                estimated=usage.estimated,
                cost=cost,
                saved=saved,
                overhead_ms=overhead * 1_000,
                latency_ms=latency * 1_000,
            )
        )
