"""Writes what no specialist should answer: free talk, follow-ups, turns with tools.

Free talk jumps from subject to subject, so that it never repeats often enough
to become a pattern; a fifth of it is about orders and tickets without being
one of the two tasks.
"""

from __future__ import annotations

import json
import random

from hermes_apprentice.demo.orders import write_order, write_order_mail
from hermes_apprentice.demo.phrasing import chat_home, chat_work, followups, negatives
from hermes_apprentice.demo.request import DemoRequest, ToolStep, Turn
from hermes_apprentice.demo.tickets import LABELS, write_ticket, write_ticket_text

NEAR_MISS_SHARE = 0.2
"""Share of the free talk that is about orders or tickets."""

_SMALL_TALK = (*chat_home.HOME, *chat_work.WORK)
_ABOUT = (*negatives.ABOUT_ORDERS, *negatives.ABOUT_TICKETS)
_CARRYING = (*negatives.WITH_MAIL, *negatives.WITH_TICKET)


def write_chat(rng: random.Random) -> DemoRequest:
    """Write a one-off question with its answer."""
    if rng.random() < NEAR_MISS_SHARE:
        return write_near_miss(rng)
    question, answer, options = rng.choice(_SMALL_TALK)
    slot = rng.choice(options)
    return DemoRequest(task="chat", request=question.format(x=slot), answer=answer.format(x=slot))


def write_near_miss(rng: random.Random) -> DemoRequest:
    """Write a request about an order or a ticket that asks for something else."""
    if rng.random() < 0.65:
        question, answer = rng.choice(_ABOUT)
        return DemoRequest(task="chat", request=question, answer=answer)
    question, answer = rng.choice(_CARRYING)
    if "{mail}" in question:
        request = question.format(mail=write_order_mail(rng).text)
    else:
        request = question.format(ticket=write_ticket_text(rng, rng.choice(LABELS)))
    return DemoRequest(task="chat", request=request, answer=answer)


def write_follow_up(rng: random.Random) -> DemoRequest:
    """Write a second turn, together with the turn that it follows."""
    first = rng.choices((write_chat, write_order, _any_ticket), weights=(3, 1, 1))[0](rng)
    table = {
        "chat": followups.FOLLOW_UPS,
        "order": followups.AFTER_ORDER,
        "ticket": followups.AFTER_TICKET,
    }[first.task]
    question, answer = rng.choice(table)
    slots: dict[str, str] = {
        "question": first.request,
        "short": first.answer.split(". ")[0],
        "label": first.answer,
        "n": str(rng.randint(3, 90)),
    }
    if first.task == "order":
        order = json.loads(first.answer)
        slots["sku"] = order["sku"]
        order["quantity"] = int(slots["n"])
        slots["changed"] = json.dumps(order, ensure_ascii=False, separators=(",", ":"))
    return DemoRequest(
        task="multi_turn",
        request=rng.choice(followups.LEAD_INS) + question.format(**slots),
        answer=answer.format(**slots),
        history=(Turn(task=first.task, request=first.request, answer=first.answer),),
    )


def write_tool_turn(rng: random.Random) -> DemoRequest:
    """Write a request that is answered with the help of one harmless shell command."""
    question, command, output, answer, options = rng.choice(followups.TOOL_TASKS)
    slots = {
        "x": rng.choice(options),
        "a": str(rng.randint(2, 9)),
        "b": str(rng.randint(10, 59)),
        "c": str(rng.randint(10, 23)),
    }
    result = {"output": output.format(**slots), "exit_code": 0, "error": None}
    return DemoRequest(
        task="tool",
        request=question.format(**slots),
        answer=answer.format(**slots),
        tool=ToolStep(
            name="terminal",
            arguments=json.dumps({"command": command.format(**slots)}),
            output=json.dumps(result),
            remark="Let me check.",
        ),
    )


def _any_ticket(rng: random.Random) -> DemoRequest:
    return write_ticket(rng, rng.choice(LABELS))
