"""Operator replies."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.approvals.grammar import HELP, parse_reply
from hermes_apprentice.domain.approval import Action, Reply
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import ReplyError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train gc-7f3a", Reply(action=Action.TRAIN, subject="gc-7f3a")),
        ("  Train GC-7F3A. ", Reply(action=Action.TRAIN, subject="gc-7f3a")),
        ("`skip gc-7f3a`", Reply(action=Action.SKIP, subject="gc-7f3a")),
        ("details", Reply(action=Action.DETAILS, subject="")),
        ("train rt-5c1e0a", Reply(action=Action.TRAIN, subject="rt-5c1e0a")),
        ("details mp-1a2b", Reply(action=Action.DETAILS, subject="mp-1a2b")),
        ("Merge!", Reply(action=Action.MERGE, subject="")),
        ("reject", Reply(action=Action.REJECT, subject="")),
        ("merge mp-1a2b", Reply(action=Action.MERGE, subject="mp-1a2b")),
        ("reject mp-1a2b", Reply(action=Action.REJECT, subject="mp-1a2b")),
        ("rollback ticket-label", Reply(action=Action.ROLLBACK, subject="ticket-label")),
        ("demote ticket-label", Reply(action=Action.DEMOTE, subject="ticket-label")),
        ("budget increase 10", Reply(action=Action.BUDGET_INCREASE, subject="", amount=10_000_000)),
        ("train gc\u20117f3a", Reply(action=Action.TRAIN, subject="gc-7f3a")),
        ('"train\u00a0gc\u20137f3a".', Reply(action=Action.TRAIN, subject="gc-7f3a")),
        (
            "train gc-7f3a as generator",
            Reply(action=Action.TRAIN, subject="gc-7f3a", kind=Kind.GENERATOR),
        ),
        (
            "Train RT-5C1E0A as an Extractor.",
            Reply(action=Action.TRAIN, subject="rt-5c1e0a", kind=Kind.EXTRACTOR),
        ),
        (
            "train gc-7f3a \u2014kind generator",
            Reply(action=Action.TRAIN, subject="gc-7f3a", kind=Kind.GENERATOR),
        ),
        (
            "train --kind=classifier",
            Reply(action=Action.TRAIN, subject="", kind=Kind.CLASSIFIER),
        ),
        ("budget increase $0.5", Reply(action=Action.BUDGET_INCREASE, subject="", amount=500_000)),
    ],
)
def test_every_form_of_the_grammar_is_understood(text: str, expected: Reply) -> None:
    assert parse_reply(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "please train gc-7f3a when you can",
        "train gc-7f3a; skip gc-1111",
        "train ../etc",
        "budget increase -10",
        "budget increase 1e9",
        "merge gc-7f3a",
        "train mp-1a2b",
        "reject rt-5c1e0a",
        "rollback ../../x",
        "trains gc-7f3a",
        "skip gc-7f3a as generator",
        "train gc-7f3a as a",
    ],
)
def test_anything_else_is_refused_with_the_list_of_replies(text: str) -> None:
    with pytest.raises(ReplyError, match="train gc-7f3a, skip gc-7f3a"):
        parse_reply(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("train gc-7f3a, skip gc-1111", "One reply per message, please."),
        ("train gc-7f3a\nskip gc-1111", "One reply per message, please."),
        ("skip mp-1a2b", "A handle with mp- is about a merge: answer merge or reject."),
        ("merge gc-7f3a", "That handle is about a training: answer train or skip."),
        ("train ticket-label", "That is no handle; it begins with gc-, rt- or mp-"),
        ("train gc-xyz", "That is no handle; it begins with gc-, rt- or mp-"),
        ("rollback", "Which specialist? Its name stands in: /apprentice specialists."),
        ("demote Ticket Label", "Which specialist? Its name stands in: /apprentice specialists."),
        ("budget increase", "By how much? An amount in dollars above 0"),
        ("budget increase ten", "By how much? An amount in dollars above 0"),
        ("budget increase 1.005", "By how much? An amount in dollars above 0"),
        ("budget decrease 5", "By how much? An amount in dollars above 0"),
        ("train gc-7f3a as poet", "A specialist is trained as one of: classifier, extractor, gen"),
        ("dance", "That reply was not understood."),
    ],
)
def test_a_reply_that_comes_close_is_told_what_is_wrong_with_it(text: str, advice: str) -> None:
    with pytest.raises(ReplyError, match=f"^{re.escape(advice)}"):
        parse_reply(text)


@given(st.text(max_size=300))
def test_whatever_is_said_is_understood_or_refused_quickly(text: str) -> None:
    try:
        parse_reply(text)
    except ReplyError as error:
        assert str(error).endswith(HELP)
