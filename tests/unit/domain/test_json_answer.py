from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.json_answer import MAX_AROUND, infer_style, render, split_json
from hermes_apprentice.domain.shape import JsonStyle

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
OBJECTS = st.dictionaries(
    st.text(min_size=1),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
    max_size=5,
)


@given(
    value=OBJECTS,
    indent=st.sampled_from([None, 1, 2, 4]),
    separators=st.sampled_from([(", ", ": "), (",", ":"), (", ", ":")]),
    ensure_ascii=st.booleans(),
    frame=st.sampled_from([("", ""), ("```json\n", "\n```"), ("Here it is: ", "\n")]),
)
def test_what_was_rendered_is_read_back_and_rendered_again(
    value: dict[str, object],
    indent: int | None,
    separators: tuple[str, str],
    ensure_ascii: bool,
    frame: tuple[str, str],
) -> None:
    style = JsonStyle(
        indent=indent,
        item_separator=separators[0],
        key_separator=separators[1],
        ensure_ascii=ensure_ascii,
        prefix=frame[0],
        suffix=frame[1],
    )
    text = render(style, value)
    parts = split_json(text)

    assert parts is not None
    assert parts.value == value
    assert parts.prefix + parts.body + parts.suffix == text
    assert render(infer_style([parts]), value) == text


@given(st.text())
def test_any_text_is_taken_apart_or_refused_without_an_error(text: str) -> None:
    parts = split_json(text)

    assert parts is None or parts.prefix + parts.body + parts.suffix == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no object here",
        "{broken",
        '[{"a": 1}]',
        '[1, {"a": 1}',
        '{"a": 1}, {"b": 2}',
        '{"a": 1}\n{"b": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        "x" * (MAX_AROUND + 1) + '{"a": 1}',
    ],
)
def test_what_is_not_one_object_is_refused(text: str) -> None:
    assert split_json(text) is None


def test_answers_that_tell_little_do_not_outvote_those_that_tell() -> None:
    telling = [json.dumps({"a": 1, "b": "\u00fc"}, separators=(",", ": "), ensure_ascii=False)] * 3
    mute = [json.dumps({"a": 1})] * 20
    style = infer_style(part for text in (*mute, *telling) if (part := split_json(text)))

    assert (style.item_separator, style.key_separator, style.ensure_ascii) == (",", ": ", False)


def test_no_answers_have_the_plain_style() -> None:
    assert infer_style([]) == JsonStyle()
