"""Group requests that are nearly the same, so that no group is split between training and test.

MinHash signatures of word shingles in a locality-sensitive index (Broder, "On
the resemblance and containment of documents", 1997), joined transitively. Pure
and deterministic. Knows nothing about exchanges.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

SIMILARITY = 0.8
"""Jaccard similarity of shingles from which two texts count as nearly the same."""

CANDIDATES = 0.5
"""Similarity at which the index looks: lower, because it misses some; the exact value decides."""

_PERMUTATIONS = 128
_SHINGLE = 3
_SEED = 1


def groups(texts: Sequence[str]) -> list[int]:
    """Return for each text the index of the first text of its group.

    Args:
        texts: Already folded, such as by ``cleaning.plain``; words are separated by spaces.
    """
    parent = list(range(len(texts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    index = MinHashLSH(threshold=CANDIDATES, num_perm=_PERMUTATIONS)
    shingles = [_shingles(text) for text in texts]
    for number, found in enumerate(shingles):
        signature = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update_batch([item.encode() for item in sorted(found)])
        for other in index.query(signature):
            if _jaccard(found, shingles[other]) >= SIMILARITY:
                left, right = sorted((root(number), root(other)))
                parent[right] = left
        index.insert(number, signature)
    return [root(number) for number in range(len(texts))]


def _shingles(text: str) -> frozenset[str]:
    words = text.split()
    count = max(1, len(words) - _SHINGLE + 1)
    return frozenset(" ".join(words[start : start + _SHINGLE]) for start in range(count))


def _jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)
