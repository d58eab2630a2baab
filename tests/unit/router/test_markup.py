"""What is not built here is escaped."""

from __future__ import annotations

import pytest

from hermes_apprentice.router.markup import Markup, joined, tag

POISON = """<script>alert('1')</script>"&amp;"""


def test_text_is_escaped_and_elements_are_not() -> None:
    inner = tag("b", POISON)
    assert "<script" not in inner
    assert tag("p", inner, POISON).count("<b>") == 1
    assert joined(POISON, inner).count("&lt;script&gt;") == 2


def test_attributes_cannot_be_left() -> None:
    written = tag("p", title=f'" onclick="x{POISON}')
    assert written.count('"') == 2
    assert "<script" not in written


def test_names_of_attributes_are_those_of_html() -> None:
    assert tag("p", class_="a", aria_label="b", hidden=True, id=None) == (
        '<p class="a" aria-label="b" hidden></p>'
    )
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert tag("meta", name="n") == '<meta name="n">'


@pytest.mark.parametrize("made", [Markup("<b>") + POISON, str(Markup("<b>"))])
def test_markup_that_was_added_to_is_text_again(made: str) -> None:
    assert "<b>" not in tag("p", made)
