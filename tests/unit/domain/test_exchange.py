"""What the user typed, and how an exchange is named."""

from __future__ import annotations

import pytest

from hermes_apprentice.domain.exchange import exchange_id, typed_by_a_person, user_text


@pytest.mark.parametrize(
    "content",
    [
        "label this",
        "  label this\n",
        "label this\n\n[System note: This is the user's very first message ever. Be kind.]",
        "[System note: the last turn was interrupted.]\nlabel this",
        "[System note: one.] [System note: two.]\n\nlabel this\n\n[System note: three",
    ],
)
def test_notes_of_hermes_are_taken_off(content: str) -> None:
    assert user_text(content) == "label this"


def test_brackets_of_the_users_own_stay() -> None:
    assert user_text("what does [System note] mean?") == "what does [System note] mean?"


@pytest.mark.parametrize(
    "content",
    [
        "[System: The previous response was cut off.",
        "[IMPORTANT: You are running as a scheduled cron job. Deliver.",
        "Review the conversation above and consider saving to memory.",
        "  [CONTEXT COMPACTION - REFERENCE ONLY]",
    ],
)
def test_what_hermes_writes_itself_was_typed_by_nobody(content: str) -> None:
    assert not typed_by_a_person(content)
    assert typed_by_a_person(f"Why does it say: {content}")


def test_a_name_survives_a_rewrite_that_keeps_time_and_text() -> None:
    first = exchange_id("default", "s", 12.0004, "hello")
    assert exchange_id("default", "s", 12.0001, "hello") == first
    assert exchange_id("default", "s", 12.002, "hello") != first
    assert exchange_id("default", "s", 12.0004, "hello!") != first
    assert exchange_id("work", "s", 12.0004, "hello") != first
