from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hermes_apprentice.errors import RedactionError
from hermes_apprentice.privacy.analyzer import Analyzer
from hermes_apprentice.privacy.kinds import Kind, squeeze
from hermes_apprentice.privacy.placeholders import PLACEHOLDER, placeholders_in
from hermes_apprentice.privacy.redaction import Redactor, restore, restore_answer

REDACTOR = Redactor(Analyzer())

VALUES = [
    "pia@laden.test",
    "Pia@Laden.test",
    "o'neil@werk-nord.test",
    "jörg@müller.test",
    "+49 30 901820",
    "(415) 555-2671",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "https://example.test/?to=pia@laden.test",
    "203.0.113.77",
    "12 Maple Street",
]
LOOK_ALIKES = [
    "<EMAIL_1>", "<EMAIL_2>", "<PHONE_1>", "<EMAIL_1.2>", "<EMAIL_", "EMAIL_1>", "<", ">",
    "<<EMAIL_1>>",
    "<EMAIL_999999999>", "<email_1>", "<URL_01>", "_1>", "<CREDIT_CARD_1>",
]  # fmt: skip
PIECES = st.one_of(
    st.sampled_from(VALUES),
    st.sampled_from(LOOK_ALIKES),
    st.sampled_from(
        [" call ", " my card ", ", ", "\n", "\\n", "\U0001f600", "é", "中", "'", '"', "\\"]
    ),
    st.text(max_size=8),
)
TEXTS = st.lists(PIECES, max_size=16).map("".join)


@settings(deadline=None, max_examples=600)
@given(TEXTS)
def test_restoring_gives_back_exactly_the_text(text: str) -> None:
    redaction = REDACTOR.redact(text)
    assert restore(redaction.text, redaction.mapping) == text


@settings(deadline=None, max_examples=300)
@given(TEXTS)
@example("pia@laden.test4111 1111 1111 1111<EMAIL_1>¹4111 1111 1111 1111")
def test_no_value_that_was_found_is_left_and_no_look_alike_is_reused(text: str) -> None:
    redaction = REDACTOR.redact(text)
    assert not placeholders_in(text) & set(redaction.mapping)
    assert all(name in redaction.text for name in redaction.mapping)
    for value in redaction.mapping.values():
        bare = PLACEHOLDER.sub(" ", redaction.text)
        assert not re.search(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])", bare)


@settings(deadline=None, max_examples=300)
@given(TEXTS, TEXTS)
def test_a_pair_is_restorable_or_refused(request_text: str, answer: str) -> None:
    try:
        pair = REDACTOR.redact_pair(request_text, answer)
    except RedactionError:
        assert placeholders_in(answer) - placeholders_in(request_text)
        return
    assert restore(pair.request, pair.mapping) == request_text
    if "PHONE" not in pair.counts:
        restored = restore_answer(pair.answer, pair.mapping)
        assert squeeze(restored) == squeeze(answer)


def test_a_text_without_personal_data_stays_as_it_is() -> None:
    redaction = REDACTOR.redact("12 x KX-4821-B")
    assert (redaction.text, dict(redaction.mapping), dict(redaction.counts)) == (
        "12 x KX-4821-B",
        {},
        {},
    )


def test_placeholders_are_numbered_by_first_appearance_in_the_request() -> None:
    pair = REDACTOR.redact_pair(
        "from z@laden.test to a@laden.test, fax +49 30 901820",
        "a@laden.test, z@laden.test, +49 30 901820, new@laden.test",
    )
    assert pair.request == "from <EMAIL_1> to <EMAIL_2>, fax <PHONE_1>"
    assert pair.answer == "<EMAIL_2>, <EMAIL_1>, <PHONE_1>, <EMAIL_3>"
    assert pair.only_in_answer == ("<EMAIL_3>",)
    assert dict(pair.counts) == {"EMAIL": 5, "PHONE": 2}


def test_another_spelling_in_the_answer_takes_the_placeholder_of_the_request() -> None:
    pair = REDACTOR.redact_pair(
        "Pia@Laden.test, (415) 555-2671, card 4111 1111 1111 1111, DE89 3704 0044 0532 0130 00",
        "pia@laden.test +14155552671 4111-1111-1111-1111 DE89370400440532013000",
    )
    assert pair.answer == "<EMAIL_1> <PHONE_1> <CREDIT_CARD_1> <IBAN_1>"
    assert pair.reproducible


def test_phone_numbers_that_differ_only_in_the_country_code_are_different() -> None:
    pair = REDACTOR.redact_pair(
        "call 030 90182012 or +43 30 90182012", "+43 30 90182012, +49 30 90182012, 030 90182012"
    )
    assert pair.request == "call <PHONE_1> or <PHONE_1.2>"
    assert pair.answer == "<PHONE_1.2>, <PHONE_2>, <PHONE_1>"


def test_two_spellings_in_one_text_share_a_number_and_are_both_restored() -> None:
    text = "Pia@Laden.test or pia@laden.test or ada@laden.test"
    redaction = REDACTOR.redact(text)
    assert redaction.text == "<EMAIL_1> or <EMAIL_1.2> or <EMAIL_2>"
    assert restore(redaction.text, redaction.mapping) == text


def test_existing_look_alikes_keep_their_text_and_their_numbers() -> None:
    text = "write <EMAIL_1> and pia@laden.test"
    redaction = REDACTOR.redact(text)
    assert redaction.text == "write <EMAIL_1> and <EMAIL_2>"
    assert restore(redaction.text, redaction.mapping) == text


def test_an_answer_that_invents_a_placeholder_in_use_is_refused() -> None:
    with pytest.raises(RedactionError, match="placeholder"):
        REDACTOR.redact_pair("mail pia@laden.test", "mail <EMAIL_1>")


def test_what_only_the_answer_explains_is_replaced_in_the_request_too() -> None:
    pair = REDACTOR.redact_pair(
        "Pia, X1234567, two nights", '{"passport": "X1234567", "nights": 2}'
    )
    assert pair.request == "Pia, <PASSPORT_1>, two nights"
    assert pair.answer == '{"passport": "<PASSPORT_1>", "nights": 2}'
    assert not pair.reproducible


def test_what_the_request_explains_is_replaced_where_the_answer_does_not() -> None:
    pair = REDACTOR.redact_pair("my ssn is 219-09-9998", '{"id": "219099998"}')
    assert pair.answer == '{"id": "<SSN_1>"}'


def test_a_value_is_not_replaced_inside_a_longer_word_or_number() -> None:
    pair = REDACTOR.redact_pair("call 668 5702", "code 96685702 and 66857021")
    assert pair.answer == "code 96685702 and 66857021"


def test_a_json_answer_keeps_everything_but_the_values() -> None:
    answer = (
        '{ "mail" :"pia\\u0040laden.test",\n'
        ' "note":"say \\"hi\\" to pia@laden.test\\t!", "n": 1.50}'
    )
    pair = REDACTOR.redact_pair("mail pia@laden.test", answer)
    assert (
        pair.answer == '{ "mail" :"<EMAIL_1>",\n "note":"say \\"hi\\" to <EMAIL_1>\\t!", "n": 1.50}'
    )
    assert json.loads(restore_answer(pair.answer, pair.mapping)) == json.loads(answer)


def test_fenced_json_is_treated_as_json() -> None:
    answer = 'Here:\n```json\n{"a": "x\\npia@laden.test"}\n```\nBye pia@laden.test'
    pair = REDACTOR.redact_pair("mail pia@laden.test", answer)
    assert pair.answer == 'Here:\n```json\n{"a": "x\\n<EMAIL_1>"}\n```\nBye <EMAIL_1>'
    assert restore_answer(pair.answer, pair.mapping) == answer


def test_keys_are_redacted_as_well() -> None:
    pair = REDACTOR.redact_pair("mail pia@laden.test", '{"pia@laden.test": 3}')
    assert pair.answer == '{"<EMAIL_1>": 3}'


def test_personal_data_as_a_bare_json_number_is_refused() -> None:
    with pytest.raises(RedactionError, match="bare number"):
        REDACTOR.redact_pair("call 4155552671", '{"phone": 4155552671}')


def test_restored_values_are_escaped_for_json() -> None:
    restored = restore_answer('{"a": "<ADDRESS_1>"}', {"<ADDRESS_1>": 'Hof "Nord"\n9'})
    assert json.loads(restored) == {"a": 'Hof "Nord"\n9'}


def test_a_restored_value_that_looks_like_a_placeholder_is_left_alone() -> None:
    mapping = {"<ADDRESS_1>": "<EMAIL_1> 9", "<EMAIL_1>": "pia@laden.test"}
    assert restore("to <ADDRESS_1>", mapping) == "to <EMAIL_1> 9"


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-999, 999), TEXTS.filter(lambda t: "<" not in t)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=8).filter(lambda t: "<" not in t), inner, max_size=4),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(["mail", "name", "x"]), JSON, max_size=3), st.booleans())
def test_a_json_answer_stays_valid_and_restores_to_equal_values(
    answer: dict[str, object], ascii_only: bool
) -> None:
    text = json.dumps(answer, ensure_ascii=ascii_only)
    pair = REDACTOR.redact_pair(text, text)
    json.loads(pair.answer)
    restored = json.loads(restore_answer(pair.answer, pair.mapping))
    if "PHONE" not in pair.counts:
        assert squeeze(str(restored)) == squeeze(str(answer))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(VALUES[:2] + VALUES[4:8]), min_size=1, max_size=6), st.data())
def test_every_value_of_the_request_has_one_number_in_both_texts(
    values: list[str], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(values), max_size=4))
    pair = REDACTOR.redact_pair(
        "\n".join(f"- my card or {v} ok" for v in values), json.dumps([v.upper() for v in chosen])
    )
    assert pair.only_in_answer == ()
    assume(chosen)
    numbers = {pair.mapping[name].casefold(): name for name in pair.mapping}
    for value, name in zip(chosen, json.loads(pair.answer), strict=True):
        assert name.split(".")[0].rstrip(">") == numbers[value.casefold()].split(".")[0].rstrip(">")


def test_what_is_printed_or_logged_never_shows_a_value() -> None:
    pair = REDACTOR.redact_pair("mail pia@laden.test", "ok pia@laden.test")
    assert "pia" not in repr(pair) + repr(REDACTOR.redact("mail pia@laden.test"))


def test_the_fingerprint_tells_redactors_apart_and_is_stable() -> None:
    assert REDACTOR.fingerprint == Redactor(Analyzer()).fingerprint
    assert REDACTOR.fingerprint != Redactor(Analyzer(kinds=[Kind.EMAIL])).fingerprint
    assert len(REDACTOR.fingerprint) == 64
    assert REDACTOR.policy.not_covered == ("PERSON", "PLACE", "ORGANISATION", "GROUP")
    assert REDACTOR.policy.model is None
