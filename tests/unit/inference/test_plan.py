import pytest

from hermes_apprentice.domain.shape import JsonScalar, JsonStyle, Missing
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.plan import AnswerPlan, FieldPlan, Placed, Source


def span(path: str, missing: Missing = Missing.NEVER) -> FieldPlan:
    return FieldPlan(path=path, source=Source.SPAN, missing=missing)


def plan(*fields: FieldPlan, style: JsonStyle | None = None) -> AnswerPlan:
    return AnswerPlan(fields=fields, style=style or JsonStyle())


def test_keys_keep_the_upstreams_order_and_formatting() -> None:
    compact = JsonStyle(item_separator=",", key_separator=":", prefix="```json\n", suffix="\n```")
    written = plan(span("zeta"), span("alpha"), style=compact).write(
        {"alpha": [Placed("ä", 0)], "zeta": [Placed(3, 4)]}
    )
    assert written == '```json\n{"zeta":3,"alpha":"ä"}\n```'


def test_missing_fields_are_written_as_the_upstream_does() -> None:
    fields = (
        span("a", Missing.ABSENT),
        span("b", Missing.NULL),
        span("c", Missing.EMPTY),
        span("d[]", Missing.EMPTY),
        span("e[]", Missing.NULL),
        span("f[]", Missing.ABSENT),
        span("g.h", Missing.ABSENT),
    )
    assert plan(*fields).write({}) == '{"b": null, "c": "", "d": [], "e": null}'


def test_nested_keys_make_nested_objects() -> None:
    written = plan(span("who.name"), span("who.town", Missing.NULL)).write(
        {"who.name": [Placed("Ida", 0)]}
    )
    assert written == '{"who": {"name": "Ida", "town": null}}'


def test_spans_of_list_elements_are_grouped_in_order_of_appearance() -> None:
    constant = FieldPlan(
        path="items[].unit", source=Source.CONSTANT, missing=Missing.NEVER, choices=("pcs",)
    )
    fields = (span("items[].sku"), span("items[].count", Missing.NULL), constant)
    written = plan(*fields).write(
        {
            "items[].sku": [Placed("A1", 5), Placed("B2", 9)],
            "items[].count": [Placed(2, 3)],
        }
    )
    assert written == (
        '{"items": [{"sku": "A1", "count": 2, "unit": "pcs"}, '
        '{"sku": "B2", "count": null, "unit": "pcs"}]}'
    )


def test_a_plan_survives_its_file_with_the_types_of_its_values() -> None:
    values: tuple[JsonScalar, ...] = (True, 1, "1", 2.5, None, "ß")
    stored = plan(
        FieldPlan(path="x", source=Source.CHOICE, missing=Missing.NULL, choices=values),
        style=JsonStyle(indent=2),
    )
    again = AnswerPlan.from_json(stored.to_json())
    assert again == stored
    assert [type(value) for value in again.fields[0].choices] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '{"fields": 3, "style": {}}'],
)
def test_a_damaged_plan_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError):
        AnswerPlan.from_json(text)


def test_an_unknown_reading_is_refused() -> None:
    odd = FieldPlan(path="x", source=Source.SPAN, missing=Missing.NULL, reading="by_heart")
    with pytest.raises(ArtefactError):
        AnswerPlan.from_json(plan(odd).to_json())
