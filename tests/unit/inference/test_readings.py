import pytest

from hermes_apprentice.inference.readings import READINGS, readings_for, spoken_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("twelve", 12),
        ("Twenty-five", 25),
        ("a hundred and ten", 110),
        ("two thousand three hundred", 2300),
        ("a dozen", 12),
        ("half a dozen", 6),
        ("a couple of", 2),
        ("boxes", None),
        ("", None),
    ],
)
def test_number_words_are_read(text: str, number: int | None) -> None:
    assert spoken_number(text) == number


@pytest.mark.parametrize(
    ("reading", "text", "value"),
    [
        ("as_is", "New York", "New York"),
        ("lower", "New York", "new york"),
        ("unspaced.upper", "gp 88/17", "GP88/17"),
        ("bare", "GP 88/17", "GP8817"),
        ("digits", "no. 88-17", "8817"),
        ("single_spaced", "New \n York", "New York"),
        ("integer", "1,200 pcs", 1200),
        ("integer", "-5", -5),
        ("integer", "twelve", 12),
        ("integer", "soon", None),
        ("number", "1,200.50 EUR", 1200.5),
        ("number.comma", "1.200,50 EUR", 1200.5),
        ("number", "12", 12),
        ("integer.text", "twelve", "12"),
        ("digits", "none", None),
        ("integer", "minus 5 degrees", -5),
        ("number.share", "7 %", 0.07),
        ("number.share", "12.5%", 0.125),
        ("apart", "2kg", "2 kg"),
        ("apart.lower", "12 KG", "12 kg"),
        ("day.dmy.iso", "3 March 2026", "2026-03-03"),
        ("day.mdy.iso", "03/14/26", "2026-03-14"),
        ("time.minutes", "3 pm", "15:00"),
    ],
)
def test_a_reading_turns_a_span_into_a_value(reading: str, text: str, value: object) -> None:
    read = READINGS[reading](text)
    assert read == value and type(read) is type(value)


def test_no_reading_fails_on_odd_texts() -> None:
    for read in READINGS.values():
        for text in ("", " ", "\u2212", "\u0664\u0662", "9" * 400, "e\u0301", "\ud800", "a an the"):
            assert isinstance(read(text), str | int | float | None)


def test_every_type_has_the_readings_that_give_it() -> None:
    assert readings_for("integer") == ("integer",)
    assert readings_for("boolean") == ()
    assert readings_for("string")[0] == "as_is"
    assert all(name in READINGS for kind in ("string", "number") for name in readings_for(kind))
