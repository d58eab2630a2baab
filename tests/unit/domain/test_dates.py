import pytest

from hermes_apprentice.domain.copying import Haystack
from hermes_apprentice.domain.dates import read_day, read_time, written_moments


@pytest.mark.parametrize(
    "text",
    [
        "3 March 2026",
        "3rd of March, 2026",
        "the 3rd March '26",
        "March 3, 2026",
        "Mar. 3rd 2026",
        "03/03/26",
        "3.3.2026",
        "3. 3. 2026",
        "2026-03-03",
        "3. M\u00e4rz 2026",
        "3 de marzo de 2026",
    ],
)
def test_a_day_is_read_however_it_is_written(text: str) -> None:
    assert read_day(f"by {text}, please", "dmy", "iso") == "2026-03-03"


def test_digits_are_read_in_the_order_that_is_asked_for() -> None:
    assert read_day("04/03/26", "dmy", "iso") == "2026-03-04"
    assert read_day("04/03/26", "mdy", "iso") == "2026-04-03"
    assert read_day("25/03/26", "mdy", "iso") is None


@pytest.mark.parametrize(
    ("writing", "value"),
    [
        ("dots", "03.04.2026"),
        ("slashes", "03/04/2026"),
        ("month_first", "04/03/2026"),
        ("basic", "20260403"),
        ("year_first", "2026/04/03"),
        ("month_day", "04-03"),
    ],
)
def test_a_day_is_written_as_the_answers_do(writing: str, value: str) -> None:
    assert read_day("3 April 2026", "dmy", writing) == value


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "31 June 2026", "room 3", "3 April", "1.2.3.4", "3 May or 4 May 2026"]
)
def test_what_names_no_single_day_is_none(text: str) -> None:
    assert read_day(text, "dmy", "iso") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 pm", "15:00"),
        ("3:30 p.m.", "15:30"),
        ("12 am", "00:00"),
        ("12 pm", "12:00"),
        ("15:45", "15:45"),
        ("9.30", "09:30"),
        ("15 Uhr", "15:00"),
        ("seven o'clock or 7 o'clock", "07:00"),
        ("noon", "12:00"),
        ("24:10", None),
        ("13 pm", None),
        ("room 12", None),
        ("12:30:15:40", None),
    ],
)
def test_a_time_of_day_is_read(text: str, value: str | None) -> None:
    assert read_time(text, "minutes") == value


def test_a_two_digit_year_is_of_the_century_it_is_usually_of() -> None:
    assert read_day("1/2/68", "dmy", "iso") == "2068-02-01"
    assert read_day("1/2/69", "dmy", "iso") == "1969-02-01"


def test_an_open_day_stands_for_both_until_the_examples_decide() -> None:
    values = {moment.value for moment in written_moments("03/04/26")}
    assert {"2026-04-03", "2026-03-04"} <= values


def test_a_day_of_an_answer_is_found_where_the_request_names_it() -> None:
    text = "move it from 3 March 2026 to 10 March 2026 at 4 pm"
    ((start, end),) = Haystack(text).spans("2026-03-10")
    assert text[start:end] == "10 March 2026"
    ((start, end),) = Haystack(text).spans("16:00")
    assert text[start:end] == "4 pm"
    assert Haystack(text).spans("2026-03-11") == ()
