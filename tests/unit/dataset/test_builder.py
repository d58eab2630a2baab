"""The only road from an exchange to an example."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_apprentice.dataset.builder import build_dataset
from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.errors import DatasetError, NotEnoughExamplesError, RedactionError
from hermes_apprentice.privacy.redaction import RedactedPair, Redactor
from hermes_apprentice.settings import DatasetSettings

NOW = 1_790_000_000.0
LIMITS = DatasetSettings(min_examples=20)
Make = Callable[..., Exchange]
PEOPLE = ("ines", "tomasz", "akua", "li", "sven", "priya", "noor")
THINGS = ("hinges", "valves", "labels", "lamps", "clamps", "seals", "filters", "brackets", "pumps")


def orders(make: Make, count: int = 60) -> list[Exchange]:
    rng = random.Random(3)
    found = []
    for index in range(count):
        thing, other = rng.sample(THINGS, 2)
        mail = f"{rng.choice(PEOPLE)}.{index}@example.com"
        amount = rng.randint(2, 900)
        text = f"{mail} writes: we need {amount} {thing} for project {index}, not {other}. Extract."
        answer = json.dumps({"from": mail, "item": thing, "quantity": amount})
        found.append(make(text, answer, asked_at=NOW + index * 40_000))
    return found


def build(exchanges: list[Exchange], folder: Path, **limits: object) -> Dataset:
    settings = LIMITS.model_copy(update=limits)
    return build_dataset(exchanges, "pt-1", settings, Redactor(), folder, NOW)


def test_a_dataset_reads_back_as_it_was_built(make_exchange: Make, tmp_path: Path) -> None:
    built = build(orders(make_exchange), tmp_path / "d")
    assert read_dataset(tmp_path / "d") == built
    assert {split for split in Split if built.of(split)} == set(Split)


def test_the_same_exchanges_give_the_same_bytes(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    first = build(exchanges, tmp_path / "a")
    second = build(exchanges[::-1], tmp_path / "b")
    assert first == second
    for name in ("examples.jsonl", "manifest.json", "card.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_personal_data_becomes_the_same_placeholder_in_request_and_answer(
    make_exchange: Make, tmp_path: Path
) -> None:
    built = build(orders(make_exchange), tmp_path / "d")
    assert built.redacted
    for example in built.examples:
        assert "@" not in example.request + example.answer
        assert json.loads(example.answer)["from"] == "<EMAIL_1>"
        assert example.request.startswith("<EMAIL_1> writes")


def test_a_secret_drops_the_whole_exchange(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    leak = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
    spoilt = make_exchange(
        f"x@example.com writes: we need 4 hinges, token {leak}. Extract.",
        '{"from": "x@example.com", "item": "hinges", "quantity": 4}',
        asked_at=NOW + 77,
    )
    built = build([*exchanges, spoilt], tmp_path / "d")
    assert dict(built.dropped)["secret"] == 1
    assert spoilt.exchange_id not in {one.example_id for one in built.examples}


def test_a_failed_redaction_writes_nothing(make_exchange: Make, tmp_path: Path) -> None:
    class Broken(Redactor):
        def redact_pair(self, request: str, answer: str) -> RedactedPair:
            raise RedactionError

    with pytest.raises(RedactionError):
        build_dataset(orders(make_exchange), "pt-1", LIMITS, Broken(), tmp_path / "d", NOW)
    assert list(tmp_path.iterdir()) == []


def test_too_few_examples_say_how_many_and_why(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange, 12)
    with pytest.raises(NotEnoughExamplesError, match=r"12 of 12 .* training needs 20"):
        build(exchanges, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_no_group_is_in_two_splits(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    copies = [
        make_exchange(
            one.request + " Thanks!", one.answer, session_id="other", asked_at=one.asked_at + 9
        )
        for one in exchanges
    ]
    built = build([*exchanges, *copies], tmp_path / "d")
    places: dict[str, set[Split]] = {}
    for one in built.examples:
        places.setdefault(one.group, set()).add(one.split)
    assert all(len(found) == 1 for found in places.values())
    assert len(places) < len(built.examples)


def test_a_repeated_request_counts_once(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    again = make_exchange(
        exchanges[0].request, exchanges[0].answer, session_id="later", asked_at=NOW + 9e6
    )
    built = build([*exchanges, again], tmp_path / "d")
    assert len(built.examples) == len(exchanges)
    assert dict(built.dropped)["repeated"] == 1


def test_very_long_texts_are_left_out(make_exchange: Make, tmp_path: Path) -> None:
    built = build(orders(make_exchange), tmp_path / "d", max_chars=100)
    assert all(len(one.request) <= 100 for one in built.examples)


@pytest.mark.parametrize("name", ["examples.jsonl", "manifest.json"])
def test_a_truncated_dataset_is_refused(make_exchange: Make, tmp_path: Path, name: str) -> None:
    build(orders(make_exchange), tmp_path / "d")
    path = tmp_path / "d" / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DatasetError, match="Build the dataset again"):
        read_dataset(tmp_path / "d")


def test_an_edited_example_is_refused(make_exchange: Make, tmp_path: Path) -> None:
    build(orders(make_exchange), tmp_path / "d")
    path = tmp_path / "d" / "examples.jsonl"
    path.write_text(path.read_text().replace("hinges", "doors", 1))
    with pytest.raises(DatasetError, match="changed after it was built"):
        read_dataset(tmp_path / "d")


def test_the_card_counts_and_quotes_nobody(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    build(exchanges, tmp_path / "d")
    card = (tmp_path / "d" / "card.md").read_text()
    assert "| EMAIL | 120 |" in card
    assert "Not covered" in card
    assert not any(one.request[:30] in card for one in exchanges)


def test_without_redaction_the_manifest_says_so(make_exchange: Make, tmp_path: Path) -> None:
    built = build_dataset(orders(make_exchange), "pt-1", LIMITS, None, tmp_path / "d", NOW)
    assert (built.redacted, built.redaction) == (False, "none")
    assert "Nothing was redacted" in (tmp_path / "d" / "card.md").read_text()


def test_only_the_builder_and_readers_of_its_files_make_examples() -> None:
    package = Path(__file__).resolve().parents[3] / "hermes_apprentice"
    makers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"(?<![\w.])Example\(\s*$|(?<![\w.])Example\(\w", path.read_text(), re.M)
    }
    assert makers == {"dataset/builder.py"}
