"""The only road from an exchange to an example."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    changed = LIMITS.model_copy(update=limits)
    return build_dataset(exchanges, "pt-1", changed, Redactor(), folder, NOW)


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


def test_a_request_that_comes_again_moves_no_example(make_exchange: Make, tmp_path: Path) -> None:
    exchanges = orders(make_exchange)
    again = [
        make_exchange(one.request, one.answer, session_id="later", asked_at=NOW + 9e6 + index)
        for index, one in enumerate(exchanges[::3])
    ]
    first = build(exchanges, tmp_path / "a")
    second = build([*exchanges, *again], tmp_path / "b")
    before = {one.request: (one.group, one.split) for one in first.examples}
    assert {one.request: (one.group, one.split) for one in second.examples} == before
    assert {one.exchange_id for one in again} < {one.example_id for one in second.examples}


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(keep=st.integers(25, 60), shuffle=st.randoms(use_true_random=False))
def test_later_exchanges_move_no_example_and_the_order_does_not_matter(
    make_exchange: Make, tmp_path: Path, keep: int, shuffle: random.Random
) -> None:
    exchanges = orders(make_exchange)
    earlier = exchanges[:keep]
    shuffle.shuffle(exchanges)
    whole, part = build(exchanges, tmp_path / "a"), build(earlier, tmp_path / "b")
    places = {one.example_id: one.split for one in whole.examples}
    assert {one.example_id: one.split for one in part.examples}.items() <= places.items()
    assert part.of(Split.TEST)
    assert len(part.of(Split.TRAIN)) >= 0.65 * len(part.examples)


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


@pytest.mark.parametrize(
    ("field", "value"),
    [("pattern_id", "pt-2"), ("redacted", False), ("dropped", {}), ("settings", {"redact": False})],
)
def test_an_edited_manifest_is_refused(
    make_exchange: Make, tmp_path: Path, field: str, value: object
) -> None:
    refused = make_exchange("x", "I'm sorry, I can't.", asked_at=NOW)
    build([*orders(make_exchange), refused], tmp_path / "d")
    path = tmp_path / "d" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(DatasetError, match="changed after it was built"):
        read_dataset(tmp_path / "d")


def test_another_format_and_a_missing_folder_say_what_to_do(
    make_exchange: Make, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"manifest\.json cannot be read.*Build the dataset"):
        read_dataset(tmp_path / "d")
    build(orders(make_exchange), tmp_path / "d")
    path = tmp_path / "d" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(DatasetError, match="format 99"):
        read_dataset(tmp_path / "d")
    path.write_text("[1, 2]")
    with pytest.raises(DatasetError, match="incomplete"):
        read_dataset(tmp_path / "d")


def test_a_broken_example_is_reported_without_its_words(
    make_exchange: Make, tmp_path: Path
) -> None:
    build(orders(make_exchange), tmp_path / "d")
    path = tmp_path / "d" / "examples.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"split": "somewhere", "request": "my words"})
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match="split") as caught:
        read_dataset(tmp_path / "d")
    assert "my words" not in str(caught.value)


def test_the_manifest_says_how_and_from_what_it_was_built(
    make_exchange: Make, tmp_path: Path
) -> None:
    exchanges = orders(make_exchange)
    exchanges[7] = replace(exchanges[7], source="telegram", session_id="other", model="small")
    build(exchanges, tmp_path / "d")
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert manifest["settings"] == LIMITS.model_dump(mode="json")
    assert manifest["provenance"] == {
        "profiles": {"default": 60},
        "sources": {"cli": 59, "telegram": 1},
        "models": {"anthropic/claude-sonnet-4.6": 59, "small": 1},
        "sessions": 2,
        "first_asked_at": exchanges[0].asked_at,
        "last_asked_at": exchanges[-1].asked_at,
    }
    assert manifest["entities"] == {"EMAIL": 120}
    assert sum(manifest["splits"].values()) == 60
    card = (tmp_path / "d" / "card.md").read_text()
    assert "typed in: cli 59, telegram 1" in card


def test_the_shape_is_learned_from_the_training_split_alone(
    make_exchange: Make, tmp_path: Path
) -> None:
    labels = ("bug", "billing", "praise")
    exchanges = [
        make_exchange(
            f"label ticket {i} of {i * 37}: {THINGS[i % 9]}", labels[i % 3], asked_at=NOW + i
        )
        for i in range(80)
    ]
    rare = build(exchanges, tmp_path / "a").of(Split.TEST)[0].example_id
    only_in_test = [
        replace(one, answer="shipping") if one.exchange_id == rare else one for one in exchanges
    ]
    built = build(only_in_test, tmp_path / "b")
    assert "shipping" not in built.shape.labels


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


# --- earlier datasets -------------------------------------------------------------------


def test_what_was_tested_stays_a_test_and_new_groups_are_split(
    make_exchange: Make, tmp_path: Path
) -> None:
    everything = orders(make_exchange, 120)
    first = build(everything[0::2][:50], tmp_path / "a")
    second = build(everything[1::2][:50], tmp_path / "b")
    whole = build_dataset(
        everything, "pt-2", LIMITS, Redactor(), tmp_path / "c", NOW, earlier=[first, second]
    )
    places = {one.example_id: one.split for one in whole.examples}
    before = {one.example_id: one.split for one in (*first.examples, *second.examples)}
    assert {name: places[name] for name in before} == before
    new = [one for one in whole.examples if one.example_id not in before]
    assert {one.split for one in new} >= {Split.TRAIN, Split.TEST}
    assert read_dataset(tmp_path / "c") == whole


def test_a_repetition_of_a_tested_request_is_neither_learned_nor_replaces_the_test(
    make_exchange: Make, tmp_path: Path
) -> None:
    exchanges = orders(make_exchange)
    first = build(exchanges, tmp_path / "a")
    tested = first.of(Split.TEST)[0]
    source = next(one for one in exchanges if one.exchange_id == tested.example_id)
    again = replace(source, exchange_id="again", answer='{"item": "none"}', asked_at=NOW + 9e6)
    near = replace(
        source, exchange_id="near", request=f"{source.request} Thanks.", asked_at=NOW + 9.1e6
    )
    whole = build_dataset(
        [*exchanges, again, near], "pt-1", LIMITS, Redactor(), tmp_path / "b", NOW, earlier=[first]
    )
    by_id = {one.example_id: one for one in whole.examples}
    assert by_id[tested.example_id] == tested
    assert "again" not in by_id
    assert by_id["near"].split is Split.TEST


def test_a_tested_request_whose_session_is_gone_still_keeps_its_likes_out_of_training(
    make_exchange: Make, tmp_path: Path
) -> None:
    exchanges = orders(make_exchange)
    first = build(exchanges, tmp_path / "a")
    tested = first.of(Split.TEST)[0]
    source = next(one for one in exchanges if one.exchange_id == tested.example_id)
    near = replace(
        source, exchange_id="near", request=f"{source.request} Thanks.", asked_at=NOW + 9e6
    )
    rest = [one for one in exchanges if one is not source]
    whole = build_dataset(
        [*rest, near], "pt-1", LIMITS, Redactor(), tmp_path / "b", NOW, earlier=[first]
    )
    by_id = {one.example_id: one for one in whole.examples}
    assert tested.example_id not in by_id
    assert by_id["near"].split is Split.TEST


def test_a_test_in_one_dataset_outweighs_training_in_another(
    make_exchange: Make, tmp_path: Path
) -> None:
    exchanges = orders(make_exchange)
    first = build(exchanges, tmp_path / "a")
    moved = first.of(Split.TRAIN)[3].example_id
    turned = replace(
        first,
        examples=tuple(
            replace(one, split=Split.TEST) if one.example_id == moved else one
            for one in first.examples
        ),
    )
    for number, earlier in enumerate(([first, turned], [turned, first])):
        whole = build_dataset(
            exchanges, "pt-1", LIMITS, Redactor(), tmp_path / f"{number}", NOW, earlier=earlier
        )
        places = {one.example_id: one.split for one in whole.examples}
        assert places[moved] is Split.TEST
