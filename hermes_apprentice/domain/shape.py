"""What the answers of a pattern have in common.

Values only; how a shape is found is in ``domain/shape_inference.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from hermes_apprentice.domain.affix import Affix

JsonScalar = str | int | float | bool | None


class ShapeKind(StrEnum):
    """The three families of answers."""

    LABEL = "label"
    """One of a small closed set of short texts."""

    JSON = "json"
    """A JSON object with a stable schema."""

    TEXT = "text"
    """Anything else."""


class FieldKind(StrEnum):
    """Where the value of a JSON field comes from."""

    COPIED = "copied"
    """A span of the request, as it stands or after a learned normalisation."""

    CLOSED_SET = "closed_set"
    """One of a few values."""

    CONSTANT = "constant"
    """The same value in every answer."""

    FREE_TEXT = "free_text"
    """Written by the model; only a generator can do it."""


class Missing(StrEnum):
    """How the upstream writes a field that the request does not mention."""

    NEVER = "never"
    """It is always there."""

    ABSENT = "absent"
    """The key is left out."""

    NULL = "null"
    """The value is ``null``."""

    EMPTY = "empty"
    """The value is an empty text or list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One leaf of the answers' schema."""

    path: str
    """Keys joined by dots; ``[]`` marks the elements of a list: ``items[].sku``."""

    kind: FieldKind
    """Where its value comes from."""

    missing: Missing
    """How it is written when there is nothing to say."""

    presence: float
    """Share of the answers that carry a value, 0 to 1."""

    value_type: str
    """``string``, ``integer``, ``number`` or ``boolean``."""

    values: tuple[JsonScalar, ...] = ()
    """The values of a closed set or the constant, most frequent first."""

    copied_share: float = 0.0
    """Share of the present values found in the request, 0 to 1."""

    default: JsonScalar = None
    """The value of a copied field where the request does not mention it; ``None`` where there
    is no such value, and ``missing`` says what is written."""

    lone: bool = False
    """Whether a list of one element is written as the element alone, without brackets."""

    prefix: str = ""
    """What every value of a copied field begins with, without standing in the request."""

    suffix: str = ""
    """The same at its end."""

    @property
    def in_inner_list(self) -> bool:
        """Whether it lies in a list inside a list: ``orders[].items[]``."""
        return self.path.count("[]") > 1

    def bare(self, value: JsonScalar) -> JsonScalar:
        """Return a value without what all have in common; ``None`` if it lacks that."""
        return Affix(self.prefix, self.suffix).bare(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonStyle:
    """How the upstream formats its JSON, so that an answer can be written the same way."""

    indent: int | None = None
    """Spaces per level, ``None`` for one line."""

    item_separator: str = ", "
    """Between elements."""

    key_separator: str = ": "
    """Between key and value."""

    ensure_ascii: bool = False
    """Whether non-ASCII characters are escaped."""

    prefix: str = ""
    """Text before the object, such as a code fence."""

    suffix: str = ""
    """Text after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the answers of one pattern have in common."""

    kind: ShapeKind
    """The family."""

    agreement: float
    """Share of the answers that fit, 0 to 1: what a graduation message calls agreement."""

    labels: tuple[str, ...] = ()
    """The closed set of a ``LABEL`` shape, most frequent first."""

    fields: tuple[FieldShape, ...] = ()
    """The leaves of a ``JSON`` shape, in the upstream's key order."""

    style: JsonStyle = field(default_factory=JsonStyle)
    """The formatting of a ``JSON`` shape."""

    median_chars: int = 0
    """Median length of an answer, in characters."""


class Kind(StrEnum):
    """The kinds of specialists, smallest first."""

    CLASSIFIER = "classifier"
    """A head on the request's embedding."""

    EXTRACTOR = "extractor"
    """Spans of the request, constants and small closed sets, put into JSON."""

    GENERATOR = "generator"
    """A LoRA adapter on a small language model."""

    @property
    def with_article(self) -> str:
        """The word as a sentence needs it: "a classifier", "an extractor"."""
        return f"an {self}" if self is Kind.EXTRACTOR else f"a {self}"


def kind_for(shape: Shape) -> Kind:
    """Return the smallest kind of specialist that can give answers of this shape.

    An extractor does not know which list inside a list a word belongs to.
    """
    if shape.kind is ShapeKind.LABEL:
        return Kind.CLASSIFIER
    if shape.kind is ShapeKind.JSON and not any(
        leaf.kind is FieldKind.FREE_TEXT or leaf.in_inner_list for leaf in shape.fields
    ):
        return Kind.EXTRACTOR
    return Kind.GENERATOR


def misfit(kind: Kind, shape: Shape) -> str:
    """Return why answers of this shape can never come from this kind; empty where they may."""
    if kind is Kind.EXTRACTOR and shape.kind is not ShapeKind.JSON:
        return "an extractor writes JSON, and these answers are none"
    if kind is Kind.CLASSIFIER and shape.kind is not ShapeKind.LABEL:
        these = "free text" if shape.kind is ShapeKind.TEXT else "JSON with values of its own"
        return f"a classifier chooses among a few labels, and these answers are {these}"
    return ""
