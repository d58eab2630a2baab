"""Groups are never divided, stay where they are, and the newest are always tested."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_apprentice.dataset.near_duplicates import groups
from hermes_apprentice.dataset.splits import WINDOW, Group, split_groups
from hermes_apprentice.domain.dataset import Split

moments = st.lists(
    st.floats(min_value=1.7e9, max_value=1.8e9, allow_nan=False), min_size=1, max_size=80
)


def named(times: list[float]) -> list[Group]:
    return [Group(f"ex-{index:05}", time) for index, time in enumerate(sorted(times))]


@given(moments, moments)
def test_more_data_moves_no_group(old: list[float], new: list[float]) -> None:
    before = named(old)
    latest = before[-1].asked_at
    added = [Group(f"new-{index}", latest + 1 + time - 1.7e9) for index, time in enumerate(new)]
    first, second = split_groups(before), split_groups([*before, *added])
    assert {name: second[name] for name in first} == first


@given(moments)
def test_ten_groups_in_a_row_always_hold_one_of_the_test(times: list[float]) -> None:
    found = named(times)
    splits = split_groups(found)
    in_order = [splits[group.name] for group in found]
    for start in range(len(in_order) - WINDOW + 1):
        assert Split.TEST in in_order[start : start + WINDOW]


@given(st.integers(12, 400), st.floats(1.0, 1e8))
def test_most_groups_are_for_training_however_seldom_they_come(count: int, seconds: float) -> None:
    splits = split_groups([Group(f"ex-{i}", 1.6e9 + i * seconds) for i in range(count)])
    places = Counter(splits.values())
    assert places[Split.TRAIN] >= 0.65 * count
    assert places[Split.VALIDATION] >= 1


@given(st.integers(0, 199))
def test_a_deleted_group_moves_only_some_of_the_groups_after_it(number: int) -> None:
    found = [Group(f"ex-{i:03}", 1.7e9 + i) for i in range(400)]
    before = split_groups(found)
    after = split_groups([*found[:number], *found[number + 1 :]])
    assert all(before[one.name] is after[one.name] for one in found[:number])
    moved = sum(before[name] is not after[name] for name in after)
    assert moved <= 60


@given(moments)
def test_the_order_in_which_groups_come_does_not_matter(times: list[float]) -> None:
    found = named(times)
    assert split_groups(found) == split_groups(found[::-1])


def test_about_a_tenth_goes_to_test_and_validation_each() -> None:
    splits = list(split_groups([Group(f"ex-{i}", 1.75e9 + i) for i in range(5_000)]).values())
    for split in (Split.TEST, Split.VALIDATION):
        assert 0.08 < splits.count(split) / len(splits) < 0.12


def test_near_duplicates_share_a_group_and_others_do_not() -> None:
    base = "please read the order below and give me the article number and the quantity as json"
    texts = [
        base,
        f"{base} thanks",
        "which label fits this ticket about a broken parcel that came too late last week",
        base.replace("json", "json now"),
    ]
    assert groups(texts) == [0, 0, 2, 0]


def test_likeness_is_passed_on_from_neighbour_to_neighbour() -> None:
    words = [f"word{index}" for index in range(60)]
    chain = [" ".join(words[start : start + 50]) for start in range(0, 10, 2)]
    assert set(groups(chain)) == {0}


def test_what_a_template_has_in_common_makes_no_duplicates() -> None:
    rng = random.Random(4)
    rules = " ".join(f"rule {i} says to answer with one label and nothing else" for i in range(12))
    things = "printer scanner invoice parcel login password screen refund cable router".split()
    texts = [
        f"{rules} ticket {i} the {rng.choice(things)} and the {rng.choice(things)} are "
        f"{rng.choice(['late', 'broken', 'lost'])} since {rng.randint(1, 99)} days"
        for i in range(60)
    ]
    repeated = [f"{text} thank you" for text in texts]
    found = groups([*texts, *repeated])
    assert len(set(found[:60])) > 40
    assert sum(a == b for a, b in zip(found[:60], found[60:], strict=True)) > 50


def test_two_templates_are_told_apart_and_their_requests_too() -> None:
    wordings = ("read the order and give me each field as json ", "name the label of this ticket ")
    texts = [
        (w * 8) + f"number {i} from ward {i * 7} to hall {i * 3}"
        for w in wordings
        for i in range(30)
    ]
    assert len(set(groups(texts))) == 60


def test_many_duplicates_of_one_text_stay_together() -> None:
    base = "please tell me when the next train to the harbour leaves from the old station"
    others = [f"a request number {i} about subject {i * 31} and nothing like it" for i in range(40)]
    copies = [base, f"{base} thanks", f"hi {base}", f"{base} please"]
    found = groups([*others, *copies])
    assert len(set(found[40:])) == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abc ", max_size=30), max_size=30))
def test_a_text_is_always_in_a_group_with_itself(texts: list[str]) -> None:
    found = groups(texts)
    assert found == groups(texts)
    for index, first in enumerate(found):
        assert first <= index
        assert found[first] == first
        assert all(found[texts.index(text)] == f for text, f in zip(texts, found, strict=True))


def test_no_and_empty_texts_are_fine() -> None:
    assert groups([]) == []
    assert groups(["", "", "a"]) == [0, 0, 2]
