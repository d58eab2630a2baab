"""What would happen to a request, and why, without anything happening.

The same decisions as for a real call, none of their effects. Knows nothing about
HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import TenantError
from hermes_apprentice.router.calls import Call
from hermes_apprentice.router.conductor import Conductor, Standing
from hermes_apprentice.router.loading import RegistrySource
from hermes_apprentice.router.matcher import MatchOutcome, Near, visible_match
from hermes_apprentice.router.policy import decide
from hermes_apprentice.router.rollout import Progress
from hermes_apprentice.router.specialists import Specialists
from hermes_apprentice.router.store import Store
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.word_filter import WordCheck
from hermes_apprentice.storage.tenants import read_directory

_REASONS = {
    "kind": "only the first call of a user's turn can match",
    "no_specialist": "no specialist is being served",
    "words": "the word filter finds in it too little of what any pattern's requests say",
    "no_pattern": "it is not close enough to any pattern",
    "not_served": "its specialist is not being served",
    "shadow": "its specialist only runs beside the upstream for now",
    "canary": "its session is outside the share that the specialist answers",
    "live": "its specialist is live",
    "envelope_turn": "it comes later in a session than what the specialist learned from",
    "envelope_length": "it is longer or shorter than what the specialist learned from",
    "envelope_script": "it uses characters that the specialist never saw",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One request, explained."""

    kind: CallKind
    """What kind of call it is."""

    route: Route
    """Who would be asked to answer."""

    reason: str
    """A fixed word: why."""

    slug: str | None = None
    """The specialist whose pattern it belongs to."""

    version: int | None = None
    """Its version."""

    stage: Stage | None = None
    """Its stage."""

    share: float | None = None
    """Share of the sessions it answers, 0 to 1."""

    shadow: bool = False
    """Whether the specialist would be compared with the upstream."""

    nearest: tuple[Near, ...] = ()
    """The closest patterns with scores and thresholds, closest first."""

    words: WordCheck | None = None
    """What the word filter says; ``None`` where the matcher has none."""

    progress: Progress | None = None
    """What the comparisons of that specialist say, where they were read."""

    standing: Standing | None = None
    """How that specialist does otherwise, and how often the upstream agrees with itself."""

    problems: Mapping[str, str] | None = None
    """What keeps specialists from being served, if anything does."""

    def in_words(self) -> str:
        """Return a few lines for a person."""
        why = _REASONS.get(self.reason, self.reason.replace("_", " "))
        if self.route is Route.SPECIALIST:
            lines = [f"'{self.slug}' version {self.version} would be asked: {why}."]
        else:
            lines = [f"The upstream would answer: {why}."]
        if self.stage is Stage.CANARY and self.share is not None:
            lines.append(f"It answers {self.share:.0%} of its sessions.")
        lines.append(f"It is read as a call of the kind '{self.kind}'.")
        if self.standing is not None:
            lines += self.standing.in_words()
        if self.words is not None:
            verdict = "turned away" if self.words.rejected else "let through"
            lines.append(
                f"Word filter: score {self.words.score:.2f}, threshold "
                f"{self.words.threshold:.2f}, {verdict}."
            )
        for near in self.nearest:
            verdict = "reached" if near.score >= near.threshold else "not reached"
            lines.append(
                f"  {near.slug}: score {near.score:.3f}, threshold {near.threshold:.3f} {verdict}"
                f"; {_limits(near)}"
            )
            if near.bound is not None:
                lines.append(f"    {near.bound.in_words()}")
        lines += [f"Problem: {name}: {text}" for name, text in (self.problems or {}).items()]
        return "\n".join(lines)


def _limits(near: Near) -> str:
    """Return a pattern's envelope in words, and what lies outside it."""
    if near.envelope is None:
        return "not served"
    limits = near.envelope
    text = (
        f"envelope: {limits.min_chars} to {limits.max_chars} characters, "
        f"{limits.max_turn_index} earlier turns at most"
    )
    if limits.ascii_only:
        text += ", ASCII only"
    return text if near.outside is None else f"{text}; outside it: {near.outside}"


def explain_request(
    settings: Settings, text: str, turn_index: int = 0, tenant: str = ""
) -> Explanation:
    """Explain a text as the first call of a user's turn, without a running sidecar.

    Args:
        settings: Name the database, the registry and the models to read.
        text: What the user would type.
        turn_index: How many user turns came before it.
        tenant: For whom; empty is the operator, who sees every specialist.

    Raises:
        StorageError: The database cannot be read.
        TenantError: There is no such tenant.
    """
    return asyncio.run(_explain_alone(settings, text, turn_index, tenant))


async def _explain_alone(
    settings: Settings, text: str, turn_index: int, tenant: str
) -> Explanation:
    source, store = RegistrySource(settings, answering=False), Store(settings.database_path)
    try:
        directory = await read_directory(await store.database())
        if tenant and tenant not in directory.tenants:
            raise TenantError(f"There is no tenant '{tenant}'; see: apprentice tenants list")
        hidden = directory.hidden_from(tenant) if tenant else frozenset[str]()
        specialists = Specialists(source, store)
        conductor = Conductor(store, specialists, settings.rollout)
        await specialists.refresh()
        for rollout in specialists.now.rollouts.values():
            await conductor.look(rollout)
        return await explain(first_call(text, turn_index, ""), specialists, conductor, hidden)
    finally:
        await store.close()
        source.close()


def first_call(text: str, turn_index: int, session: str) -> Call:
    """Return the call that Hermes would make for a user's text."""
    return Call(kind=CallKind.FIRST, model="", session=session, request=text, turn_index=turn_index)


async def explain(
    call: Call,
    specialists: Specialists,
    conductor: Conductor,
    hidden: frozenset[str] = frozenset(),
) -> Explanation:
    """Explain a call that was read already.

    Args:
        call: The call.
        specialists: What is loaded.
        conductor: Knows the comparisons.
        hidden: Specialists that do not exist for whoever asks.
    """
    now = specialists.now
    problems = specialists.problems or None

    def upstream(
        reason: str, outcome: MatchOutcome | None = None, slug: str | None = None
    ) -> Explanation:
        return Explanation(
            kind=call.kind,
            route=Route.UPSTREAM,
            reason=reason,
            slug=slug,
            nearest=outcome.nearest if outcome is not None else (),
            words=outcome.words if outcome is not None else None,
            problems=problems,
        )

    if call.kind is not CallKind.FIRST:
        return upstream("kind")
    if call.refusal is not None:
        return upstream(call.refusal)
    matcher = now.loading.matcher
    if matcher is None or now.idle:
        return upstream("no_specialist")
    outcome = await visible_match(matcher, call, hidden, thorough=True)
    if outcome.match is None:
        return upstream(outcome.reason, outcome)
    found = now.serving(outcome.match.slug, call.session, hidden)
    if found is None:
        return upstream("not_served", outcome, outcome.match.slug)
    loaded, rollout = found.loaded, found.rollout
    # No request, no audit: whether one is drawn depends on the request's id.
    plan = decide(rollout, call.session, "", 0.0)
    return Explanation(
        kind=call.kind,
        route=Route.SPECIALIST if plan.answer else Route.UPSTREAM,
        reason=plan.reason,
        slug=loaded.slug,
        version=loaded.version,
        stage=rollout.stage,
        share=rollout.share,
        shadow=plan.shadow,
        nearest=outcome.nearest,
        words=outcome.words,
        progress=conductor.progress_of(loaded.slug),
        standing=conductor.standing_of(loaded.slug),
        problems=problems,
    )
