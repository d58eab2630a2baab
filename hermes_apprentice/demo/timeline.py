"""Plans a few weeks of Hermes sessions around the requests of a corpus.

Every request gets a session of its own, as one-shot runs in the terminal and
chats that are reset after each matter do. Between them lie the things that a
reader of real histories must not learn from: scheduled jobs, subagents, turns
taken back, turns without an answer, and Hermes' own review of a conversation.
Knows nothing about databases: a session is planned as values.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from hermes_apprentice.demo.orders import write_order
from hermes_apprentice.demo.request import DemoRequest, Task, Turn

Source = Literal["cli", "telegram", "cron", "subagent"]
_Planner = Callable[[float, float], "PlannedSession"]

DAY = 86_400.0
"""Seconds in a day."""

_PROMPT_TOKENS = 12_400
"""System prompt and tool list of one Hermes call, in tokens."""

_QUIET_END_S = 600.0
"""Seconds before the present in which no session starts, so that all have ended by now."""

_CACHE_SECONDS = 300.0
"""How long the upstream keeps a prompt prefix cached."""

FIRST_MESSAGE_NOTE = (
    "\n\n[System note: This is the user's very first message ever. Introduce yourself in one "
    "sentence.]"
)
"""What Hermes' gateway sends along with the first message of a new user."""

CRON_PREFIX = (
    "[IMPORTANT: You are running as a scheduled cron job. DELIVERY: Your final response will be "
    "delivered automatically.]\n\n"
)
"""How Hermes opens the prompt of a scheduled job."""

_DIGEST = Turn(
    task="chat",
    request="Summarise yesterday's new orders and tickets.",
    answer="Yesterday brought a handful of orders and a few tickets, nothing unusual.",
)
_ERRAND = Turn(
    task="chat",
    request="Find out which of our suppliers publish their price lists online.",
    answer="Two of the five do; the others send them on request.",
)
_CALENDAR = Turn(
    task="chat",
    request="Remind me how we wanted to name the quarterly planning day.",
    answer="You had settled on harvest day, because it closes the quarter.",
)
_REVIEW = Turn(
    task="chat",
    request="Review the conversation above and consider saving to memory if appropriate.",
    answer="Nothing to save.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One message as Hermes stores it."""

    role: Literal["user", "assistant", "tool", "session_meta"]
    """Who speaks; ``session_meta`` rows carry no text."""

    content: str | None
    """The text."""

    timestamp: float
    """Seconds since 1970."""

    finish_reason: str | None = None
    """How the model ended, for assistant rows."""

    tool_call: tuple[str, str, str] | None = None
    """Id, name and arguments of the tool that an assistant row calls."""

    answers_call: tuple[str, str] | None = None
    """Id and name of the call that a tool row answers."""

    api_content: str | None = None
    """The text as it was sent, where that differs from ``content``."""

    platform_message_id: str | None = None
    """The messenger's own number of the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSession:
    """One session with its messages in the order of writing."""

    session_id: str
    """Named the way Hermes names sessions of this source."""

    source: Source
    """Where the session came from."""

    rows: tuple[Row, ...]
    """Its messages."""

    calls: int
    """How often the model was called."""

    input_tokens: int
    """Prompt tokens that were not cached."""

    cached_tokens: int
    """Prompt tokens read from the upstream's cache."""

    output_tokens: int
    """Tokens of the answers."""

    end_reason: str | None
    """Why it ended; ``None`` while it counts as open."""

    parent_session_id: str | None = None
    """The session that started this one."""

    take_back_from: int | None = None
    """Index of the user row from which on the turn was undone."""

    @property
    def started_at(self) -> float:
        """When the first message was written, in seconds since 1970."""
        return min(row.timestamp for row in self.rows)

    @property
    def ended_at(self) -> float:
        """When the last message was written, in seconds since 1970."""
        return max(row.timestamp for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The planned history of one Hermes home."""

    sessions: tuple[PlannedSession, ...]
    """All sessions, oldest first."""

    exchanges: Counter[Task]
    """Complete turns per task; the first turns of follow-ups count under their own task."""

    ignored: Counter[str]
    """Turns that must not be learnt from, per reason."""


def plan_timeline(
    rng: random.Random, requests: Iterable[DemoRequest], *, now: float, days: int = 21
) -> Timeline:
    """Spread one session per request over the last ``days``, in working hours.

    Args:
        rng: The only source of randomness.
        requests: What was asked, in any order.
        now: The present, in seconds since 1970; nothing is planned after it.
        days: How far back the first session may lie.
    """
    exchanges: Counter[Task] = Counter()
    planners: list[_Planner] = []
    for request in requests:
        exchanges[request.task] += 1
        exchanges.update(turn.task for turn in request.history)
        planners.append(_conversation_planner(rng, request))
    oddities = [kind for kind in _oddities(rng) for _ in range(kind.times)]
    for oddity in oddities:
        exchanges.update(oddity.complete_turns)
        planners.append(oddity.plan)
    rng.shuffle(planners)

    starts = sorted(_working_time(rng, now, days) for _ in planners)
    sessions: list[PlannedSession] = []
    previous = 0.0
    for start, plan in zip(starts, planners, strict=True):
        sessions.append(plan(start, start - previous))
        previous = start
    return Timeline(
        sessions=tuple(_adopted(sessions)),
        exchanges=exchanges,
        ignored=Counter(oddity.reason for oddity in oddities),
    )


def _working_time(rng: random.Random, now: float, days: int) -> float:
    """Return a moment of the last ``days``, most likely on a weekday between 7 and 19 o'clock."""
    while True:
        moment = now - rng.uniform(_QUIET_END_S, days * DAY)
        clock = datetime.fromtimestamp(moment, UTC)
        likely = (7 <= clock.hour < 19) and clock.weekday() < 5
        if rng.random() < (1.0 if likely else 0.06):
            return moment


def _conversation_planner(rng: random.Random, request: DemoRequest) -> _Planner:
    source: Source = "cli" if rng.random() < 0.6 else "telegram"
    turns: tuple[Turn | DemoRequest, ...] = (*request.history, request)
    return lambda start, gap: _conversation(rng, source, turns, start, gap)


def _conversation(
    rng: random.Random,
    source: Source,
    turns: tuple[Turn | DemoRequest, ...],
    start: float,
    gap: float,
    *,
    prefix: str = "",
) -> PlannedSession:
    """Lay out the rows of a session whose every turn was answered."""
    clock = start
    rows: list[Row] = []
    calls = prompt = cached = output = 0
    context = _PROMPT_TOKENS
    for turn in turns:
        warm = calls > 0 or gap < _CACHE_SECONDS
        rows.append(_user_row(rng, source, prefix + turn.request, clock))
        context += tokens_of(turn.request)
        tool = turn.tool if isinstance(turn, DemoRequest) else None
        steps = 1
        if tool is not None:
            steps = 2
            call_id = f"call_{rng.getrandbits(48):012x}"
            clock += rng.uniform(0.8, 2.0)
            call = (call_id, tool.name, tool.arguments)
            rows.append(_assistant_row(tool.remark, clock, finish="tool_calls", call=call))
            clock += rng.uniform(0.05, 0.4)
            rows.append(
                Row(
                    role="tool",
                    content=tool.output,
                    timestamp=clock,
                    answers_call=(call_id, tool.name),
                )
            )
            output += tokens_of(tool.arguments)
        answer_tokens = tokens_of(turn.answer)
        clock += 0.6 + rng.random() + 0.012 * answer_tokens
        rows.append(_assistant_row(turn.answer, clock))
        for step in range(steps):
            known = _PROMPT_TOKENS - 900 if warm or step else 0
            cached += known
            prompt += context - known
            calls += 1
        output += answer_tokens
        context += answer_tokens
        if source == "telegram" and turn is turns[0]:
            # The gateway notes the tools of a session once its first turn is stored.
            rows.append(Row(role="session_meta", content=None, timestamp=clock))
        clock += rng.uniform(15, 90)
    endings = {
        "cli": "agent_close",
        "telegram": rng.choice(("session_reset", None)),
        "cron": "cron_complete",
    }
    return PlannedSession(
        session_id=_session_id(rng, source, start),
        source=source,
        rows=tuple(rows),
        calls=calls,
        input_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
        end_reason=endings.get(source),
    )


def _user_row(rng: random.Random, source: Source, text: str, clock: float) -> Row:
    if source != "telegram":
        return Row(role="user", content=text, timestamp=clock)
    return Row(
        role="user",
        content=text,
        # The messenger counts in whole seconds.
        timestamp=float(int(clock)),
        platform_message_id=str(rng.randint(10_000, 99_999)),
    )


def _assistant_row(
    text: str, clock: float, *, finish: str = "stop", call: tuple[str, str, str] | None = None
) -> Row:
    return Row(
        role="assistant", content=text, timestamp=clock, finish_reason=finish, tool_call=call
    )


def _session_id(rng: random.Random, source: Source, start: float) -> str:
    stamp = datetime.fromtimestamp(start, UTC).strftime("%Y%m%d_%H%M%S")
    if source == "cron":
        return f"cron_{rng.getrandbits(48):012x}_{stamp}"
    digits = 8 if source == "telegram" else 6
    return f"{stamp}_{rng.getrandbits(4 * digits):0{digits}x}"


def tokens_of(text: str) -> int:
    """Estimate the tokens of a text: four characters each, at least one."""
    return max(1, (len(text) + 3) // 4)


class _Oddity(NamedTuple):
    """A kind of session that must not be learnt from."""

    reason: str
    times: int
    plan: _Planner
    complete_turns: tuple[Task, ...] = ()


def _oddities(rng: random.Random) -> list[_Oddity]:
    def cron(start: float, gap: float) -> PlannedSession:
        return _conversation(rng, "cron", (_DIGEST,), start, gap, prefix=CRON_PREFIX)

    def subagent(start: float, gap: float) -> PlannedSession:
        return _conversation(rng, "subagent", (_ERRAND,), start, gap)

    def undone(start: float, gap: float) -> PlannedSession:
        session = _conversation(rng, "telegram", (_CALENDAR, write_order(rng)), start, gap)
        last_user = max(i for i, row in enumerate(session.rows) if row.role == "user")
        return replace(session, take_back_from=last_user)

    def review(start: float, gap: float) -> PlannedSession:
        return _conversation(rng, "cli", (_CALENDAR, _REVIEW), start, gap)

    def unanswered(start: float, gap: float) -> PlannedSession:
        session = _conversation(rng, "telegram", (write_order(rng),), start, gap)
        return replace(
            session,
            rows=session.rows[:1],
            calls=0,
            input_tokens=0,
            cached_tokens=0,
            output_tokens=0,
            end_reason=None,
        )

    return [
        _Oddity("cron", 6, cron),
        _Oddity("subagent", 3, subagent),
        _Oddity("undone", 2, undone, ("chat",)),
        _Oddity("review", 2, review, ("chat",)),
        _Oddity("unanswered", 2, unanswered),
    ]


def _adopted(sessions: list[PlannedSession]) -> Iterator[PlannedSession]:
    """Give every subagent a parent, and the first chat the note that new users get."""
    parent: PlannedSession | None = None
    greeted = False
    for session in sessions:
        if session.source == "subagent":
            yield replace(session, parent_session_id=parent.session_id if parent else None)
            continue
        parent = session
        if session.source == "telegram" and not greeted:
            greeted = True
            first = session.rows[0]
            noted = replace(first, api_content=f"{first.content}{FIRST_MESSAGE_NOTE}")
            session = replace(session, rows=(noted, *session.rows[1:]))
        yield session
