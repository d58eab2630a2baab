from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.validator.evaluate import Row
from hermes_apprentice.validator.risk_coverage import MOST_POINTS, as_lines, as_svg, risk_coverage


def row(confidence: float, agrees: bool, text: str | None = "bug") -> Row:
    example = Example(
        example_id="ex",
        group="g",
        split=Split.TEST,
        request="which?",
        answer="bug",
        asked_at=0.0,
    )
    return Row(example=example, text=text, confidence=confidence, agrees=agrees)


ROWS = [row(0.9, True), row(0.8, True), row(0.7, False), row(0.2, False, None)]


def test_the_surest_come_first_and_what_has_no_answer_is_never_covered() -> None:
    curve = risk_coverage(ROWS, 0.75)
    assert [(point.coverage, point.risk) for point in curve.points] == [
        (0.25, 0.0),
        (0.5, 0.0),
        (0.75, pytest.approx(1 / 3)),
    ]
    assert curve.area == pytest.approx(1 / 9)


def test_equal_confidences_cannot_be_told_apart() -> None:
    curve = risk_coverage([row(0.5, True), row(0.5, False)], 0.5)
    assert [(point.coverage, point.risk) for point in curve.points] == [(1.0, 0.5)]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=900))
def test_every_point_is_what_its_threshold_would_give(pairs: list[tuple[float, bool]]) -> None:
    rows = [row(confidence, agrees) for confidence, agrees in pairs]
    curve = risk_coverage(rows, 0.5)
    assert len(curve.points) <= MOST_POINTS
    for point in curve.points:
        kept = [one for one in rows if one.confidence >= point.threshold]
        assert point.coverage == pytest.approx(len(kept) / len(rows))
        assert point.risk == pytest.approx(sum(not one.agrees for one in kept) / len(kept))
        assert point.risk <= point.risk_at_most
    if rows:
        assert curve.points[-1].coverage == 1.0


def test_the_drawings_show_what_was_chosen() -> None:
    curve = risk_coverage(ROWS, 0.75)
    lines = as_lines(curve).splitlines()
    assert [line.endswith("answered") for line in lines[1:-1]] == [True, True, False]
    assert "4 requests" in lines[-1]
    drawn = ET.fromstring(as_svg(curve, "order <mails> & more"))
    texts = [element.text or "" for element in drawn.iter() if element.tag.endswith("text")]
    assert any(text.startswith("order <mails> & more: risk") for text in texts)
    lengths = [
        len(line.attrib["points"].split()) for line in drawn.iter() if "points" in line.attrib
    ]
    assert lengths == [3, 3]


def test_without_answers_there_is_nothing_to_draw() -> None:
    curve = risk_coverage([row(0.0, False, None)], 0.5)
    assert "nothing to draw" in as_lines(curve)
    ET.fromstring(as_svg(curve, "x"))
