from __future__ import annotations

import json
import random

import pytest

from hermes_apprentice.domain.leaves import occurrences
from hermes_apprentice.domain.shape import FieldKind, FieldShape, Kind, Missing, ShapeKind, kind_for
from hermes_apprentice.domain.shape_inference import fits, infer_shape, render

PRODUCTS = ("kettle", "lantern", "anvil", "ladder", "teapot", "bucket", "saddle", "barometer")
REFUSALS = ("I'm sorry, I can't help with that.", "Could you share the full e-mail, please?")


def orders(count: int, *, seed: int = 3) -> tuple[list[str], list[dict[str, object]]]:
    rng = random.Random(seed)
    requests, answers = [], []
    for _ in range(count):
        sku = f"{rng.choice('ABCDEF')}{rng.choice('XYZ')}-{rng.randint(1000, 9999)}"
        quantity = rng.randint(2, 900)
        express = rng.random() < 0.4
        note = rng.choice((None, f"PO-{rng.randint(100, 999)}"))
        requests.append(
            f"Extract the order as JSON. Hello, we want {quantity} pieces of {sku}"
            + (" and quickly please" if express else "")
            + (f", our number is {note}" if note else "")
        )
        answers.append(
            {
                "sku": sku,
                "quantity": quantity,
                "delivery": "express" if express else "standard",
                "unit": "piece",
                "reference": note,
            }
        )
    return requests, answers


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def leaf(shape_fields: tuple[FieldShape, ...], path: str) -> FieldShape:
    return next(item for item in shape_fields if item.path == path)


def test_order_answers_have_copied_closed_and_constant_fields() -> None:
    requests, values = orders(60)
    shape = infer_shape(requests, [compact(value) for value in values])

    assert shape.kind is ShapeKind.JSON
    assert shape.agreement == 1.0
    assert [item.path for item in shape.fields] == [
        "sku",
        "quantity",
        "delivery",
        "unit",
        "reference",
    ]
    assert [item.kind for item in shape.fields] == [
        FieldKind.COPIED,
        FieldKind.COPIED,
        FieldKind.CLOSED_SET,
        FieldKind.CONSTANT,
        FieldKind.COPIED,
    ]
    assert leaf(shape.fields, "quantity").value_type == "integer"
    assert set(leaf(shape.fields, "delivery").values) == {"standard", "express"}
    assert leaf(shape.fields, "unit").values == ("piece",)
    assert leaf(shape.fields, "reference").missing is Missing.NULL
    assert leaf(shape.fields, "sku").missing is Missing.NEVER
    assert 0.2 < leaf(shape.fields, "reference").presence < 0.8
    assert kind_for(shape) is Kind.EXTRACTOR


@pytest.mark.parametrize("count", [20, 200])
def test_one_answer_in_ten_may_be_a_refusal_or_another_schema(count: int) -> None:
    requests, values = orders(count)
    answers = [compact(value) for value in values]
    for at in range(0, count, 20):
        answers[at] = REFUSALS[at % 2]
        answers[at + 1] = compact({"error": "no order found", "code": at})
    shape = infer_shape(requests, answers)

    assert shape.kind is ShapeKind.JSON
    assert [item.path for item in shape.fields][:3] == ["sku", "quantity", "delivery"]
    assert shape.agreement == pytest.approx(0.9)
    assert not fits(shape, answers[0])
    assert not fits(shape, answers[1])


def test_values_of_the_wrong_type_are_off_shape() -> None:
    requests, values = orders(40)
    values[0]["quantity"] = "a lot"
    answers = [compact(value) for value in values]
    shape = infer_shape(requests, answers)

    assert leaf(shape.fields, "quantity").value_type == "integer"
    assert shape.agreement == pytest.approx(39 / 40)
    assert not fits(shape, answers[0])


def test_an_answer_fits_only_with_known_keys_types_and_values() -> None:
    requests, values = orders(40)
    shape = infer_shape(requests, [compact(value) for value in values])
    good: dict[str, object] = {
        "sku": "QQ-1",
        "quantity": 7,
        "delivery": "express",
        "unit": "piece",
        "reference": None,
    }

    assert fits(shape, compact(good))
    assert fits(shape, f"```json\n{json.dumps(good, indent=4)}\n```")
    assert fits(shape, compact({key: item for key, item in good.items() if key != "reference"}))
    assert not fits(shape, compact(good | {"delivery": "pigeon"}))
    assert not fits(shape, compact(good | {"quantity": "7"}))
    assert not fits(shape, compact(good | {"quantity": True}))
    assert not fits(shape, compact(good | {"sku": None}))
    assert not fits(shape, compact(good | {"colour": "red"}))
    assert not fits(shape, compact(good | {"sku": ["QQ-1"]}))
    assert not fits(shape, compact({key: item for key, item in good.items() if key != "unit"}))
    assert not fits(shape, compact([good]))
    assert not fits(shape, "")


def test_choices_that_the_instruction_lists_are_not_copied() -> None:
    rng = random.Random(5)
    choices = ("low", "medium", "high")
    requests = [
        f"Priority low, medium or high? As JSON. {rng.choice(PRODUCTS)} arrived {rng.random():.3f}"
        for _ in range(60)
    ]
    answers = [compact({"priority": rng.choice(choices)}) for _ in range(60)]
    shape = infer_shape(requests, answers)

    assert shape.fields[0].copied_share == 1.0
    assert shape.fields[0].kind is FieldKind.CLOSED_SET
    assert set(shape.fields[0].values) == set(choices)


def test_a_few_values_that_always_stand_in_the_request_are_copied() -> None:
    rng = random.Random(5)
    chosen = [rng.choice(PRODUCTS[:3]) for _ in range(60)]
    requests = [f"We need a new {product} for the workshop" for product in chosen]
    shape = infer_shape(requests, [compact({"product": product}) for product in chosen])

    assert shape.fields[0].kind is FieldKind.COPIED


def test_lists_of_objects_and_nested_objects_have_paths() -> None:
    rng = random.Random(2)
    requests, answers = [], []
    for at in range(40):
        items = [
            {"name": rng.choice(PRODUCTS), "count": rng.randint(2, 90)}
            for _ in range(rng.randint(0 if at else 1, 3))
        ]
        town = f"Nether{at}"
        requests.append(
            "; ".join(f"{item['count']} {item['name']}" for item in items) + f" to {town}"
        )
        address = None if at % 8 == 3 else {"town": town, "country": "AT"}
        answers.append(compact({"items": items, "address": address, "tags": []}))
    shape = infer_shape(requests, answers)

    assert [item.path for item in shape.fields] == [
        "items[].name",
        "items[].count",
        "address.town",
        "address.country",
        "tags",
    ]
    assert leaf(shape.fields, "items[].count").kind is FieldKind.COPIED
    assert leaf(shape.fields, "items[].count").missing is Missing.EMPTY
    assert leaf(shape.fields, "address.town").missing is Missing.NULL
    assert leaf(shape.fields, "address.town").presence == pytest.approx(35 / 40)
    assert leaf(shape.fields, "tags").kind is FieldKind.CONSTANT
    assert shape.agreement == 1.0
    assert not fits(shape, compact({"items": [{"name": "anvil", "count": "two"}]}))


def test_keys_that_are_left_out_are_told_from_null_and_empty() -> None:
    requests = [f"note {at}" for at in range(30)]
    answers = [
        compact(
            {"id": at}
            | ({"left_out": at} if at % 2 else {})
            | {"null": at if at % 3 else None, "empty": f"note {at}" if at % 5 else ""}
        )
        for at in range(30)
    ]
    fields = infer_shape(requests, answers).fields

    assert {item.path: item.missing for item in fields} == {
        "id": Missing.NEVER,
        "left_out": Missing.ABSENT,
        "null": Missing.NULL,
        "empty": Missing.EMPTY,
    }


def test_an_optional_key_takes_its_place_in_the_key_order() -> None:
    answers = [
        compact({"a": at, **({"b": at} if at % 3 == 0 else {}), "c": at}) for at in range(30)
    ]
    fields = infer_shape([str(at) for at in range(30)], answers).fields

    assert [item.path for item in fields] == ["a", "b", "c"]


def test_a_schema_of_optional_keys_is_one_schema_even_when_nothing_is_said() -> None:
    rng = random.Random(8)
    keys = ("town", "day", "condition", "country")
    answers, requests = [], []
    for at in range(60):
        chosen = [key for key in keys if rng.random() < 0.4]
        answers.append(compact({key: f"{key}{at}" for key in chosen}))
        requests.append(" ".join(f"{key}{at}" for key in chosen) + " weather?")
    shape = infer_shape(requests, answers)

    assert "{}" in answers
    assert {item.path for item in shape.fields} == set(keys)
    assert {item.missing for item in shape.fields} == {Missing.ABSENT}
    assert shape.agreement == 1.0


def test_written_by_the_model_is_free_text() -> None:
    requests = [f"Summarise as JSON: parcel {at} was late again" for at in range(30)]
    answers = [compact({"summary": f"Complaint number {at * 7 + 900}, {at}"}) for at in range(30)]
    shape = infer_shape(requests, answers)

    assert shape.fields[0].kind is FieldKind.FREE_TEXT
    assert kind_for(shape) is Kind.GENERATOR


@pytest.mark.parametrize(
    ("dump", "frame"),
    [
        ({"separators": (",", ":")}, "%s"),
        ({}, "%s"),
        ({"indent": 2}, "%s"),
        ({"indent": 4, "ensure_ascii": False}, "```json\n%s\n```"),
        ({"ensure_ascii": False}, "Here is the order:\n\n%s\n"),
    ],
)
def test_the_upstreams_formatting_is_reproduced(dump: dict[str, object], frame: str) -> None:
    requests, values = orders(40)
    for at, value in enumerate(values):
        if at % 2:
            value["reference"] = "Büro"
    answers = [frame % json.dumps(value, **dump) for value in values]  # type: ignore[arg-type]
    answers[7] = "\n" + json.dumps(values[7], indent=1)
    shape = infer_shape(requests, answers)

    written = [render(shape.style, value) for value in values]
    assert sum(a == b for a, b in zip(written, answers, strict=True)) == 39


@pytest.mark.parametrize(("count", "labels"), [(14, 3), (60, 6), (400, 40), (2000, 150)])
def test_a_small_set_of_short_answers_is_a_label_set(count: int, labels: int) -> None:
    rng = random.Random(11)
    names = [f"{rng.choice(PRODUCTS)}_{at}" for at in range(labels)]
    said = [rng.choice(names[: 1 + at % labels]) for at in range(count)]
    for at in range(0, count, 20):
        said[at] = REFUSALS[at // 20 % 2]
    shape = infer_shape(["which?"] * count, said)

    assert shape.kind is ShapeKind.LABEL
    assert set(shape.labels) <= set(names)
    assert shape.agreement >= 0.85
    assert kind_for(shape) is Kind.CLASSIFIER
    assert not fits(shape, REFUSALS[0])


def test_spellings_of_a_label_are_one_label() -> None:
    answers = ["billing"] * 8 + ["Billing."] * 3 + ["**billing**", " Refund\n"] + ["refund"] * 5
    shape = infer_shape(["which?"] * len(answers), answers)

    assert shape.labels == ("billing", "refund")
    assert shape.agreement == 1.0
    assert fits(shape, '"REFUND"')
    assert not fits(shape, "shipping")


def test_different_short_answers_are_no_label_set() -> None:
    answers = [f"About {at} grams." for at in range(30)]

    assert infer_shape(["how much?"] * 30, answers).kind is ShapeKind.TEXT


def test_letters_are_text_and_a_fragment_or_a_novel_is_off() -> None:
    answers = [f"Dear customer {at}, thank you for your letter. " * 4 for at in range(20)]
    answers[0], answers[1] = "", "Ok"
    shape = infer_shape(["reply"] * 20, answers)

    assert shape.kind is ShapeKind.TEXT
    assert shape.agreement == pytest.approx(0.9)
    assert fits(shape, answers[5])
    assert not fits(shape, "")
    assert not fits(shape, "   \n")
    assert not fits(shape, "novel " * 1000)


def test_no_answers_are_a_text_shape_without_agreement() -> None:
    shape = infer_shape([], [])

    assert (shape.kind, shape.agreement) == (ShapeKind.TEXT, 0.0)


def test_unpaired_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 requests for 1 answers"):
        infer_shape(["a", "b"], ["c"])


@pytest.mark.parametrize(
    "answer",
    [
        "{" * 100_000,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"a.b": 1}',
        '{"a[]": 1}',
        '{"": 1}',
        "{}",
        '{"a": NaN}',
        '{"a": 1} {"a": 2}',
        '[{"a": 1}]',
        '{"a": ' + "9" * 5_000 + "}",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_json_makes_no_schema_and_no_error(answer: str) -> None:
    assert infer_shape(["x"] * 20, [answer] * 20).kind is not ShapeKind.JSON


def test_occurrences_follow_lists_of_lists() -> None:
    value = {"rows": [[{"a": 1}, {"a": None}], []], "b": 2}

    assert occurrences(value, "rows[][].a") == [1, None, []]
    assert occurrences(value, "b") == [2]
    assert occurrences({"rows": 3}, "b.c") != [3]


def test_a_number_that_is_written_when_none_is_said_is_a_default() -> None:
    requests, answers = [], []
    for number in range(24):
        count = 1 if number % 2 else number + 2
        said = f"{count} of them, " if count > 1 else ""
        requests.append(f"{said}the blue ones please")
        answers.append(json.dumps({"qty": count}))
    (leaf,) = infer_shape(requests, answers).fields
    assert leaf.kind is FieldKind.COPIED and leaf.default == 1


def test_values_that_stand_nowhere_are_no_defaults_unless_they_are_one_value() -> None:
    requests = [f"{number} please" for number in range(2, 26)]
    answers = [
        json.dumps({"qty": number if number % 2 else 1_000 + number}) for number in range(2, 26)
    ]
    (leaf,) = infer_shape(requests, answers).fields
    assert leaf.kind is FieldKind.FREE_TEXT and leaf.default is None


def test_a_value_that_stands_alone_is_a_list_of_one() -> None:
    towns = ("Aldmere", "Dunwick", "Esterby", "Falkrona")
    requests, answers = [], []
    for number in range(24):
        found = [towns[number % 4], towns[(number + 1) % 4]][: 1 + (number % 3 == 0)]
        requests.append("to " + " and ".join(found))
        answers.append(json.dumps({"to": found if len(found) > 1 else found[0]}))
    shape = infer_shape(requests, answers)
    assert shape.kind is ShapeKind.JSON and shape.agreement == 1.0
    assert [(leaf.path, leaf.lone) for leaf in shape.fields] == [("to[]", True)]
    assert fits(shape, '{"to": "Oslo"}') and fits(shape, '{"to": ["Oslo", "Rome"]}')
    assert not fits(shape, '{"to": {"town": "Oslo"}}')


def test_lists_of_one_are_lists_where_the_upstream_writes_them() -> None:
    requests = [f"to Aldmere{' and Dunwick' if number % 2 else ''}" for number in range(20)]
    answers = [
        json.dumps({"to": ["Aldmere", "Dunwick"] if number % 2 else ["Aldmere"]})
        for number in range(20)
    ]
    assert not infer_shape(requests, answers).fields[0].lone


def test_answers_that_say_one_thing_each_are_of_one_schema() -> None:
    keys = ("city", "item", "day")
    requests = [f"{keys[number % 3]} is X{number}" for number in range(30)]
    answers = [json.dumps({keys[number % 3]: f"X{number}"}) for number in range(30)]
    shape = infer_shape(requests, answers)
    assert shape.kind is ShapeKind.JSON and shape.agreement == 1.0
    assert {leaf.missing for leaf in shape.fields} == {Missing.ABSENT}


def test_keys_that_are_all_rare_are_of_one_schema() -> None:
    requests = [f"field {number % 40} is X{number}" for number in range(120)]
    answers = [
        json.dumps({"kind": "note", f"f{number % 40}": f"X{number}"}) for number in range(120)
    ]
    shape = infer_shape(requests, answers)
    assert shape.kind is ShapeKind.JSON and shape.agreement == 1.0


def test_keys_keep_their_order_when_most_answers_leave_most_of_them_out() -> None:
    rows = [{"c": 1}, {"a": 1}, {"b": 1}] * 6 + [{"a": 1, "b": 2}, {"b": 1, "c": 2}] * 3
    shape = infer_shape(["1 2"] * len(rows), [json.dumps(row) for row in rows])
    assert [leaf.path for leaf in shape.fields] == ["a", "b", "c"]


def test_an_empty_answer_leaves_its_keys_out() -> None:
    rows = [{}, {"a": "x"}] * 8
    shape = infer_shape(["x"] * len(rows), [json.dumps(row) for row in rows])
    assert [leaf.missing for leaf in shape.fields] == [Missing.ABSENT]


def test_lists_inside_lists_are_for_a_generator() -> None:
    requests, answers = [], []
    for place in range(30):
        town, goods = f"Town{place}", [f"good{place}", f"ware{place}"]
        requests.append(f"send {' and '.join(goods)} to {town}")
        answers.append(compact({"orders": [{"town": town, "items": goods}]}))
    shape = infer_shape(requests, answers)
    assert [leaf.path for leaf in shape.fields] == ["orders[].town", "orders[].items[]"]
    assert [leaf.in_inner_list for leaf in shape.fields] == [False, True]
    assert kind_for(shape) is Kind.GENERATOR
