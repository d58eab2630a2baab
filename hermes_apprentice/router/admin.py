"""Endpoints for the operator: health, metrics, explanations, reload.

The door decides who may ask them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from urllib.parse import parse_qs

import orjson

from hermes_apprentice.router.calls import read_call
from hermes_apprentice.router.completions import error_body
from hermes_apprentice.router.conductor import Conductor
from hermes_apprentice.router.explain import explain, first_call
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.recorder import Recorder
from hermes_apprentice.router.shadow import Shadow
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.tenants import Tenants
from hermes_apprentice.router.upstream import Upstream
from hermes_apprentice.router.wire import (
    Receive,
    Scope,
    Send,
    Unread,
    read_body,
    send_bytes,
    send_json,
)
from hermes_apprentice.settings import Settings

_EXPLAIN_HELP = error_body(
    "Ask with ?text=...&turn=0&session=..., or post a chat completion's body.",
    "invalid_request_error",
    "nothing_to_explain",
)


class Admin:
    """The operator's endpoints."""

    def __init__(
        self,
        *,
        specialists: Specialists,
        conductor: Conductor,
        recorder: Recorder,
        shadow: Shadow,
        upstream: Upstream,
        tenants: Tenants,
        metrics: Metrics,
        settings: Settings,
        problems: Mapping[str, str],
    ) -> None:
        self._specialists = specialists
        self._conductor = conductor
        self._recorder = recorder
        self._shadow = shadow
        self._upstream = upstream
        self._tenants = tenants
        self._metrics = metrics
        self._settings = settings
        self._broken = problems
        metrics.gauges = self._gauges
        metrics.bounds = lambda: specialists.now.loading.bounds
        metrics.resting = lambda: {tier.name: tier.breaker.open for tier in upstream.tiers}

    def _gauges(self) -> dict[str, float]:
        return {
            "ledger_waiting": self._recorder.waiting,
            "ledger_dropped_total": self._recorder.dropped_entries,
            "ledger_recovered_total": self._recorder.recovered,
            "comparisons_dropped_total": self._recorder.dropped_comparisons,
            "attempts_dropped_total": self._recorder.dropped_attempts,
            "shadow_waiting": self._shadow.waiting,
            "shadow_dropped_total": self._shadow.dropped,
            "specialists_loaded": len(self._specialists.now.loading.specialists),
            "problems": len(self.problems()),
            "upstream_unreachable": float(self._upstream.first.breaker.open),
        }

    def problems(self) -> dict[str, str]:
        """Return everything that does not work now, by part."""
        found = {**self._broken, **self._specialists.problems}
        found.update(self._recorder.problems)
        if self._conductor.problem:
            found["rollout"] = self._conductor.problem
        if self._tenants.problem:
            found["tenants"] = self._tenants.problem
        return {**found, **self._upstream.problems}

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say what works; 200 as long as requests can be passed on."""
        now, clock = self._specialists.now, time.time()
        problems = self.problems()
        resting = now.loading.resting()
        served = []
        for slug, rollout in sorted(now.rollouts.items()):
            progress = self._conductor.progress_of(slug)
            standing = self._conductor.standing_of(slug)
            rest = resting.get(slug)
            served.append(
                {
                    "slug": slug,
                    "version": rollout.version,
                    "stage": rollout.stage,
                    "share": rollout.share,
                    "loaded": now.find(slug) is not None,
                    "reason": rollout.reason,
                    "compared": progress.compared if progress else 0,
                    "agreed": progress.agreed if progress else 0,
                    "held": rollout.held,
                    "standing": standing,
                    "resting": rest and {"reason": rest.reason, "until": clock + rest.seconds},
                }
            )
        state = {
            "status": "degraded" if problems else "ok",
            "pid": os.getpid(),
            "home": str(self._settings.home),
            "specialists": served,
            "problems": problems,
        }
        await send_json(send, 200, orjson.dumps(state))

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer Prometheus."""
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        await send_bytes(send, 200, kind, self._metrics.render())

    async def explain(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say what would happen to a text, or to the posted body of a completion."""
        if scope["method"] == "POST":
            headers = dict(scope["headers"])
            body = await read_body(headers, receive, self._settings.server.max_body_bytes)
            try:
                value = orjson.loads(b"" if isinstance(body, Unread) else body)
            except orjson.JSONDecodeError:
                value = None
            call = read_call(headers, value) if isinstance(value, dict) else None
        else:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            text, turn = query.get("text", [""])[0], query.get("turn", ["0"])[0]
            session = query.get("session", [""])[0]
            known = text and turn.isdigit() and len(turn) < 6
            call = first_call(text, int(turn), session) if known else None
        if call is None:
            await send_json(send, 400, _EXPLAIN_HELP)
            return
        guest = self._tenants.guest(_named(scope))
        hidden = guest.hidden if guest is not None else frozenset[str]()
        found = await explain(call, self._specialists, self._conductor, hidden)
        await send_json(send, 200, orjson.dumps(found))

    async def reload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the registry and the rollouts again, now."""
        await self._specialists.refresh(force=True)
        loaded = sorted(self._specialists.now.loading.specialists)
        state = {"loaded": loaded, "problems": self.problems()}
        await send_json(send, 200, orjson.dumps(state))


def _named(scope: Scope) -> str:
    """Return the tenant for whom an explanation is wanted."""
    found: bytes = dict(scope["headers"]).get(b"x-apprentice-tenant", b"")
    return found.decode("latin-1")
