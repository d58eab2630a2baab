"""Group requests that are nearly the same, so that no group is split between training and test.

MinHash signatures of word shingles in a locality-sensitive index (Broder, "On
the resemblance and containment of documents", 1997), joined transitively. What
the requests of a template have in common says nothing about likeness, so a
group that is too large to be one of duplicates is searched again without its
common part. Pure and deterministic. Knows nothing about exchanges.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

SIMILARITY = 0.8
"""Jaccard similarity of shingles from which two texts count as nearly the same."""

CANDIDATES = 0.5
"""Similarity at which the index looks: lower, because it misses some; the exact value decides."""

TEMPLATE_SHARE = 0.1
"""Share of all different texts from which a group is one of a template."""

TEMPLATE_LEAST = 10
"""Different texts that such a group has at least."""

COMMON = 0.5
"""Share of a template's texts that hold what belongs to the template."""

_PERMUTATIONS = 128
_SHINGLE = 3
_SEED = 1


def groups(texts: Sequence[str]) -> list[int]:
    """Return for each text the index of the first text of its group.

    Args:
        texts: Already folded, such as by ``cleaning.plain``; words are separated by spaces.
    """
    first_of: dict[str, int] = {}
    for index, text in enumerate(texts):
        first_of.setdefault(text, index)
    shingles = {index: _shingles(text) for text, index in first_of.items()}
    large = max(TEMPLATE_LEAST, TEMPLATE_SHARE * len(shingles))
    group_of: dict[int, int] = {}
    waiting = [(list(shingles), frozenset[str]())]
    while waiting:
        members, template = waiting.pop()
        for group in _connected({index: shingles[index] - template for index in members}):
            counts = Counter(part for index in group for part in shingles[index] - template)
            common = {part for part, count in counts.items() if count > COMMON * len(group)}
            if len(group) >= large and common:
                waiting.append((group, template | common))
            else:
                group_of.update(dict.fromkeys(group, group[0]))
    return [group_of[first_of[text]] for text in texts]


def _connected(shingles: dict[int, frozenset[str]]) -> Iterable[list[int]]:
    """Return the texts that near-likeness connects, each group and all groups in order."""
    parent = {index: index for index in shingles}

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    from datasketch import MinHash, MinHashLSH  # takes half a second to load

    seen = MinHashLSH(threshold=CANDIDATES, num_perm=_PERMUTATIONS)
    for number, found in shingles.items():
        signature = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update_batch([item.encode() for item in sorted(found)])
        for other in seen.query(signature):
            if _jaccard(found, shingles[other]) >= SIMILARITY:
                left, right = sorted((root(number), root(other)))
                parent[right] = left
        seen.insert(number, signature)
    connected: defaultdict[int, list[int]] = defaultdict(list)
    for index in shingles:
        connected[root(index)].append(index)
    return connected.values()


def _shingles(text: str) -> frozenset[str]:
    words = text.split()
    count = max(1, len(words) - _SHINGLE + 1)
    return frozenset(" ".join(words[start : start + _SHINGLE]) for start in range(count))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right) if left or right else 1.0
