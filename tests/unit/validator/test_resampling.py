from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.evaluation import f1
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.validator.baseline import best_constant
from hermes_apprentice.validator.resampling import f1_of_rows

LABEL = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("a", "b"))
JSON = Shape(kind=ShapeKind.JSON, agreement=1.0)
TEXT = Shape(kind=ShapeKind.TEXT, agreement=1.0)

labels = st.sampled_from(["bug", "Bug.", "billing", "how to", ""])
objects = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.none() | st.integers(0, 2) | st.lists(st.sampled_from(["x", "y"]), max_size=2),
).map(json.dumps)
texts = st.sampled_from(["to be", "not to be", "be", ""])


@pytest.mark.parametrize(("shape", "answers"), [(LABEL, labels), (JSON, objects), (TEXT, texts)])
def test_the_fast_f1_is_the_metric_of_the_domain(
    shape: Shape, answers: st.SearchStrategy[str]
) -> None:
    @given(
        pairs=st.lists(st.tuples(st.none() | answers, answers), min_size=1, max_size=12),
        data=st.data(),
    )
    def check(pairs: list[tuple[str | None, str]], data: st.DataObject) -> None:
        given_, wanted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rows = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=15))
        slow = f1(shape, [given_[row] for row in rows], [wanted[row] for row in rows])
        fast = f1_of_rows(shape, given_, wanted)(np.array(rows))
        assert fast == pytest.approx(slow)

    check()


def test_the_best_constant_label_is_the_most_frequent_one() -> None:
    assert best_constant(LABEL, ["b", "a", "A", "b", "a"]) == "a"


def test_the_best_constant_object_takes_each_field_by_itself() -> None:
    """No single answer is the best: the most frequent values never stand together."""
    answers = [
        json.dumps({"colour": "red", "size": number, "to": {"unit": "kg"}, "rare": number})
        if number % 2
        else json.dumps({"colour": number, "size": "xl", "to": {"unit": "kg"}})
        for number in range(9)
    ]
    found = json.loads(best_constant(JSON, answers))
    assert found["size"] == "xl"
    assert found["to"] == {"unit": "kg"}
    assert "rare" not in found


def test_without_answers_the_constant_is_empty() -> None:
    assert best_constant(LABEL, []) == ""


def test_answers_that_are_no_objects_do_not_stop_the_baseline() -> None:
    assert best_constant(JSON, ["sorry", "sorry", "no"]) == "sorry"
