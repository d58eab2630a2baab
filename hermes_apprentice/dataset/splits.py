"""Which groups are for training, for validation and for the test.

A group's place hangs on its name and on the groups before it in time, so it
stays where it is when the dataset is built again with newer data. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from hermes_apprentice.domain.dataset import Split

WINDOW = 10
"""Among this many groups that follow each other in time, one at least is in the test."""

_BY_CHANCE = 0.03
"""Share that goes to test, and to validation, by its name alone.

With the groups that are due because ``WINDOW - 1`` others passed, about 11 % go to each.
"""


class Group(NamedTuple):
    """A group of near-duplicates."""

    name: str
    """The id of its oldest member."""

    asked_at: float
    """Unix time of its oldest member."""


def split_groups(groups: Sequence[Group]) -> dict[str, Split]:
    """Return the split of every group, by name; about 80, 10 and 10 in a hundred.

    Groups are taken in the order of time. One goes to the test if its hash says
    so, or if none of the nine before it did; the same for validation. So the
    newest groups are always represented in the test, ten groups never leave it
    empty, and what comes later moves no earlier group. The hash makes the test
    forget: after a group is deleted, places are the same again a few dozen
    groups later.
    """
    splits: dict[str, Split] = {}
    since_test = since_validation = 0
    for group in sorted(groups, key=lambda one: (one.asked_at, one.name)):
        share = _hash(group.name)
        since_test += 1
        since_validation += 1
        if share < _BY_CHANCE or since_test >= WINDOW:
            splits[group.name] = Split.TEST
            since_test = 0
        elif share < 2 * _BY_CHANCE or since_validation >= WINDOW:
            splits[group.name] = Split.VALIDATION
            since_validation = 0
        else:
            splits[group.name] = Split.TRAIN
    return splits


def _hash(name: str) -> float:
    return int.from_bytes(hashlib.sha256(f"split\x00{name}".encode()).digest()[:8]) / 2**64
