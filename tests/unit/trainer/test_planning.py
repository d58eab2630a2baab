import json
from collections.abc import Callable, Sequence

import pytest

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import (
    FieldKind,
    FieldShape,
    JsonStyle,
    Missing,
    Shape,
    ShapeKind,
)
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.plan import Source
from hermes_apprentice.trainer.planning import Lesson, plan_answers

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]


def field(path: str, kind: FieldKind = FieldKind.COPIED, **changes: object) -> FieldShape:
    values: dict[str, object] = {
        "path": path,
        "kind": kind,
        "missing": Missing.NEVER,
        "presence": 1.0,
        "value_type": "string",
    }
    return FieldShape(**{**values, **changes})  # type: ignore[arg-type]


def shape(*fields: FieldShape) -> Shape:
    return Shape(kind=ShapeKind.JSON, agreement=1.0, fields=fields, style=JsonStyle())


def planned(make: Make, rows: Sequence[tuple[str, object]], *fields: FieldShape) -> Lesson:
    return plan_answers(shape(*fields), make([(text, json.dumps(value)) for text, value in rows]))


def test_every_field_gets_its_source_and_reading(
    make_examples: Make, bookings: list[tuple[str, str]]
) -> None:
    found = infer_shape([text for text, _ in bookings], [answer for _, answer in bookings])
    plan = plan_answers(found, make_examples(bookings)).plan
    assert [(one.path, one.source, one.can_be_missing) for one in plan.fields] == [
        ("town", Source.SPAN, False),
        ("nights", Source.SPAN, False),
        ("guest", Source.SPAN, True),
        ("late", Source.CHOICE, False),
        ("kind", Source.CONSTANT, False),
    ]
    assert [one.reading for one in plan.fields[:3]] == ["upper", "integer", "as_is"]
    assert plan.fields[2].missing is Missing.NULL
    assert plan.style.indent == 1


def test_labels_mark_the_words_of_the_values(make_examples: Make) -> None:
    lesson = planned(
        make_examples,
        [("send AB-1 to Ida", {"sku": "AB-1", "to": "Ida"})] * 3,
        field("sku"),
        field("to"),
    )
    assert lesson.supervision[0].labels == (("O", "B-sku", "I-sku", "I-sku", "O", "B-to"),)
    assert lesson.label_names(0) == ("O", "B-sku", "B-to", "I-sku")
    assert lesson.rebuilt == 1.0


def test_fields_that_overlap_are_labelled_apart(make_examples: Make) -> None:
    rows = [
        (f"call {first} {last}", {"name": f"{first} {last}", "first": first})
        for first, last in (("Ida", "Brandt"), ("Omar", "Said"), ("Lea", "Noor"), ("Ben", "Ash"))
    ]
    lesson = planned(make_examples, rows, field("name"), field("first"))
    assert lesson.plan.tracks == 2
    assert lesson.supervision[0].labels == (
        ("O", "B-name", "I-name"),
        ("O", "B-first", "O"),
    )


def test_lists_of_objects_are_rebuilt_from_spans(make_examples: Make) -> None:
    rows = [
        (
            f"{one} x {left}, {two} x {right}",
            {"items": [{"n": one, "sku": left}, {"n": two, "sku": right}]},
        )
        for one, left, two, right in (
            (2, "AA1", 3, "BB2"),
            (4, "CC3", 5, "DD4"),
            (2, "EE5", 2, "FF6"),
        )
    ]
    lesson = planned(
        make_examples, rows, field("items[].n", value_type="integer"), field("items[].sku")
    )
    assert lesson.rebuilt == 1.0


def test_a_value_that_stands_nowhere_is_not_learned_from(make_examples: Make) -> None:
    rows = [(f"to {town}", {"town": town}) for town in ("Aldmere", "Dunwick", "Esterby", "Oslo")]
    rows.append(("to the capital", {"town": "Oslo"}))
    lesson = planned(make_examples, rows, field("town"))
    assert lesson.supervision[-1].labels is None
    assert lesson.supervision[0].labels is not None


def test_values_written_by_the_model_are_refused(make_examples: Make) -> None:
    rows = [(f"note {n}", {"summary": f"something new {n + 100}"}) for n in range(9)]
    with pytest.raises(TrainingError, match="'summary'"):
        planned(make_examples, rows, field("summary"))
    with pytest.raises(TrainingError, match="generator"):
        planned(make_examples, rows, field("summary", FieldKind.FREE_TEXT))


def test_lists_in_another_order_than_the_request_are_refused(make_examples: Make) -> None:
    rows = [
        (f"{a} and {b}", {"names": [b, a]})
        for a, b in (("Ida", "Omar"), ("Lea", "Ben"), ("Zoe", "Tom"))
    ]
    with pytest.raises(TrainingError, match="put together"):
        planned(make_examples, rows, field("names[]"))


def test_other_shapes_are_refused(make_examples: Make) -> None:
    with pytest.raises(TrainingError, match="JSON"):
        plan_answers(Shape(kind=ShapeKind.TEXT, agreement=1.0), make_examples([("a", "b")]))


def test_a_list_inside_a_list_is_refused_with_what_can_learn_it(make_examples: Make) -> None:
    rows = [
        (
            f"send {first} and {second} to Aldmere, and {third} to Esterby",
            {
                "orders": [
                    {"town": "Aldmere", "items": [first, second]},
                    {"town": "Esterby", "items": [third]},
                ]
            },
        )
        for first, second, third in (("glue", "nails", "wire"), ("paint", "rope", "planks")) * 5
    ]
    with pytest.raises(TrainingError, match=r"'orders\[\]\.items\[\]'.*generator"):
        planned(make_examples, rows, field("orders[].town"), field("orders[].items[]"))


def test_inner_lists_of_one_element_can_still_be_learned(make_examples: Make) -> None:
    rows = [
        (
            f"{first} to Aldmere and {second} to Esterby",
            {
                "orders": [
                    {"items": [first], "town": "Aldmere"},
                    {"items": [second], "town": "Esterby"},
                ]
            },
        )
        for first, second in (("glue", "nails"), ("paint", "rope"), ("wire", "planks")) * 4
    ]
    lesson = planned(make_examples, rows, field("orders[].items[]"), field("orders[].town"))
    assert lesson.rebuilt == 1.0
