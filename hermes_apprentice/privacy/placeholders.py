"""Write typed placeholders such as ``<EMAIL_1>``, and put the values back.

Knows nothing about how the values were found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hermes_apprentice.privacy.kinds import Kind, identity

PLACEHOLDER = re.compile(r"<([A-Z]+(?:_[A-Z]+)*)_(\d{1,9})(?:\.\d{1,9})?>", re.ASCII)
"""The form of a placeholder: kind, number and, from the second spelling on, the spelling's."""


def placeholders_in(text: str) -> frozenset[str]:
    """Return everything in ``text`` that has the form of a placeholder."""
    return frozenset(match.group() for match in PLACEHOLDER.finditer(text))


def restore(text: str, mapping: Mapping[str, str]) -> str:
    """Put the values back; a placeholder that ``mapping`` does not name stays.

    One pass: a value that itself looks like a placeholder is not replaced again.
    """
    return PLACEHOLDER.sub(lambda match: mapping.get(match.group(), match.group()), text)


class _Entry(NamedTuple):
    number: int
    spellings: list[str]


class PlaceholderNames:
    """Gives every value its placeholder, numbered by kind in the order of asking.

    Spellings that mean the same value share its number: the first one is
    ``<EMAIL_1>``, another ``<EMAIL_1.2>``, so that both can be restored exactly.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """Never use a number of ``taken``, the look-alikes that the text already contains."""
        self._reserved: set[tuple[str, int]] = set()
        for placeholder in taken:
            match = PLACEHOLDER.fullmatch(placeholder)
            if match:
                self._reserved.add((match.group(1), int(match.group(2))))
        self._filed: dict[tuple[Kind, str], _Entry] = {}
        self._next: dict[Kind, int] = {}
        self.mapping: dict[str, str] = {}

    def exact(self, kind: Kind, value: str) -> str:
        """Return the placeholder of exactly this spelling of ``value``."""
        entry = self._entry(kind, value)
        if value not in entry.spellings:
            entry.spellings.append(value)
        spelling = entry.spellings.index(value) + 1
        suffix = "" if spelling == 1 else f".{spelling}"
        placeholder = f"<{kind}_{entry.number}{suffix}>"
        self.mapping[placeholder] = value
        return placeholder

    def nearest(self, kind: Kind, value: str) -> str:
        """Return the placeholder of this spelling, else of the value's first, else a new one."""
        spellings = self._entry(kind, value).spellings
        return self.exact(kind, value if value in spellings or not spellings else spellings[0])

    def _entry(self, kind: Kind, value: str) -> _Entry:
        filed, sought = identity(kind, value)
        key = next((k for k in sought if (kind, k) in self._filed), "")
        entry = self._filed.get((kind, key))
        if key.startswith("?"):
            del self._filed[kind, key]
        if entry is None:
            number = self._next.get(kind, 1)
            while (str(kind), number) in self._reserved:
                number += 1
            self._next[kind] = number + 1
            entry = _Entry(number, [])
        for own in filed:
            if entry.spellings == [] or not own.startswith("?"):
                self._filed.setdefault((kind, own), entry)
        return entry
