import numpy as np

from hermes_apprentice.domain.shape import Missing
from hermes_apprentice.inference.elements import (
    ElementPlace,
    Placed,
    element_bag,
    element_places,
    element_state,
    rows_of,
)
from hermes_apprentice.inference.plan import FieldPlan, Source
from hermes_apprentice.inference.words import split_words


def field(path: str, *, anchor: bool = False, side: int = 0) -> FieldPlan:
    return FieldPlan(path=path, source=Source.SPAN, missing=Missing.NULL, anchor=anchor, side=side)


def test_spans_before_their_anchor_go_to_the_next_one_and_others_to_the_last() -> None:
    values = {
        "i[].name": [Placed("bolts", 1, 2), Placed("paint", 5, 6)],
        "i[].qty": [Placed(3, 4)],
        "i[].note": [Placed("red", 7, 8)],
    }
    group = [field("i[].qty", side=-1), field("i[].name", anchor=True), field("i[].note", side=1)]
    rows = [{path: one.value for path, one in row.values.items()} for row in rows_of(group, values)]
    assert rows == [{"i[].name": "bolts"}, {"i[].name": "paint", "i[].qty": 3, "i[].note": "red"}]


def test_spans_beyond_the_last_anchor_or_before_the_first_find_one() -> None:
    group = [field("i[].qty", side=-1), field("i[].name", anchor=True)]
    values = {"i[].name": [Placed("bolts", 1)], "i[].qty": [Placed(9, 5)]}
    (row,) = rows_of(group, values)
    assert row.values["i[].qty"].value == 9
    assert rows_of(group, {"i[].qty": [Placed(9, 5)]}) == []


def test_a_text_without_elements_has_no_places() -> None:
    assert element_places([], 7) == []


def test_the_words_of_an_element_are_told_by_their_side() -> None:
    words = split_words("need red paint boxed, oak planks")
    rows = rows_of([field("i[]")], {"i[]": [Placed("paint", 2, 3), Placed("oak planks", 5, 7)]})
    places = element_places(rows, len(words))
    assert places == [ElementPlace(0, 2, 3, 5), ElementPlace(3, 5, 7, 7)]
    bag = element_bag(words, places[0])
    assert {"<need", "<red", "<|red", "=paint", ">boxed", ">|boxed", ">boxed ,"} <= set(bag)
    assert "<boxed" in element_bag(words, places[1])


def test_the_state_of_an_element_has_unit_length_or_none() -> None:
    states = np.array([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]], np.float32)
    assert np.allclose(element_state(states, ElementPlace(0, 0, 1, 2)), [0.6, 0.8])
    assert not element_state(states, ElementPlace(2, 2, 3, 3)).any()
