"""Rows become turns; rows written again become none."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.exchange import Ineligible
from hermes_apprentice.observer.copies import emptied_archive_at, with_copies
from hermes_apprentice.observer.session_rows import MessageRow, RowState, SessionRow
from hermes_apprentice.observer.turns import assemble, copied_from, to_exchange

SUMMARY = "[CONTEXT COMPACTION — REFERENCE ONLY] Earlier turns were compacted."


def row(number: int, role: str, content: str | None, **changes: Any) -> MessageRow:
    values: dict[str, Any] = {
        "row_id": number,
        "session_id": "s",
        "role": role,
        "content": content,
        "chars": len(content or ""),
        "calls_tools": False,
        "tool_call_id": None,
        "timestamp": 1_000.0 + number,
        "token_count": None,
        "finish_reason": "stop" if role == "assistant" else None,
        "observed": False,
        "state": RowState.LIVE,
    } | changes
    return MessageRow(**values)


def conversation(*texts: str, first: int = 1) -> list[MessageRow]:
    """Requests and answers in turns."""
    return [
        row(first + index, ("user", "assistant")[index % 2], text)
        for index, text in enumerate(texts)
    ]


def compacted(rows: list[MessageRow], kept: list[MessageRow], **changes: Any) -> list[MessageRow]:
    """What is in the database after a compaction that kept some of the rows."""
    archived = [r._replace(state=RowState.ARCHIVED) for r in rows]
    first = rows[-1].row_id + 1
    return archived + [
        r._replace(row_id=first + index, **{k: v(index) for k, v in changes.items()})
        for index, r in enumerate(kept)
    ]


def at_once(index: int) -> float:
    return 5_000.0 + index * 1e-6


SESSION = SessionRow("s", "cli", "big", 0.0, None, 0, 0, 0, 0)


def test_notes_of_hermes_are_not_part_of_the_request() -> None:
    rows = conversation(
        "[System note: Your previous turn was interrupted.]\n\nlist my tasks\n\n"
        "[System note: This is the first message ever.]",
        "none",
    )
    (turn,) = assemble(rows)
    assert (turn.request, turn.typed) == ("list my tasks", True)
    (only_a_note,) = assemble(conversation("[System note: The browser was connected.]", "fine"))
    assert not only_a_note.typed


def test_a_nudge_continues_an_unfinished_turn_and_starts_one_after_a_finished() -> None:
    rows = [
        row(1, "user", "go"),
        row(2, "assistant", "half", finish_reason="length"),
        row(3, "user", "[System: The previous response was cut off]"),
        row(4, "assistant", "whole"),
        row(5, "user", "[System: A background process ended]"),
        row(6, "assistant", "noted"),
    ]
    first, second = assemble(rows)
    assert (first.request, first.answer, first.calls) == ("go", "whole", 2)
    assert (second.typed, second.answer) == (False, "noted")


def test_verification_is_part_of_the_turn() -> None:
    rows = [
        row(1, "user", "change it"),
        row(2, "assistant", "changed", finish_reason="verification_required"),
        row(3, "assistant", "changed and checked"),
    ]
    (turn,) = assemble(rows)
    assert (turn.answer, turn.calls) == ("changed and checked", 2)


def test_rows_without_a_finish_reason_are_answers_unless_a_marked_one_comes() -> None:
    unmarked = row(2, "assistant", "a", finish_reason=None)
    assert assemble([row(1, "user", "x"), unmarked])[0].answer == "a"
    marked = assemble([row(1, "user", "x"), unmarked, row(3, "assistant", "b")])[0]
    assert (marked.answer, marked.calls) == ("b", 1)
    later = row(4, "assistant", "delivered", finish_reason=None)
    assert assemble([row(1, "user", "x"), row(3, "assistant", "b"), later])[0].answer == "b"


def test_a_message_saved_twice_was_sent_once() -> None:
    rows = [row(1, "user", "hi there"), row(2, "user", "hi there"), row(3, "assistant", "hello")]
    assert [turn.request for turn in assemble(rows)] == ["hi there"]


def test_a_request_after_one_taken_back_joins_the_open_one_before() -> None:
    rows = [
        row(1, "user", "first"),
        row(2, "user", "oops", state=RowState.WITHDRAWN),
        row(3, "assistant", "what?", state=RowState.WITHDRAWN),
        row(4, "user", "second"),
        row(5, "assistant", "both done"),
    ]
    turns = {turn.request: turn for turn in assemble(rows)}
    assert turns.keys() == {"first\n\nsecond", "oops"}
    assert turns["oops"].withdrawn
    assert turns["first\n\nsecond"].answer == "both done"


def test_broken_multimodal_content_is_an_attachment() -> None:
    (turn,) = assemble(conversation("\x00json:[broken", "what?"))
    assert turn.attachment


def test_copies_at_one_moment_are_recognised_though_all_answers_are_alike() -> None:
    said = conversation("a", "ok", "b", "ok", "c", "ok")
    summary = row(0, "assistant", SUMMARY)
    rows = compacted(said, [said[0], said[1], summary, *said[4:]], timestamp=at_once)
    rows += conversation("d", "ok", "a", "ok", first=20)
    assert [turn.request for turn in assemble(rows)] == ["a", "b", "c", "d", "a"]


def test_rows_first_written_at_one_moment_are_no_copies_of_each_other() -> None:
    said = [r._replace(timestamp=at_once(i)) for i, r in enumerate(conversation(*("x", "ok") * 4))]
    rows = compacted(said, [row(0, "user", SUMMARY), *said[-2:]])
    assert len(assemble(rows)) == 4


def test_requests_joined_on_the_way_are_copies_too() -> None:
    said = [
        *conversation("a", "1"),
        row(3, "user", "b"),
        row(4, "user", "c"),
        row(5, "assistant", "2"),
    ]
    joined = row(3, "user", "b\n\nc")
    rows = compacted(said, [row(0, "user", SUMMARY), joined, said[-1]])
    rows += conversation("d", "3", first=20)
    assert [turn.request for turn in assemble(rows)] == ["a", "b\n\nc", "d"]


def test_a_request_that_the_summary_was_put_into_is_still_the_request() -> None:
    said = [*conversation("a", "1"), row(3, "user", "b")]
    merged = row(
        3,
        "user",
        "[PRIOR CONTEXT — for reference only; not a new message]\nb\n\n"
        f"[END OF PRIOR CONTEXT — COMPACTION SUMMARY BELOW]\n\n{SUMMARY}",
    )
    rows = [*compacted(said, [*said[:2], merged]), row(20, "assistant", "2")]
    assert [(turn.request, turn.answer) for turn in assemble(rows)] == [("a", "1"), ("b", "2")]


def test_two_compactions_in_a_row_leave_one_of_each() -> None:
    said = conversation("a", "1", "b", "2")
    once = compacted(said, [said[0], row(0, "assistant", SUMMARY), *said[2:]], timestamp=at_once)
    kept = [r for r in once if r.state is RowState.LIVE]
    twice = compacted(once, [kept[0], row(0, "assistant", SUMMARY), *kept[2:]])
    assert [turn.request for turn in assemble(twice)] == ["a", "b"]


def test_an_answer_after_a_summary_is_not_given_to_the_request_before_it() -> None:
    rows = [
        row(1, "user", "kept head"),
        row(2, "assistant", SUMMARY),
        row(3, "assistant", "answer of a turn that was summarised"),
        *conversation("next", "fine", first=4),
    ]
    head, following = assemble(rows)
    assert (head.answer_row, following.answer) == (None, "fine")


def test_an_archive_that_is_gone_is_told_by_the_summary_that_is_left() -> None:
    summary = row(3, "user", SUMMARY)
    assert emptied_archive_at([summary, *conversation("a", "1", first=4)]) == summary.timestamp
    assert emptied_archive_at([row(1, "user", "a", state=RowState.ARCHIVED), summary]) is None
    assert emptied_archive_at(conversation("a", "1")) is None


def test_a_branch_copies_in_order_until_something_new_is_said() -> None:
    parent = assemble(conversation("a", "1", "b", "2", "a", "1"))
    child = assemble(conversation("a", "1", "b", "2", "new", "3", "a", "1", first=50))
    assert copied_from(child, [parent], 2_000.0) == 2
    assert copied_from(child, [], 2_000.0) == 0
    assert copied_from(child, [parent], 1_000.5) == 1


def test_a_branch_of_a_branch_may_copy_from_both() -> None:
    grandparent = assemble(conversation("a", "1", "b", "2"))
    parent = assemble(conversation("a", "1", first=20))
    child = assemble(conversation("a", "1", "b", "2", "c", "3", first=40))
    assert copied_from(child, [parent, grandparent], 2_000.0) == 2


def test_tokens_are_spread_or_estimated_and_never_zero_for_text() -> None:
    (turn,) = assemble(conversation("how long is this", "quite short"))

    def tokens(**sums: int) -> tuple[int, int]:
        exchange = to_exchange(turn, SESSION._replace(**sums), "default")
        return exchange.input_tokens, exchange.output_tokens

    assert tokens() == (4, 3)
    assert tokens(calls=1, prompt_tokens=9_000, output_tokens=7) == (9_000, 7)
    assert tokens(calls=4, prompt_tokens=36_000, output_tokens=900) == (9_000, 3)
    assert tokens(calls=4, prompt_tokens=36_000, reasoning_tokens=400) == (9_000, 103)
    (recorded,) = assemble([row(1, "user", "x"), row(2, "assistant", "y", token_count=55)])
    assert to_exchange(recorded, SESSION, "default").output_tokens == 55
    (short,) = assemble(conversation("a", "b"))
    exchange = to_exchange(short, SESSION._replace(calls=3, prompt_tokens=1), "default")
    assert (exchange.input_tokens, exchange.output_tokens) == (1, 1)


def test_a_blank_answer_is_empty_and_a_withdrawn_turn_is_withdrawn_before_all() -> None:
    (blank,) = assemble(conversation("say nothing", "   "))
    assert to_exchange(blank, SESSION, "p").ineligible is Ineligible.EMPTY
    rows = [r._replace(state=RowState.WITHDRAWN) for r in conversation("x", "y")]
    (taken,) = assemble(rows)
    cron = SESSION._replace(source="cron")
    assert to_exchange(taken, cron, "p").ineligible is Ineligible.WITHDRAWN


@given(
    st.lists(st.sampled_from(["yes", "no", "again"]), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.booleans(),
)
def test_a_compaction_never_changes_the_turns(
    answers: list[str], head: int, tail: int, keeps_times: bool
) -> None:
    texts = [text for i, answer in enumerate(answers) for text in (f"request {i % 4}", answer)]
    said = conversation(*texts)
    head, tail = min(head, len(said)), min(tail, max(0, len(said) - head))
    kept = [*said[:head], row(0, "assistant", SUMMARY), *said[len(said) - tail :]]
    changes = {} if keeps_times else {"timestamp": at_once}
    rows = compacted(said, kept, **changes)
    words = [(turn.request, turn.answer, turn.turn_index) for turn in assemble(said)]
    assert [(turn.request, turn.answer, turn.turn_index) for turn in assemble(rows)] == words
    later = [*rows, *conversation("request 0", "yes", first=900)]
    assert len(assemble(later)) == len(words) + 1


@given(st.lists(st.sampled_from(["user", "assistant", "tool", "system"]), max_size=20))
def test_any_order_of_roles_is_survived(roles: list[str]) -> None:
    rows = [row(index + 1, role, f"text {index}") for index, role in enumerate(roles)]
    turns = assemble(rows)
    assert sum(turn.request.count("text") for turn in turns) == roles.count("user")
    assert len(with_copies(rows)) == len(rows)
