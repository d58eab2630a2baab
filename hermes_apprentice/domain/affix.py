"""What several texts begin and end with alike: the ``ORD-`` of ``ORD-123`` and ``ORD-77``.

Pure. Knows nothing about fields or requests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a shape knows of affixes
    from hermes_apprentice.domain.shape import JsonScalar


class Affix(NamedTuple):
    """The common ends."""

    prefix: str
    """Begins every text."""

    suffix: str
    """Ends every text."""

    def bare(self, value: JsonScalar) -> JsonScalar:
        """Return a value without its ends; ``None`` if it does not have them."""
        if not self.prefix and not self.suffix:
            return value
        if not isinstance(value, str) or len(value) <= len(self.prefix) + len(self.suffix):
            return None
        if not value.startswith(self.prefix) or not value.endswith(self.suffix):
            return None
        return value[len(self.prefix) : len(value) - len(self.suffix)]


def common_affix(texts: Collection[str]) -> Affix:
    """Return the longest common ends that leave something of every text between them.

    They end between a word, a number and other signs: digits that all numbers happen to begin
    with belong to the numbers.
    """
    prefix = _common_start(list(texts))
    rests = [text[len(prefix) :] for text in texts]
    suffix = _common_start([text[::-1] for text in rests])[::-1]
    return Affix(prefix, suffix)


def _common_start(texts: Sequence[str]) -> str:
    shortest = min(map(len, texts), default=0)
    common = 0
    while common < shortest and len({text[common] for text in texts}) == 1:
        common += 1
    for size in range(min(common, shortest - 1), 0, -1):
        if all(_sort_of(text[size - 1]) != _sort_of(text[size]) for text in texts):
            return texts[0][:size]
    return ""


def _sort_of(sign: str) -> str:
    """Signs of one sort belong together; each other sign is a sort of its own."""
    return "letter" if sign.isalpha() else "digit" if sign.isdigit() else sign
