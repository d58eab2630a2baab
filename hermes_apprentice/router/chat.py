"""One chat completion, from the request to the ledger.

The order of work: read the call, find its pattern, ask the policy, let the
specialist answer within its deadline, and otherwise let the upstream answer the
same request. Whatever fails on our side ends at the upstream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hermes_apprentice.domain.money import estimate_tokens
from hermes_apprentice.domain.routing import CallKind, Rollout, Route
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import place_of
from hermes_apprentice.router.answers import checked
from hermes_apprentice.router.bookkeeping import Books, Work
from hermes_apprentice.router.calls import Call, understood
from hermes_apprentice.router.completions import Completion, as_json, error_body
from hermes_apprentice.router.delivery import notes_of, send_stream
from hermes_apprentice.router.door import GUEST
from hermes_apprentice.router.matcher import MatchOutcome, visible_match
from hermes_apprentice.router.metrics import Metrics
from hermes_apprentice.router.policy import Plan, decide
from hermes_apprentice.router.refusals import NO_PRICE
from hermes_apprentice.router.relay import Relay
from hermes_apprentice.router.shadow import Again, Audit, Beside, Question, Shadow
from hermes_apprentice.router.specialists import Loaded, Specialists
from hermes_apprentice.router.tenants import Guest
from hermes_apprentice.router.upstream import CHAT, Ask
from hermes_apprentice.router.wire import (
    HUNG_UP,
    Hangup,
    Receive,
    Scope,
    Send,
    Unread,
    decompressed,
    read_body,
    send_json,
)
from hermes_apprentice.settings import RolloutSettings

_FAILURES = {
    "error": "it raised an error",
    "deadline": "it did not answer in time",
    "invalid": "it gave an invalid answer",
}
"""Abstentions by which a specialist shows that something is wrong with it, in words."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was decided about a call before anyone answered it."""

    reason: str
    """A fixed word for the ledger."""

    loaded: Loaded | None = None
    """The specialist of the pattern that matched."""

    plan: Plan | None = None
    """What the policy says about it."""

    outcome: MatchOutcome | None = None
    """What the matcher found."""

    heir: Loaded | None = None
    """A merged specialist that is compared as well."""


class Chat:
    """Answers ``POST /v1/chat/completions``."""

    def __init__(
        self,
        *,
        relay: Relay,
        specialists: Specialists,
        shadow: Shadow,
        books: Books,
        metrics: Metrics,
        rollout: RolloutSettings,
        audit_share: Callable[[Rollout], float],
        max_body: int,
    ) -> None:
        self._relay = relay
        self._specialists = specialists
        self._shadow = shadow
        self._books = books
        self._metrics = metrics
        self._rollout = rollout
        self._audit_share = audit_share
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one call."""
        raw_headers = scope["headers"]
        headers = dict(raw_headers)
        body = await read_body(headers, receive, self._max_body)
        if isinstance(body, Unread):
            await self._refuse_unread(send, body)
            return
        began, at = time.perf_counter(), time.time()
        guest: Guest | None = scope.get(GUEST)
        plain = decompressed(body, headers.get(b"content-encoding", b""), self._max_body)
        call, parsed = understood(headers, plain)
        if call is None:
            text = (
                "The body of a chat completion must be a JSON object in UTF-8; "
                "this one could not be parsed. Nothing was sent to the upstream."
            )
            self._books.refused(400)
            await send_json(send, 400, error_body(text, "invalid_request_error", "invalid_json"))
            return
        model = self._relay.upstream.model_for(call.model)
        if guest is not None and not guest.may_ask(parsed, priced=self._books.priced(model)):
            self._books.refused(NO_PRICE.status)
            await NO_PRICE(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._rollout.deadline_seconds
        work = Work(
            request_id=self._books.new_id(),
            call=call,
            body=body if plain is None else plain,
            model=model,
            began=began,
            at=at,
            deadline=deadline,
            tenant=guest.name if guest is not None else "",
        )
        ask = Ask(
            method="POST",
            path=CHAT,
            headers=raw_headers,
            body=body,
            plain=work.body,
            parsed=parsed,
            model=call.model,
            alone=not self._affordable_anywhere(guest, call.model, parsed),
        )
        choice = await self._choose(work, guest.hidden if guest is not None else frozenset())
        route = Route.UPSTREAM
        if choice.loaded is not None and choice.plan is not None and choice.plan.answer:
            answer = await self._ask(choice.loaded, choice.outcome, work)
            if isinstance(answer, Answer):
                await self._serve(work, choice, answer, receive, send)
                if choice.plan.audit:
                    self._audit(work, choice, answer, ask)
                return
            self._shadow.abstained(choice.loaded, answer.reason)
            route = Route.FALLBACK
            choice = replace(choice, reason=answer.reason, plan=None)
        await self._pass_on(work, choice, route, ask, receive, send)

    def _affordable_anywhere(
        self, guest: Guest | None, model: str, parsed: Mapping[str, Any]
    ) -> bool:
        """Whether every endpoint may be asked for a guest: a budget must be able to count it."""
        tiers = self._relay.upstream.tiers
        if guest is None or len(tiers) == 1:
            return True
        priced = all(self._books.priced(tier.model_for(model)) for tier in tiers)
        return guest.may_ask(parsed, priced=priced)

    async def _choose(self, work: Work, hidden: frozenset[str]) -> Choice:
        """Decide who may answer; never raises."""
        call, now = work.call, self._specialists.now
        if call.kind is not CallKind.FIRST:
            return Choice(reason="kind")
        if call.refusal is not None:
            return Choice(reason=call.refusal)
        matcher = now.loading.matcher
        if matcher is None or now.idle:
            return Choice(reason="no_specialist")
        if not now.loading.breaker.allows():
            return Choice(reason="matcher_resting")
        try:
            async with asyncio.timeout_at(work.deadline):
                outcome = await visible_match(matcher, call, hidden)
        except Exception as error:  # the edge: without a match the upstream answers
            late = isinstance(error, TimeoutError)
            now.loading.breaker.failed(_FAILURES["deadline" if late else "error"])
            self._fault("matcher", error)
            return Choice(reason="matcher_failed")
        now.loading.breaker.succeeded()
        if outcome.match is None:
            return Choice(reason=outcome.reason, outcome=outcome)
        found = now.serving(outcome.match.slug, call.session, hidden)
        if found is None:
            return Choice(reason="not_served", outcome=outcome)
        loaded, share = found.loaded, self._audit_share(found.rollout)
        if found.proving:
            # Where a specialist answers, the upstream's answer is the only proof there is.
            share = max(share, self._rollout.proving_share)
        plan = decide(
            found.rollout,
            call.session,
            work.request_id,
            share,
            self._rollout.self_agreement_share,
        )
        if plan.answer and not loaded.breaker.allows():
            return Choice(reason="specialist_resting", outcome=outcome)
        return Choice(
            reason=plan.reason, loaded=loaded, plan=plan, outcome=outcome, heir=found.heir
        )

    async def _ask(
        self, loaded: Loaded, outcome: MatchOutcome | None, work: Work
    ) -> Answer | Abstain:
        """Let a specialist answer within its deadline; never raises."""
        encoding = outcome.encoding if outcome is not None else None
        given: object
        began = time.perf_counter()
        deadline = work.deadline
        if loaded.deadline is not None:
            deadline = asyncio.get_running_loop().time() + loaded.deadline
        try:
            async with asyncio.timeout_at(deadline):
                given = await loaded.runtime.answer(work.call.request, encoding)
        except TimeoutError:
            given = Abstain(reason="deadline")
        except Exception as error:  # the edge: the upstream answers instead
            self._fault("specialist", error)
            given = Abstain(reason="error")
        given = _checked(loaded, given, work.call)
        self._shadow.attempted(loaded, given, time.perf_counter() - began)
        if isinstance(given, Abstain) and given.reason in _FAILURES:
            loaded.breaker.failed(_FAILURES[given.reason])
        else:
            loaded.breaker.succeeded()
        result = "answered" if isinstance(given, Answer) else given.reason
        self._metrics.specialists[loaded.slug, result] += 1
        return given

    async def _serve(
        self, work: Work, choice: Choice, answer: Answer, receive: Receive, send: Send
    ) -> None:
        loaded = choice.loaded
        assert loaded is not None
        call = work.call
        usage = self._books.estimate(work, answer.text)
        completion = Completion(
            completion_id=f"chatcmpl-{work.request_id}",
            model=call.model,
            text=answer.text,
            usage=usage,
            created=int(work.at),
        )
        overhead = time.perf_counter() - work.began
        notes = [
            *notes_of(Route.SPECIALIST, loaded),
            (b"x-apprentice-overhead-ms", b"%.3f" % (overhead * 1_000)),
        ]
        booked = False

        def book(*, sent: bool) -> None:
            nonlocal booked
            booked = True
            self._book(
                lambda: self._books.answered(
                    work, loaded, choice.reason, usage, sent=sent, overhead=overhead
                )
            )

        # Whoever has all of an answer can rely on it being booked.
        with Hangup(receive):
            if call.stream:
                await send_stream(send, completion, notes, call.include_usage)
                book(sent=True)
                await send({"type": "http.response.body", "body": b""})
            else:
                book(sent=True)
                await send_json(send, 200, as_json(completion), notes)
        if not booked:
            book(sent=False)

    async def _pass_on(
        self,
        work: Work,
        choice: Choice,
        route: Route,
        ask: Ask,
        receive: Receive,
        send: Send,
    ) -> None:
        beside = choice.plan is not None and choice.plan.shadow
        passage = await self._relay.forward(
            ask,
            receive=receive,
            send=send,
            began=work.began,
            notes=notes_of(route, choice.loaded),
            listen=True,
            keep=beside or choice.heir is not None,
            book=lambda found: self._book(
                lambda: self._books.passed(work, route, choice.reason, choice.loaded, found)
            ),
        )
        # Another endpoint's model is not the one that the specialist is to agree with.
        if passage.heard is None or not passage.first:
            return
        for loaded in (choice.loaded if beside else None, choice.heir):
            if loaded is not None:
                self._shadow.offer(
                    Beside(
                        loaded=loaded,
                        request=work.call.request,
                        encoding=choice.outcome.encoding if choice.outcome is not None else None,
                        heard=passage.heard,
                    )
                )
        if beside and choice.loaded and choice.plan and choice.plan.repeat:
            question = self._question(work, ask)
            self._shadow.offer(Again(loaded=choice.loaded, question=question, heard=passage.heard))

    def _audit(self, work: Work, choice: Choice, answer: Answer, ask: Ask) -> None:
        assert choice.loaded is not None and choice.plan is not None
        self._shadow.offer(
            Audit(
                loaded=choice.loaded,
                text=answer.text,
                question=self._question(work, ask),
                repeat=choice.plan.repeat,
                request=work.call.request,
                encoding=choice.outcome.encoding if choice.outcome is not None else None,
                heir=choice.heir,
            )
        )

    def _question(self, work: Work, ask: Ask) -> Question:
        return Question(
            body=dict(ask.parsed),
            size=len(work.body),
            headers=list(ask.headers),
            request_id=work.request_id,
            session=work.call.session,
            model=work.model,
            tenant=work.tenant,
        )

    async def _refuse_unread(self, send: Send, why: Unread) -> None:
        if why is Unread.GONE:
            self._books.refused(HUNG_UP)
            return
        self._books.refused(413)
        text = (
            f"The request's body is longer than {self._max_body} bytes; "
            "raise server.max_body_bytes in settings.toml to allow it."
        )
        close = ((b"connection", b"close"),)
        await send_json(send, 413, error_body(text, "invalid_request_error", "too_large"), close)

    def _book(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # the edge: an answer is worth more than its entry
            self._fault("books", error)

    def _fault(self, part: str, error: Exception) -> None:
        self._metrics.faults[part] += 1
        _log.error("the %s failed, the answer does not suffer: %s", part, place_of(error))


def _checked(loaded: Loaded, given: object, call: Call) -> Answer | Abstain:
    """Let through only what this client can expect."""
    given = checked(loaded.shape, given)
    if isinstance(given, Abstain):
        return given
    if call.max_tokens is not None and estimate_tokens(len(given.text)) > call.max_tokens:
        return Abstain(reason="length", confidence=given.confidence)
    return given
