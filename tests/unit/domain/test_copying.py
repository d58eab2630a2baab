from __future__ import annotations

import pytest

from hermes_apprentice.domain.copying import Haystack, copied_from
from hermes_apprentice.domain.shape import JsonScalar


@pytest.mark.parametrize(
    ("value", "request_text"),
    [
        ("AB-1234", "please send ab-1234 today"),
        ("AB1234", "please send AB-1234 today"),
        ("Muster & Co. KG", "from Muster & Co. KG, Graz"),
        ("Muster & Co", "MUSTER &\nCO wrote"),
        ("ma\u00dfband", "ein Ma\u00dfband, bitte"),
        ("\uff21\uff22", "code AB"),
        ("\u6771\u4eac", "\u6771\u4eac\u90fd\u306b\u9001\u308b"),
        (":-)", "thanks :-)"),
        (12, "12 of them"),
        (12, "a box of twelve"),
        (12, "12kg please"),
        (25, "twenty-five, or so"),
        (120, "a hundred and twenty units"),
        (2500, "two thousand five hundred"),
        (12, "a dozen eggs"),
        (24, "two dozen eggs"),
        (6, "half a dozen eggs"),
        (1200, "1,200 pieces"),
        (1200, "1.200 St\u00fcck"),
        (1200000, "1 200 000 pieces"),
        (12.5, "12,50 euro"),
        (12.5, "12.50 euro"),
        (-4, "minus 4 degrees"),
        ("12", "twelve"),
        (0.07, "7 % off"),
        (0.125, "12.5 percent less"),
        ("2026-03-03", "on 3 March 2026"),
        ("03.04.2026", "on 2026-04-03"),
        ("15:00", "at 3 pm"),
        (3, "between 2,3 and more"),
    ],
)
def test_a_value_is_found_in_the_request(value: JsonScalar, request_text: str) -> None:
    assert copied_from(value, request_text)


@pytest.mark.parametrize(
    ("value", "request_text"),
    [
        ("art", "the party starts"),
        ("AB-123", "please send AB-1234"),
        ("", "anything"),
        ("   ", "anything at all"),
        (None, "null"),
        (True, "true"),
        (2, "12 of them"),
        (5, "twenty-five"),
        (20, "twenty-five"),
        (12, "weight 1234"),
        ("express", "we are in a hurry"),
        (7, "sevenoaks"),
        ("2026-03-03", "on 3 March"),
        ("15:00", "at 15"),
        (0.07, "7 per hour"),
    ],
)
def test_a_value_is_not_found_in_the_request(value: JsonScalar, request_text: str) -> None:
    assert not copied_from(value, request_text)


@pytest.mark.parametrize(
    ("value", "request_text", "found"),
    [
        ("AB1234", "send AB-1234 and ab 1234", ["AB-1234", "ab 1234"]),
        (12, "twelve kettles, 12 lids", ["twelve", "12"]),
        (120, "A hundred and twenty. Or 120.0", ["A hundred and twenty", "120.0"]),
        ("Muster & Co.", "from Muster & Co. KG", ["Muster & Co."]),
        ("(new)", "as (new) or new", ["(new)", "new"]),
        (1200, "1,200 of 1200", ["1,200", "1200"]),
    ],
)
def test_spans_cut_the_value_out_of_the_request(
    value: JsonScalar, request_text: str, found: list[str]
) -> None:
    spans = Haystack(request_text).spans(value)

    assert [request_text[start:end] for start, end in spans] == found


def test_a_long_run_of_digits_is_no_error() -> None:
    assert not copied_from(3, "1" * 5_000)


def test_a_minus_belongs_to_the_number() -> None:
    assert Haystack("it is -4 outside").spans(-4) == ((6, 8),)
    assert Haystack("it is minus 4 outside").spans(-4) == ((6, 13),)
