from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.prompt import Message, PromptTemplate, render


def test_a_template_without_a_system_text_sends_only_the_request() -> None:
    assert render(PromptTemplate(), "book a table") == (Message("user", "book a table"),)


def test_the_system_text_comes_first() -> None:
    template = PromptTemplate(system="Answer in JSON.", user="Order: {request}\nJSON:")
    assert render(template, "2 lamps") == (
        Message("system", "Answer in JSON."),
        Message("user", "Order: 2 lamps\nJSON:"),
    )


@given(st.text())
def test_a_request_is_inserted_as_it_stands(request: str) -> None:
    assert render(PromptTemplate(user="<{request}>"), request)[-1].content == f"<{request}>"


@pytest.mark.parametrize("user", ["", "no place", "{request} {request}"])
def test_a_template_has_one_place_for_the_request(user: str) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        PromptTemplate(user=user)
