from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime

import pytest

from hermes_apprentice.demo.texts import Corpus, Sizes, make_corpus
from hermes_apprentice.demo.timeline import (
    CRON_PREFIX,
    DAY,
    FIRST_MESSAGE_NOTE,
    Timeline,
    plan_timeline,
)

NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(random.Random(1), Sizes(order=40, ticket=40, chat=30))


@pytest.fixture(scope="module")
def timeline(corpus: Corpus) -> Timeline:
    return plan_timeline(random.Random(2), corpus, now=NOW, days=21)


def test_sessions_lie_in_the_last_three_weeks_in_order(timeline: Timeline) -> None:
    starts = [session.started_at for session in timeline.sessions]
    assert all(NOW - 21 * DAY - 1 <= start for start in starts)
    assert all(session.ended_at < NOW for session in timeline.sessions)
    # The messenger's whole seconds may put a start up to a second early.
    assert all(later > earlier - 1 for earlier, later in itertools.pairwise(starts))


def test_most_sessions_are_in_working_hours(timeline: Timeline) -> None:
    clocks = [datetime.fromtimestamp(each.started_at, UTC) for each in timeline.sessions]
    working = sum(7 <= clock.hour < 19 and clock.weekday() < 5 for clock in clocks)
    assert working / len(clocks) > 0.8


def test_every_request_has_a_session_that_answers_it(corpus: Corpus, timeline: Timeline) -> None:
    answered = {
        (user.content, answer.content)
        for session in timeline.sessions
        for user, answer in zip(session.rows, session.rows[1:], strict=False)
        if user.role == "user" and answer.finish_reason == "stop"
    }
    for item in corpus:
        if item.tool is None:
            assert (item.request, item.answer) in answered


def test_complete_turns_are_counted_per_task(corpus: Corpus, timeline: Timeline) -> None:
    earlier = [turn.task for item in corpus for turn in item.history]
    assert timeline.exchanges["order"] == 40 + earlier.count("order")
    assert timeline.exchanges["ticket"] == 40 + earlier.count("ticket")
    assert timeline.exchanges["multi_turn"] == 25
    assert timeline.exchanges["tool"] == 20


def test_oddities_are_planned_and_counted(timeline: Timeline) -> None:
    assert timeline.ignored == {
        "cron": 6,
        "subagent": 3,
        "undone": 2,
        "review": 2,
        "unanswered": 2,
    }
    by_source = [session.source for session in timeline.sessions]
    assert by_source.count("cron") == 6
    assert by_source.count("subagent") == 3
    assert sum(session.take_back_from is not None for session in timeline.sessions) == 2
    assert sum(len(session.rows) == 1 for session in timeline.sessions) == 2


def test_scheduled_prompts_are_wrapped_as_hermes_does(timeline: Timeline) -> None:
    for session in timeline.sessions:
        if session.source == "cron":
            assert (session.rows[0].content or "").startswith(CRON_PREFIX)
            assert session.end_reason == "cron_complete"


def test_what_is_undone_is_a_user_row_and_all_after_it(timeline: Timeline) -> None:
    for session in timeline.sessions:
        if session.take_back_from is not None:
            roles = [row.role for row in session.rows[session.take_back_from :]]
            assert roles == ["user", "assistant"]


def test_only_the_very_first_chat_carries_the_note_for_new_users(timeline: Timeline) -> None:
    noted = [
        (session, row) for session in timeline.sessions for row in session.rows if row.api_content
    ]
    assert len(noted) == 1
    session, row = noted[0]
    assert row.api_content == f"{row.content}{FIRST_MESSAGE_NOTE}"
    assert session is next(each for each in timeline.sessions if each.source == "telegram")


def test_a_tool_turn_takes_two_calls_and_four_rows(timeline: Timeline) -> None:
    with_tools = [
        session for session in timeline.sessions if any(row.role == "tool" for row in session.rows)
    ]
    assert len(with_tools) == 20
    for session in with_tools:
        assert session.calls == 2
        user, call, result, answer = session.rows[:4]
        assert call.tool_call is not None
        assert result.answers_call == call.tool_call[:2]
        assert [user.role, call.finish_reason, answer.finish_reason] == [
            "user",
            "tool_calls",
            "stop",
        ]


def test_tokens_grow_with_the_conversation(timeline: Timeline) -> None:
    for session in timeline.sessions:
        total = session.input_tokens + session.cached_tokens
        assert total >= 12_400 * session.calls
        assert (session.calls == 0) == (session.output_tokens == 0)


def test_the_same_seed_plans_the_same_history(corpus: Corpus, timeline: Timeline) -> None:
    assert plan_timeline(random.Random(2), corpus, now=NOW, days=21) == timeline
