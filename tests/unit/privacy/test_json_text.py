from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.privacy.json_text import Leaf, documents, leaves, rewrite

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


@given(st.one_of(st.lists(JSON), st.dictionaries(st.text(), JSON)), st.sampled_from([None, 2]))
def test_a_document_that_is_not_changed_stays_as_written(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert rewrite(text, lambda leaf: leaf.value) == text


def _suffixed(value: object) -> object:
    if isinstance(value, str):
        return value + '"\\\n!'
    if isinstance(value, list):
        return [_suffixed(v) for v in value]
    if isinstance(value, dict):
        return {_suffixed(k): _suffixed(v) for k, v in value.items()}
    return value


@given(st.one_of(st.lists(JSON), st.dictionaries(st.text(), JSON)), st.booleans())
def test_exactly_the_strings_are_changed(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads(rewrite(text, lambda leaf: leaf.value + '"\\\n!')) == _suffixed(value)


def test_every_leaf_knows_the_key_it_stands_under() -> None:
    text = '{"customerPhone": ["a", 12], "mail_to": {"x": "b"}}'
    assert list(leaves(text)) == [
        Leaf("", "customerPhone", False),
        Leaf("customer Phone", "a", False),
        Leaf("customer Phone", "12", True),
        Leaf("", "mail_to", False),
        Leaf("", "x", False),
        Leaf("x", "b", False),
    ]


def test_documents_are_the_whole_text_or_fenced_blocks() -> None:
    assert [(" [1]\n")[d.start : d.end] for d in documents(" [1]\n")] == ["[1]"]
    fenced = 'a\n```json\n{"x": 1}\n```\nb\n```\nno json\n```'
    assert [fenced[d.start : d.end] for d in documents(fenced)] == ['{"x": 1}']
    assert documents("plain") == documents('"text"') == documents("{broken") == []
    assert documents("[" * 100_000) == []
