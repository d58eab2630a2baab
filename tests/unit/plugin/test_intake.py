"""What is said to Apprentice is told from what is said to the agent."""

from __future__ import annotations

import pytest

from hermes_apprentice.plugin.intake import Heard, Known, listen, plausible

KNOWN = Known(frozenset({"gc-7f3a"}), frozenset({"ticket-label"}))
NOTHING = Known()
QUESTION = "A request keeps coming back: ticket, label (gc-7f3a)."


@pytest.mark.parametrize(
    "text",
    [
        "train gc-7f3a",
        "Skip gc-7f3a.",
        "details",
        "demote ticket-label",
        "rollback ticket-label",
        "budget increase 10",
        "skip mp-1a2b",
        "train gc\u20117f3a",  # as a phone writes it
        "budget increase -10",
        "train gc-zzzz",  # a slip of the finger is answered by us, not by the agent
    ],
)
def test_replies_are_heard(text: str) -> None:
    assert listen(text, KNOWN) == Heard(text, command=False)
    assert plausible(text)


@pytest.mark.parametrize(
    "text",
    [
        "please train gc-7f3a when you can",
        "Train me for the marathon",
        "demote the intern",
        "rollback migration-0042",
        "what do the details say?",
        "",
    ],
)
def test_what_is_meant_for_the_agent_passes(text: str) -> None:
    assert listen(text, KNOWN) is None


@pytest.mark.parametrize("word", ["train", "skip", "details"])
def test_a_bare_word_is_the_agents_when_nothing_is_open(word: str) -> None:
    assert listen(word, NOTHING) is None
    assert listen(word, KNOWN) is not None


def test_a_bare_word_in_a_group_needs_a_quoted_question() -> None:
    assert listen("train", KNOWN, private=False) is None
    assert listen("train", KNOWN, private=False, quoted=QUESTION) is not None


def test_in_a_group_the_bot_may_be_named() -> None:
    heard = listen("@our_bot, train gc-7f3a", KNOWN, private=False, bot="Our_Bot")
    assert heard == Heard("train gc-7f3a", command=False)
    assert plausible("@our_bot train gc-7f3a")
    assert listen("@somebody train gc-7f3a", KNOWN, private=False, bot="our_bot") is None


def test_a_bare_word_that_quotes_something_else_is_the_agents() -> None:
    assert listen("details", KNOWN, quoted="The agent's summary of your inbox.") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/apprentice", Heard("", command=True)),
        ("/apprentice train gc-7f3a", Heard("train gc-7f3a", command=True)),
        ("/Apprentice@our_bot  specialists ", Heard("specialists", command=True)),
        ("/apprentice@other_bot specialists", None),
        ("/apprentices", None),
    ],
)
def test_commands_are_heard(text: str, expected: Heard | None) -> None:
    assert listen(text, NOTHING, bot="our_bot") == expected


def test_long_texts_are_not_even_looked_at() -> None:
    assert not plausible("/apprentice " + "x" * 500)
    assert not plausible("Tell me about lighthouses.")


@pytest.mark.parametrize("word", ["merge", "reject"])
def test_a_bare_merge_is_ours_only_while_a_merge_is_open(word: str) -> None:
    merging = Known(frozenset({"mp-1a2b"}))
    assert plausible(word)
    assert listen(word, KNOWN) is None
    assert listen(word, merging) == Heard(word, command=False)
    assert listen("train", merging) is None
    assert listen(word, merging, private=False) is None
    assert listen(word, merging, private=False, quoted="(mp-1a2b)") is not None


@pytest.mark.parametrize("text", ["merge mp-1a2b", "merge mp-zzzz", "train rt-5c1e0a"])
def test_a_handle_is_always_ours(text: str) -> None:
    assert listen(text, NOTHING) == Heard(text, command=False)
