from __future__ import annotations

import random

import pytest

from hermes_apprentice.privacy.fillers import filled
from hermes_apprentice.privacy.kinds import PATTERN_KINDS, Kind
from hermes_apprentice.privacy.placeholders import placeholders_in
from hermes_apprentice.privacy.redaction import Redactor


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_placeholder_is_filled(kind: Kind) -> None:
    text = filled(f"note <{kind}_1> and <{kind}_2.3> today", random.Random(3))
    assert not placeholders_in(text)
    assert text.startswith("note ") and text.endswith(" today")


def test_the_same_placeholder_gets_the_same_value_and_another_another() -> None:
    first, second, third = filled("<EMAIL_1> <EMAIL_1> <EMAIL_2>", random.Random(3)).split()
    assert first == second != third


def test_what_only_looks_like_a_placeholder_stays() -> None:
    assert filled("set <FLAG_1> and <b>", random.Random(3)) == "set <FLAG_1> and <b>"


def test_values_differ_from_text_to_text() -> None:
    rng = random.Random(3)
    assert len({filled("call <PHONE_1>", rng) for _ in range(20)}) > 15


@pytest.mark.parametrize("kind", [Kind.EMAIL, Kind.PHONE, Kind.IP, Kind.URL, Kind.ADDRESS])
def test_an_invented_value_is_recognised_as_the_kind_it_stands_for(kind: Kind) -> None:
    assert kind in PATTERN_KINDS
    redactor = Redactor()
    rng = random.Random(5)
    texts = [filled(f"please write down <{kind}_1> for me", rng) for _ in range(8)]
    hits = sum(f"<{kind}_" in redactor.redact(text).text for text in texts)
    assert hits >= 6, texts
