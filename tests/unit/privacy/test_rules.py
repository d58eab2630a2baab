from __future__ import annotations

import json
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_apprentice.privacy.analyzer import Analyzer

ANALYZER = Analyzer()

WALLET = "0x52908400098527886E0F7030069857D2E4169EE7"

FOUND = [
    ("write to Nora.Brandt@werk-nord.test today", "EMAIL", "Nora.Brandt@werk-nord.test"),
    ("<o'hara+spam@mail.example.museum>, thanks", "EMAIL", "o'hara+spam@mail.example.museum"),
    ("联系pia@laden.test或者打电话", "EMAIL", "pia@laden.test"),
    ("name,mail\nPia,pia@laden.test,12", "EMAIL", "pia@laden.test"),
    ("quoted: body\\npia@laden.test\\nbye", "EMAIL", "pia@laden.test"),
    ("root@10.20.30.40 is down", "EMAIL", "root@10.20.30.40"),
    ("see (https://example.test/A_(b)?u=1#x).", "URL", "https://example.test/A_(b)?u=1#x"),
    ("go to www.example.test, please", "URL", "www.example.test"),
    (r'{"u":"https:\/\/example.test\/a"}', "URL", r"https:\/\/example.test\/a"),
    ("from 203.0.113.77:8080", "IP", "203.0.113.77"),
    ("from 2001:db8::8a2e:370:7334 again", "IP", "2001:db8::8a2e:370:7334"),
    ("adapter 5c:f3:70:0a:1b:2c", "MAC", "5c:f3:70:0a:1b:2c"),
    ("adapter 5cf3.700a.1b2c", "MAC", "5cf3.700a.1b2c"),
    ("pay " + WALLET, "CRYPTO", WALLET),
    ("paid with 4111 1111 1111 1111 12/27", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("a;5555555555554444,12/27", "CREDIT_CARD", "5555555555554444"),
    ("my card 3530111333300001 is lost", "CREDIT_CARD", "3530111333300001"),
    ("to DE89 3704 0044 0532 0130 00 please", "IBAN", "DE89 3704 0044 0532 0130 00"),
    ("to gb29nwbk60161331926819", "IBAN", "gb29nwbk60161331926819"),
    ("my IBAN is DE11 3704 0044 0532 0130 00", "IBAN", "DE11 3704 0044 0532 0130 00"),
    ("ring +49 (0)30 901820 now", "PHONE", "+49 (0)30 901820"),
    ("ring (415) 555-2671 now", "PHONE", "(415) 555-2671"),
    ("ring 020 7946 0018 now", "PHONE", "020 7946 0018"),
    ("my phone number is 668 5702", "PHONE", "668 5702"),
    ("call 4155552671 after six", "PHONE", "4155552671"),
    ("name,phone,qty\nPia,4155552671,12", "PHONE", "4155552671"),
    ('{"customer_phone": "4155552671"}', "PHONE", "4155552671"),
    ("781 1704 (office)", "PHONE", "781 1704"),
    ("my SSN is 219-09-9998", "SSN", "219-09-9998"),
    ("passport no. X1234567", "PASSPORT", "X1234567"),
    ("Driver's license number D123-4567-8901", "DRIVER_LICENCE", "D123-4567-8901"),
    ("she was born on 3 March 1984", "BIRTH_DATE", "3 March 1984"),
    ("DOB: 1984-03-03", "BIRTH_DATE", "1984-03-03"),
    ("it is 12 Maple Street, Elmdorf, IL 62704", "ADDRESS", "12 Maple Street, Elmdorf, IL 62704"),
    ("nach Lindenstraße 5, 10115 Berlin", "ADDRESS", "Lindenstraße 5, 10115 Berlin"),
    ("au 12 rue de la Paix", "ADDRESS", "12 rue de la Paix"),
    ("P.O. Box 4411", "ADDRESS", "P.O. Box 4411"),
    ("I live at 7 Garden Place", "ADDRESS", "7 Garden Place"),
    ('{"address": "Hof 9, Neudorf"}', "ADDRESS", "Hof 9, Neudorf"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "value"), FOUND, ids=[f"{k}:{v}" for _, k, v in FOUND])
def test_personal_data_is_found_whole(text: str, kind: str, value: str) -> None:
    found = [(str(f.kind), text[f.start : f.end]) for f in ANALYZER.find(text)]
    assert found == [(kind, value)]


HARMLESS = [
    "please send 12 x KX-4821-B and 3 of SKU 4821-330-12",
    "order no. 4500012345, PO 7781236640, invoice INV/2024/00931",
    "EAN 4006381333931, ISBN 978-3-16-148410-0",
    "call me about order 4821330 or ticket 10045872",
    "the passport of our brand: article 99812345",
    "tracking 1Z999AA10123456784 and 7846 2394 1123",
    "total 1,299,415.00 EUR, 1.299,00 € each, 415 555 000,00",
    "due 2024-03-11, 11.03.2024, 03/11/24 at 12:30:45, unix 1714567890123",
    "version 10.4.2.1, firmware: 8.8.4.4, v1.2.3.4, section 1.2.3.4",
    "127.0.0.1 and 0.0.0.0 and ::1, std::cout, a::b",
    "12-34-56-78-90-12 and 1234.5678.9012",
    "pkg@1.2.3 by @handle, README.md, main.py, node.js",
    "order via Amazon 12 units, engineering 12, Spring 12, 24 Flash Drive, Office Suite 365",
    "license key 12345678, install driver 48213305",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "id 550e8400-e29b-41d4-a716-446655440000",
    "120x60x75 mm, 48.2082, 16.3738, 7-10 days, 2+2=4",
    "a cardboard box 4006381333932",
    "deliver on 3 March 2026",
    "my SSN form has 12 pages; the number 219-09-9998-1 is a part",
    "",
    "   \n\t",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not_personal_is_left_alone(text: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in ANALYZER.find(text)] == []


def test_a_card_number_with_a_wrong_digit_needs_a_word_that_says_card() -> None:
    assert ANALYZER.find("batch 4111 1111 1111 1112 arrived") == ()
    assert len(ANALYZER.find("my visa card 4111 1111 1111 1112")) == 1


UPPER, DIGITS = string.ascii_uppercase, string.digits


def _of(alphabet: str, fewest: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=fewest, max_size=most)


SKUS = st.one_of(
    st.tuples(_of(UPPER, 1, 4), _of(DIGITS, 3, 7), _of(UPPER, 1, 2)).map("-".join),
    st.tuples(_of(UPPER, 2, 4), _of(DIGITS, 3, 9)).map("".join),
    st.tuples(_of(DIGITS, 2, 5), _of(DIGITS, 2, 4), _of(DIGITS, 1, 2)).map("-".join),
    st.tuples(_of(UPPER, 1, 3), _of(DIGITS, 4, 4), _of(DIGITS, 3, 4)).map("-".join),
    st.tuples(_of(UPPER, 2, 3), _of(DIGITS, 4, 6)).map("/".join),
    _of(DIGITS, 5, 11),
)
ORDER_TEXTS = st.sampled_from(
    [
        "Please send {q} x {a} and {p} pieces of {b} to the warehouse.",
        "Order {n}: {a} ({q} pcs, {q}.90 EUR each), {b} ({p} pcs)",
        '{{"order_id": "{n}", "lines": [{{"sku": "{a}", "qty": {q}}}, {{"sku": "{b}"}}]}}',
        "sku,qty\n{a},{q}\n{b},{p}",
        "Call me when order {n} with {q} x KX-1 is ready",
        "| item | qty |\n|---|---|\n| {a} | {q} |\n| {b} | {p} |",
    ]
)


@settings(deadline=None, max_examples=400)
@given(ORDER_TEXTS, SKUS, SKUS, _of(DIGITS, 6, 12), st.integers(1, 9999), st.integers(1, 500))
def test_no_article_or_order_number_is_taken_for_personal_data(
    text: str, a: str, b: str, n: str, q: int, p: int
) -> None:
    filled = text.format(a=a, b=b, n=n, q=q, p=p)
    assert [filled[f.start : f.end] for f in ANALYZER.find(filled)] == []


@settings(deadline=None)
@given(st.text(max_size=300))
def test_findings_are_in_order_inside_the_text_and_never_overlap(text: str) -> None:
    end = 0
    for finding in ANALYZER.find(text):
        assert end <= finding.start < finding.end <= len(text)
        end = finding.end


def test_overlapping_kinds_become_one_place_of_the_longer_kind() -> None:
    text = "see https://example.test/?to=pia@laden.test&n=1 now"
    (only,) = ANALYZER.find(text)
    assert str(only.kind) == "URL"
    assert text[only.start : only.end] == "https://example.test/?to=pia@laden.test&n=1"


@pytest.mark.parametrize(
    "unit",
    [
        "a.",
        "1 ",
        "1-",
        "12 ",
        "@",
        "a@",
        "::",
        "A ",
        "(",
        "\\n",
        "http://",
        "x-",
        "0:",
        "+1 ",
        "GB12",
    ],
)
def test_a_hostile_text_is_searched_in_about_linear_time(unit: str) -> None:
    text = unit * (20_000 // len(unit)) + " phone card born address"
    start = time.process_time()
    ANALYZER.find(text)
    # Anything that backtracks over the whole text takes minutes.
    assert time.process_time() - start < 20


def test_json_needs_no_special_case_to_be_searched() -> None:
    record = json.dumps(
        {"order": "KX-4821-B", "contact": {"mail": "pia@laden.test", "ssn": "219-09-9998"}}
    )
    assert [str(f.kind) for f in ANALYZER.find(record)] == ["EMAIL", "SSN"]
