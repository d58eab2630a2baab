"""Name a pattern by the words that its requests share and others do not.

Request text comes from strangers and goes into file names and messages, so
nothing but single letters-only words gets through. Knows nothing about models.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

KEYWORDS = 3
"""Words in a name."""

MIN_SHARE = 0.25
"""Share of the requests that must hold a word; a person's name rarely does."""

MAX_SLUG = 40
"""Longest slug, in characters."""

READ_CHARS = 2_000
"""Characters of each request that are read."""

_WORD = re.compile(r"[^\W\d_]{3,20}")
_COMMON = frozenset(
    """
    about after again all also and any are been before below can could did does each for from get
    give had has have her here him his how into its just know let like made make may more most
    need not now one only other our out over please reply say she should some such text than
    thank thanks that the their them then there these they this those through under use very want
    was way well were what when where which while who why will with would you your
    """.split()
)


class Name(NamedTuple):
    """What a pattern is called."""

    slug: str
    """For files and commands: ``[a-z0-9-]``, begins with a letter, unique."""

    label: str
    """For people: keywords, most telling first."""


def name(
    requests: Sequence[str],
    others: Sequence[str],
    *,
    taken: Collection[str],
    mark: str,
    avoid: Iterable[str] = (),
) -> Name:
    """Name a group of requests.

    Words are weighed by class-based tf-idf (Grootendorst, BERTopic, 2022) on
    the share of requests that hold them.

    Args:
        requests: The group.
        others: Requests outside of the group.
        taken: Slugs in use.
        mark: A few hexadecimal digits that tell the group from others of the same words.
        avoid: Texts whose words say nothing about the task, such as its labels.
    """
    words = _keywords(requests, others, {word for text in avoid for word in _words(text)})
    label = ", ".join(words) or f"pattern {mark}"
    stem = "-".join(filter(None, map(_ascii, words)))
    while len(stem) > MAX_SLUG - len(mark) - 1 and "-" in stem:
        stem = stem.rpartition("-")[0]
    if "-" not in stem:  # one plain word could be the name of something else
        stem = f"{stem or 'pattern'}-{mark}"
    slug = stem if stem not in taken else f"{stem}-{mark}"
    number = 2
    while slug in taken:
        slug, number = f"{stem}-{mark}-{number}", number + 1
    return Name(slug, label)


def _keywords(requests: Sequence[str], others: Sequence[str], avoided: set[str]) -> list[str]:
    here, there = _shares(requests), _shares(others)
    weights = {
        word: share * math.log((0.02 + share) / (0.02 + there.get(word, 0.0)))
        for word, share in here.items()
        if share >= MIN_SHARE and word not in _COMMON and word not in avoided
    }
    ranked = sorted(weights, key=lambda word: (-weights[word], word))
    chosen: list[str] = []
    for word in ranked:
        if all(word[:4] != other[:4] for other in chosen):  # order, orders, ordered
            chosen.append(word)
        if len(chosen) == KEYWORDS:
            break
    return chosen


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _shares(texts: Iterable[str]) -> dict[str, float]:
    """Return the share of the texts that hold each word."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        total += 1
        counts.update(set(_words(text[:READ_CHARS])))
    return {word: count / total for word, count in counts.items()}


def _ascii(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", plain.lower())
