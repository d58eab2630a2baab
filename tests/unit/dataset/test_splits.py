"""Groups are never divided, stay where they are, and the newest are always tested."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.dataset.near_duplicates import groups
from hermes_apprentice.dataset.splits import Group, split_groups
from hermes_apprentice.domain.dataset import Split

WEEK = 7 * 86_400.0

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
def test_the_newest_week_is_always_in_the_test(times: list[float]) -> None:
    found = named(times)
    splits = split_groups(found)
    newest = max(group.asked_at for group in found) // WEEK
    in_newest = [group for group in found if group.asked_at // WEEK == newest]
    assert Split.TEST in {splits[group.name] for group in in_newest}


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


def test_no_and_empty_texts_are_fine() -> None:
    assert groups([]) == []
    assert groups(["", "", "a"]) == [0, 0, 2]
