"""What is stored of a session is brought in line with what Hermes has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.observer.reconcile import plan
from hermes_apprentice.storage.exchanges import StoredExchange

Make = Callable[..., Exchange]
Record = Callable[..., StoredExchange]


@pytest.fixture
def record(make_exchange: Make) -> Record:
    def make(number: int, answer: str | None = "fine", **changes: Any) -> StoredExchange:
        values = {"asked_at": 100.0 * number, "answered_at": 100.0 * number + 9} | changes
        values.setdefault("ineligible", Ineligible.UNANSWERED if answer is None else None)
        request = values.pop("request", f"request number {'abcdefghij'[number]}")
        exchange = make_exchange(request, answer or "", turn_index=number, **values)
        row = number * 10
        return StoredExchange(
            exchange=exchange, user_row=row, answer_row=None if answer is None else row + 1
        )

    return make


def test_the_same_on_both_sides_changes_nothing(record: Record) -> None:
    both = [record(1), record(2)]
    assert plan(both, both).write == ()


def test_an_answer_that_came_is_new(record: Record) -> None:
    changes = plan([record(1, None)], [record(1, "done")])
    assert (changes.new, changes.updated, changes.incomplete) == (1, 0, 0)


def test_a_request_that_grew_replaces_the_shorter_one(record: Record) -> None:
    short = record(1, None, request="one")
    grown = record(1, "done", request="one\n\ntwo")
    changes = plan([short], [grown])
    assert changes.remove == (short.exchange.exchange_id,)
    assert [r.exchange.request for r in changes.write] == ["one\n\ntwo"]
    assert changes.new == 1


def test_what_is_missing_at_the_end_was_taken_back(record: Record) -> None:
    changes = plan([record(1), record(2), record(3)], [record(1)])
    states = {r.exchange.request[-1]: r.exchange.ineligible for r in changes.write}
    assert states == {"c": Ineligible.WITHDRAWN, "d": Ineligible.WITHDRAWN}
    assert changes.withdrawn == 2


def test_what_is_missing_before_something_left_was_only_dropped(record: Record) -> None:
    changes = plan([record(1), record(2), record(3)], [record(3)])
    assert {(r.exchange.ineligible, r.user_row) for r in changes.write} == {(None, 0)}
    assert changes.withdrawn == changes.updated == 0


def test_what_was_said_before_a_compaction_without_an_archive_was_only_dropped(
    record: Record,
) -> None:
    changes = plan([record(1), record(2), record(3)], [], emptied_at=250.0)
    states = {r.exchange.request[-1]: r.exchange.ineligible for r in changes.write}
    assert states == {"b": None, "c": None, "d": Ineligible.WITHDRAWN}


def test_what_has_no_rows_any_more_is_left_alone(record: Record) -> None:
    gone = replace(record(1), user_row=0, answer_row=0)
    assert plan([gone], []).write == ()


def test_a_new_turn_with_the_words_of_a_dropped_one_is_its_own(record: Record) -> None:
    gone = replace(record(1), user_row=0, answer_row=0)
    again = record(4, request=gone.exchange.request)
    changes = plan([gone], [again])
    assert [r.exchange.exchange_id for r in changes.write if r.user_row] == [
        again.exchange.exchange_id
    ]
    assert changes.new == 1


def test_rows_with_new_times_keep_the_old_name(record: Record) -> None:
    old = record(1)
    moved = record(1, asked_at=5_000.0, answered_at=5_000.0)
    (written,) = plan([old], [replace(moved, user_row=70, answer_row=71)]).write
    assert written.exchange == old.exchange
    assert (written.user_row, written.answer_row) == (70, 71)


def test_a_correction_reaches_back_to_what_was_read_earlier(record: Record) -> None:
    earlier = record(1, request="how far is the moon", answer="12 km")
    changes = plan([], [record(2, request="that's wrong")], before=[earlier])
    assert {r.exchange.request: r.exchange.corrected for r in changes.write} == {
        "how far is the moon": True,
        "that's wrong": False,
    }
    assert (changes.new, changes.updated) == (1, 1)


def test_what_nobody_typed_corrects_nothing(record: Record) -> None:
    asked = record(1, request="how far is the moon")
    note = record(2, request="no, [cron]", ineligible=Ineligible.NOT_A_USER_TURN)
    assert not any(r.exchange.corrected for r in plan([], [asked, note]).write)


def test_token_sums_that_grow_with_the_session_rewrite_nothing(record: Record) -> None:
    assert plan([record(1)], [record(1, input_tokens=5)]).write == ()
