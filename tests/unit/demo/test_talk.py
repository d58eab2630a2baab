from __future__ import annotations

import itertools
import json
import random

from hermes_apprentice.demo.talk import (
    write_chat,
    write_follow_up,
    write_near_miss,
    write_tool_turn,
)
from hermes_apprentice.demo.texts import Sizes, make_corpus


def test_there_are_at_least_250_different_questions() -> None:
    only_chat = Sizes(order=0, ticket=0, chat=250, multi_turn=0, tool=0)
    corpus = make_corpus(random.Random(1), only_chat)
    assert len({item.request for item in corpus}) == 250


def test_no_subject_comes_up_often_enough_to_become_a_pattern() -> None:
    corpus = make_corpus(random.Random(2))

    def shingles(text: str) -> frozenset[tuple[str, str]]:
        return frozenset(itertools.pairwise(text.lower().split()))

    asked = [shingles(item.request) for item in corpus.of("chat")]
    alike = [sum(len(one & two) / len(one | two) > 0.3 for two in asked) for one in asked]
    # A pattern needs fourteen exchanges.
    assert max(alike) <= 7


def test_a_share_of_the_chat_is_about_orders_and_tickets() -> None:
    rng = random.Random(3)
    near = [write_near_miss(rng) for _ in range(200)]
    assert all(item.task == "chat" for item in near)
    assert sum(len(item.request) > 200 for item in near) > 20
    assert {"What does SKU stand for?", "Which labels do we use for tickets?"} <= {
        item.request for item in near
    }


def test_near_misses_are_never_answered_like_the_task() -> None:
    rng = random.Random(4)
    for _ in range(300):
        answer = write_near_miss(rng).answer
        assert not answer.startswith("{")
        assert " " in answer


def test_follow_ups_need_the_turn_before_them() -> None:
    rng = random.Random(5)
    items = [write_follow_up(rng) for _ in range(200)]
    assert all(len(item.history) == 1 and item.tool is None for item in items)
    assert {item.history[0].task for item in items} == {"chat", "order", "ticket"}


def test_a_changed_order_is_answered_with_the_new_quantity() -> None:
    rng = random.Random(6)
    changed = [
        item
        for item in (write_follow_up(rng) for _ in range(400))
        if "Change the quantity to" in item.request
    ]
    assert changed
    for item in changed:
        before, after = json.loads(item.history[0].answer), json.loads(item.answer)
        assert f"to {after['quantity']}." in item.request
        assert {**before, "quantity": after["quantity"]} == after


def test_tool_turns_carry_a_call_and_its_result() -> None:
    rng = random.Random(7)
    for _ in range(50):
        step = write_tool_turn(rng).tool
        assert step is not None
        assert step.name == "terminal"
        assert json.loads(step.arguments)["command"]
        assert json.loads(step.output)["exit_code"] == 0


def test_no_slot_is_left_open() -> None:
    rng = random.Random(8)
    for write in (write_chat, write_follow_up, write_tool_turn):
        for _ in range(400):
            item = write(rng)
            assert "{" not in item.request.replace("'''", "")
            assert "{x}" not in item.answer
