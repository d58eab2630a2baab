"""Split training data into folds, near-duplicates always together.

Knows nothing about models.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Fold(NamedTuple):
    """Positions to learn from and positions to predict."""

    learn: NDArray[np.intp]
    """Training positions, ascending."""

    predict: NDArray[np.intp]
    """Held-out positions, ascending."""


def make_folds(
    groups: Sequence[str], classes: Sequence[Hashable], count: int, seed: int
) -> list[Fold]:
    """Return up to ``count`` folds of about the same size and mixture of classes.

    No group is on both sides of a fold. There are fewer folds where there are
    fewer groups, and none below two groups.

    Args:
        groups: Group of every example.
        classes: Class of every example; classes are spread evenly over the folds.
        count: How many folds are wanted.
        seed: For the order in which groups are dealt out.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    count = min(count, len(members))
    if count < 2:
        return []
    order = list(_dealing_order(members, classes, seed))
    sizes = np.zeros(count, np.intp)
    mixtures: list[Counter[Hashable]] = [Counter() for _ in range(count)]
    home = np.zeros(len(groups), np.intp)
    for group in order:
        wanted = Counter(classes[place] for place in members[group])
        # The fold with the fewest of this group's classes, then the smallest.
        fold = min(
            range(count),
            key=lambda place: (sum(mixtures[place][name] for name in wanted), sizes[place], place),
        )
        home[members[group]] = fold
        sizes[fold] += len(members[group])
        mixtures[fold].update(wanted)
    return [
        Fold(np.flatnonzero(home != fold), np.flatnonzero(home == fold)) for fold in range(count)
    ]


def _dealing_order(
    members: dict[str, list[int]], classes: Sequence[Hashable], seed: int
) -> Iterator[str]:
    """Yield the groups, the largest first, the rest shuffled."""
    names = sorted(members)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    yield from sorted(shuffled, key=lambda name: -len(members[name]))
