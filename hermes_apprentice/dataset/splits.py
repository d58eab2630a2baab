"""Which groups are for training, for validation and for the test.

A group's place hangs on its oldest member alone, and on whether it opened a
week, so it stays where it is when the dataset is built again with more data.
Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from hermes_apprentice.domain.dataset import Split

TEST_SHARE = 0.1
VALIDATION_SHARE = 0.1

_WEEK = 7 * 86_400.0


class Group(NamedTuple):
    """A group of near-duplicates."""

    name: str
    """The id of its oldest member."""

    asked_at: float
    """Unix time of its oldest member."""


def split_groups(groups: Sequence[Group]) -> dict[str, Split]:
    """Return the split of every group, by name.

    A tenth each goes to test and validation by a hash of the name. The first
    group of every week is in the test as well, so that the newest data is
    always represented there; this moves no older group.
    """
    splits: dict[str, Split] = {}
    weeks: set[int] = set()
    for group in sorted(groups, key=lambda one: (one.asked_at, one.name)):
        week = int(group.asked_at // _WEEK)
        share = _hash(group.name)
        if week not in weeks or share < TEST_SHARE:
            splits[group.name] = Split.TEST
        elif share < TEST_SHARE + VALIDATION_SHARE:
            splits[group.name] = Split.VALIDATION
        else:
            splits[group.name] = Split.TRAIN
        weeks.add(week)
    return splits


def _hash(name: str) -> float:
    return int.from_bytes(hashlib.sha256(f"split\x00{name}".encode()).digest()[:8]) / 2**64
