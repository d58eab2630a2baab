"""What a recognition rule is.

A rule scans a text and yields matches with a score. A match below
`THRESHOLD` counts only if one of the rule's context words stands near it.
Knows nothing about how that nearness is judged, nor about placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hermes_apprentice.privacy.kinds import Kind

THRESHOLD = 0.4
"""What a match must reach; a context word lifts a weak match exactly to it, or above."""

CERTAIN = 0.9
"""A checksum, or a form that nothing else has."""

LIKELY = 0.6
"""A form that other things have too, but rarely."""

WEAK = 0.1
"""A form that many harmless things have; needs a context word."""

_WORD = re.compile(r"[^\W_]+")
_IDENTIFIER_LABEL = re.compile(
    r"(?:\b(?:orders?|po|invoices?|inv|skus?|items?|articles?|art|parts?|products?|serial|batch|lot"
    r"|ean|upc|gtin|isbn|asin|tickets?|cases?|refs?|references?|tracking|parcel|shipment"
    r"|consignment|quote|bill|claim|policy|rma|job|task|issue|build|model|bestellung|rechnung"
    r"|auftrag|artikel|commande|facture|pedido|factura|qty|quantity|pieces|units|amount|total"
    r"|price)s?(?:[\s_]*(?:no|nr|num|numbers?|ids?|code|nummer|is|was|are|ref|reference))*"
    r"[\s.:=#\u2116\"'(_-]*|[#\u2116])\Z",
    re.IGNORECASE,
)
_VERSION_LABEL = re.compile(
    r"\b(?:v|versions?|ver|rev|revision|release|firmware|fw|build|software|driver|update|upgrade"
    r"|kernel|patch|section|chapter|clause|paragraph|step)[\s:.=\"'(_-]*\Z",
    re.IGNORECASE,
)
_LABEL_REACH = 40


class Match(NamedTuple):
    """Where a rule matched, and how sure the form alone makes it."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one kind of personal data is recognised."""

    kind: Kind
    """What the rule finds."""

    find: Callable[[str], Iterator[Match]]
    """Scans a text; a pure function."""

    context: tuple[str, ...] = ()
    """Lower-case ASCII words that lift a weak match standing shortly after one of them."""


def words(text: str) -> list[str]:
    """Return the words of ``text`` in lower case, split at every sign, underscores too."""
    return [word.lower() for word in _WORD.findall(text)]


def follows_identifier_label(text: str, start: int) -> bool:
    """Say whether a label such as ``order no.`` or ``#`` stands directly before ``start``."""
    return _IDENTIFIER_LABEL.search(text, max(0, start - _LABEL_REACH), start) is not None


def follows_version_label(text: str, start: int) -> bool:
    """Say whether a word such as ``version`` or ``firmware`` stands directly before ``start``."""
    return _VERSION_LABEL.search(text, max(0, start - _LABEL_REACH), start) is not None


def from_pattern(pattern: re.Pattern[str], score: float) -> Callable[[str], Iterator[Match]]:
    """Return a ``find`` that reports every match of ``pattern`` with the same score."""

    def find(text: str) -> Iterator[Match]:
        for match in pattern.finditer(text):
            yield Match(match.start(), match.end(), score)

    return find
