from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.approvals.plain_text import fitting
from hermes_apprentice.detector.naming import MAX_SLUG, name

TICKETS = [f"Label this support ticket please: {word} is broken" for word in ("it", "app", "x")]
OTHERS = ["What is a good stretch?", "Who painted this please", "Tell me about bridges"]


def test_a_name_is_made_of_what_the_requests_share() -> None:
    called = name(TICKETS, OTHERS, taken=(), mark="7f3a")

    assert set(called.label.split(", ")) <= {"label", "support", "ticket", "broken"}
    assert called.slug == called.label.replace(", ", "-")


def test_words_of_the_labels_are_not_used() -> None:
    called = name(TICKETS, OTHERS, taken=(), mark="7f3a", avoid=("broken ticket",))

    assert not {"broken", "ticket"} & set(called.label.split(", "))


def test_names_never_repeat() -> None:
    taken: list[str] = []
    for _ in range(4):
        taken.append(name(TICKETS, OTHERS, taken=taken, mark="7f3a").slug)

    assert len(set(taken)) == 4


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd $(rm -rf /) `id`",
        "<script>alert(1)</script>",
        "名前 を 教えて ください",
        "ÄÖÜß straße größe",
        "\u202eevil\u202c \x00\x1b[31mred",
        "x" * 500 + " " + "y" * 21,
        "1234 5678",
        "",
        "---",
        "registrymatcher",
    ],
)
def test_request_text_never_gets_into_a_slug_as_it_is(text: str) -> None:
    called = name([text] * 5, OTHERS, taken=(), mark="7f3a")

    assert re.fullmatch(r"[a-z][a-z]*(-[a-z0-9]+)+", called.slug)
    assert len(called.slug) <= MAX_SLUG
    assert re.fullmatch(r"[\w, ]+", called.label)


@given(st.text(alphabet="_*[]()~>#+-=|{}.!`@: abtickets\u200b", max_size=80))
def test_a_name_reads_the_same_in_every_message(text: str) -> None:
    called = name([text] * 5, OTHERS, taken=(), mark="7f3a")

    assert "_" not in called.label + called.slug
    assert fitting(called.label) == called.label
    assert fitting(f"demote {called.slug}") == f"demote {called.slug}"


def test_words_of_few_requests_are_not_used() -> None:
    requests = [f"sort this ticket from {person}" for person in ("Ida", "Bruno", "Selma", "Otto")]
    called = name(
        [*requests, *requests, "sort this ticket from Wilfrieda"], OTHERS, taken=(), mark="7f3a"
    )

    assert "wilfrieda" not in called.label
