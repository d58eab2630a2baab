from __future__ import annotations

import math
from pathlib import Path

import pytest

from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.generator import (
    CARD_FILE,
    GeneratorCard,
    confidence_of,
    read_card,
    write_card,
)

CARD = GeneratorCard(
    base_model="tiny-qwen2",
    base_digest="ab" * 32,
    rank=16,
    prompt=PromptTemplate(system="Be brief.", user="Mail: {request}"),
    chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    max_new_tokens=64,
    canary_request="hello",
    canary_answer="good day",
)


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_card(tmp_path, CARD)
    assert read_card(tmp_path) == CARD


def test_a_missing_card_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="train again"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{request}", "nothing"),
        ('"rank": 16', '"rank": 0'),
        ("abab", "xyxy"),
        ("{", "["),
    ],
)
def test_a_damaged_card_is_refused(tmp_path: Path, old: str, new: str) -> None:
    write_card(tmp_path, CARD)
    path = tmp_path / CARD_FILE
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ArtefactError, match="damaged"):
        read_card(tmp_path)


def test_a_card_of_another_format_is_refused(tmp_path: Path) -> None:
    write_card(tmp_path, CARD.model_copy(update={"format": "hermes-apprentice/generator/9"}))
    with pytest.raises(ArtefactError, match="format"):
        read_card(tmp_path)


def test_confidence_is_the_geometric_mean_of_probabilities() -> None:
    assert confidence_of([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)


@pytest.mark.parametrize("values", [[], [float("nan")], [-1.0, float("nan")], [float("-inf")]])
def test_without_probabilities_there_is_no_confidence(values: list[float]) -> None:
    assert confidence_of(values) == 0.0
