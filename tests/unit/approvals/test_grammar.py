"""Operator replies."""

import pytest

from hermes_apprentice.approvals.grammar import parse_reply
from hermes_apprentice.domain.approval import Action, Reply
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
    ],
)
def test_anything_else_is_refused_with_the_list_of_replies(text: str) -> None:
    with pytest.raises(ReplyError, match="train gc-7f3a, skip gc-7f3a"):
        parse_reply(text)
