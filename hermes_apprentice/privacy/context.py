"""Weigh weak matches by the words that stand near them.

The rule is Presidio's (its enhancer by lemmas, whole words, four before the match), over our own
words: a match that stands on or shortly behind a context word of its rule gains `LIFT` and reaches
at least the threshold. Words too common to mean anything are not counted. Without a language
model nothing else of Presidio is needed, so a process that serves need not load it; the tests hold
both ways against each other. Knows nothing about kinds or placeholders.
"""

from __future__ import annotations

import importlib.util
import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from hermes_apprentice.errors import RedactionError
from hermes_apprentice.privacy.rules import THRESHOLD, Match, Rule

LIFT = 0.35
"""What a context word adds to the score of a match."""

BEFORE = 4
"""Words before the match that count, besides the one that it begins with."""

TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")
"""A word or a single sign; the underscore parts words."""


class Surroundings:
    """The words of one text, in order, with their places."""

    def __init__(self, text: str, ignored: frozenset[str]) -> None:
        """Cut ``text``; ``ignored`` words and single signs do not count as neighbours."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._words: list[str | None] = []
        for token in TOKEN.finditer(text):
            word = token.group().lower()
            counts = word not in ignored and any(sign.isalnum() for sign in word)
            self._starts.append(token.start())
            self._ends.append(token.end())
            self._words.append(word if counts else None)

    def lifted(self, match: Match, rule: Rule) -> float:
        """Return the score of a match, with what its surroundings add to it."""
        if not rule.context or self._near(match.start).isdisjoint(rule.context):
            return match.score
        return min(1.0, max(match.score + LIFT, THRESHOLD))

    def _near(self, start: int) -> set[str]:
        # The token that begins or ends behind this place: blanks belong to the next one.
        place = bisect_right(self._ends, start)
        near: set[str] = set()
        here = place
        while here < len(self._words):
            word = self._words[here]
            if word is not None:
                near.add(word)
                break
            here += 1
        left = BEFORE + 1
        for word in reversed(self._words[: place + 1]):
            if word is not None:
                near.add(word)
                left -= 1
                if not left:
                    break
        return near


@cache
def stop_words() -> frozenset[str]:
    """Return spaCy's list of words too common to mean anything, without importing spaCy.

    Raises:
        RedactionError: The installed spaCy has no such list where it is known to lie.
    """
    found = importlib.util.find_spec("spacy")
    for folder in found.submodule_search_locations or () if found is not None else ():
        path = Path(folder) / "lang" / "en" / "stop_words.py"
        spec = importlib.util.spec_from_file_location("_apprentice_stop_words", path)
        if spec is None or spec.loader is None or not path.is_file():
            continue
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return frozenset(module.STOP_WORDS)
    raise RedactionError("spaCy's list of stop words is missing; install the requirements again")


def ignored_words(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the words that do not count: stop words, unless a rule has them as context."""
    return stop_words() - {word for rule in rules for word in rule.context}
