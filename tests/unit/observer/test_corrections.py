"""What the user types next says whether an answer was wrong."""

from __future__ import annotations

import pytest

from hermes_apprentice.observer.corrections import asks_again, rejects, was_corrected


@pytest.mark.parametrize(
    "message",
    [
        "no, the other one",
        "No. I want the total",
        "no",
        "Nope",
        "that's wrong",
        "That\N{RIGHT SINGLE QUOTATION MARK}s not right",
        "this is still wrong, look again",
        "it's not what I asked for",
        "wrong",
        "Not what I wanted",
        "I meant the second order",
        "sorry, I meant Tuesday",
        "you forgot the quantity",
        "You misunderstood me",
        "try again",
        "please fix that",
        "wait, no",
        "Nein, die andere",
        "das ist falsch",
        "eso no es lo que pedí",
        "ce n'est pas ça",
    ],
)
def test_a_message_that_turns_the_answer_down_is_recognised(message: str) -> None:
    assert rejects(message, "The total is 12.")


@pytest.mark.parametrize(
    "message",
    [
        "no problem, thanks",
        "No worries!",
        "no thanks",
        "no, that's all",
        "No. 5 Harbour Street, please",
        "note this down",
        "now label this one: it does not start",
        "wrong number on the invoice, whom do I tell?",
        "nothing else",
        "can you correct the spelling of this text",
        "fix the bug in parser.py",
        "Noah wants two of them",
        "not sure what to cook today",
    ],
)
def test_a_message_about_something_else_is_not(message: str) -> None:
    assert not rejects(message, "The total is 12.")


def test_a_plain_no_replies_to_a_question() -> None:
    assert not rejects("no, keep it", "Shall I delete the file?")
    assert rejects("no, keep it", "I deleted the file.")
    assert rejects("no, that's wrong", "Shall I go on?")


def test_the_same_request_again_counts_and_a_similar_one_does_not() -> None:
    request = "extract the order: 5 pieces of AB-12 for Mara"
    assert asks_again(request, request)
    assert asks_again(request, "Please extract the order again: 5 pieces of AB-12 for Mara!")
    assert asks_again(request, f"{request} as JSON")
    assert asks_again("wether forecast for Porto", "weather forecast for Porto")
    assert not asks_again(request, request.replace("5", "6"))
    assert not asks_again(request, request.replace("AB-12", "AB-13"))
    assert not asks_again("weather forecast for Porto", "weather forecast for Paris")
    assert not asks_again("label: printer jammed", "label: scanner broken")
    assert not asks_again("ok", "ok")


def test_long_texts_must_be_equal() -> None:
    text = "word " * 10_000
    assert asks_again(text, text)
    assert not asks_again(text, text + "more")


def test_only_the_next_three_requests_count_and_only_the_next_can_turn_down() -> None:
    others = ["sum up the news", "and the sports", "thank you"]
    again = "convert 12 miles to km"
    assert was_corrected(again, "19", [*others[:2], again])
    assert not was_corrected(again, "19", [*others, again])
    assert was_corrected(again, "19", ["that's wrong"])
    assert not was_corrected(again, "19", ["sum up the news", "that's wrong"])
    assert not was_corrected(again, "19", [])
