from __future__ import annotations

import json

import pytest

from hermes_apprentice.domain.evaluation import agrees, f1, label_key, leaves, parse_json
from hermes_apprentice.domain.shape import Shape, ShapeKind

LABEL = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
OBJECT = Shape(kind=ShapeKind.JSON, agreement=1.0)
TEXT = Shape(kind=ShapeKind.TEXT, agreement=1.0)


@pytest.mark.parametrize(
    ("shape", "left", "right"),
    [
        (LABEL, "Bug", " bug\n"),
        (LABEL, "**bug**", "bug."),
        (OBJECT, '{"a": 1, "b": "x"}', '```json\n{\n  "b": "x",\n  "a": 1\n}\n```'),
        (OBJECT, '{"a": 1, "b": null}', '{"a": 1}'),
        (OBJECT, '{"a": 1, "b": {"c": ""}}', '{"a": 1, "b": {}}'),
        (OBJECT, '{"a": 1.0}', '{"a": 1}'),
        (OBJECT, 'The order: {"a": 1}', '{"a": 1}'),
        (TEXT, "two  words\n", "two words"),
    ],
)
def test_equal_answers_agree(shape: Shape, left: str, right: str) -> None:
    assert agrees(shape, left, right)
    assert agrees(shape, right, left)


@pytest.mark.parametrize(
    ("shape", "left", "right"),
    [
        (LABEL, "bug", "billing"),
        (LABEL, "bug", "bug report"),
        (OBJECT, '{"a": 1}', '{"a": 2}'),
        (OBJECT, '{"a": 1}', '{"a": true}'),
        (OBJECT, '{"a": 1}', '{"a": "1"}'),
        (OBJECT, '{"a": 0}', '{"a": false}'),
        (OBJECT, '{"a": 0}', "{}"),
        (OBJECT, '{"a": [1, 2]}', '{"a": [2, 1]}'),
        (OBJECT, '{"a": ["bool", true]}', '{"a": true}'),
        (OBJECT, "sorry", "sorry"),
        (TEXT, "two words", "three words"),
    ],
)
def test_different_answers_do_not_agree(shape: Shape, left: str, right: str) -> None:
    assert not agrees(shape, left, right)


def test_label_keys_keep_what_tells_labels_apart() -> None:
    assert label_key('"Feature-Request"!') == label_key("feature-request")
    assert label_key("c++") != label_key("c")
    assert label_key("...") == ""


def test_leaves_are_counted_by_path_and_value() -> None:
    value = json.loads(
        '{"items": [{"n": 2}, {"n": 2.0}], "note": null, "tags": [], "x": {"y": ""}}'
    )

    assert leaves(value) == {("items[].n", "2"): 2}


def test_f1_of_labels_is_the_mean_over_labels() -> None:
    assert f1(LABEL, ["bug", "bug", None, "Billing."], ["bug", "bug", "billing", "billing"]) == (
        pytest.approx((1 + 2 / 3) / 2)
    )


def test_f1_of_objects_counts_leaves() -> None:
    answers = ['{"a": 1, "b": 2}', None]
    references = ['{"a": 1, "b": 3}', '{"a": 1}']

    assert f1(OBJECT, answers, references) == pytest.approx(2 / 5)


def test_f1_of_texts_is_the_mean_over_answers() -> None:
    assert f1(TEXT, ["a b", None], ["a c", "x"]) == pytest.approx(0.25)


@pytest.mark.parametrize("text", ["[1]", '"x"', "3", "{", "{" * 100_000, "```json\n```"])
def test_no_object_no_answer(text: str) -> None:
    assert parse_json(text) is None
