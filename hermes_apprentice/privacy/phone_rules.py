"""Recognise phone numbers: international ones by form, national ones by form or by context.

A bare run of digits is a phone number only near a word such as ``call``:
order numbers look the same. Validity is judged by Google's numbering plans.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hermes_apprentice.privacy.digit_runs import Number, numbers, with_extension
from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.rules import (
    CERTAIN,
    LIKELY,
    WEAK,
    Match,
    Rule,
    follows_identifier_label,
)

_FEWEST, _MOST, _MOST_GROUPS = 7, 15, 6
_TRUNK_REGIONS = (
    "GB", "DE", "FR", "IT", "NL", "BE", "AT", "CH", "SE", "FI", "IE", "AU", "IN", "ZA", "JP", "BR"
)  # fmt: skip
"""Regions whose national numbers are written with a leading zero."""

_OTHER_REGIONS = ("US", "ES", "PT", "PL", "DK", "NO", "MX", "CZ", "GR")
_DATE = re.compile(r"\d{1,4}([./\-])\d{1,2}\1\d{1,4}\)?(?: \d{1,4})?", re.ASCII)
_DOTTED_QUAD = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_NORTH_AMERICAN = re.compile(
    r"(?:1[ .\-])?(?:\([2-9]\d{2}\)[ .\-]?|[2-9]\d{2}[ .\-])\d{3}[ .\-]\d{4}", re.ASCII
)
_LABEL_AFTER = re.compile(
    r"\s?[(\-\u2013/]?\s?(?:office|fax|mobile|cell|tel|home|work|desk|direct)\b\W?"
    r"\s*(?=[\\),.;:\n|]|\Z)",
    re.IGNORECASE,
)
_IDENTIFIER_HALF = re.compile(r"(?<![^\W_])[A-Za-z]{1,5}\d[A-Za-z0-9]*[ ]\Z")
_CONTEXT = (
    "phone", "phones", "telephone", "tel", "telefon", "telefono", "mobile", "mobil", "cell",
    "cellphone", "call", "calls", "called", "calling", "callback", "dial", "fax", "whatsapp", "sms",
    "viber", "contact", "hotline", "landline", "voicemail", "reach",
)  # fmt: skip
_HAS_CONTEXT = re.compile(rf"(?<![^\W_])(?:{'|'.join(_CONTEXT)})(?![^\W_])", re.IGNORECASE)


def _find(text: str) -> Iterator[Match]:
    may_be_weak = _HAS_CONTEXT.search(text) is not None
    covered = 0
    for readings in numbers(text, fewest=_FEWEST, most=_MOST):
        if readings[0].start < covered:
            continue
        best = _best(text, readings, may_be_weak)
        if best is not None:
            covered = best.end
            yield best


def _best(text: str, readings: list[Number], may_be_weak: bool) -> Match | None:
    """Return the surest reading; among weak ones the longest valid, else the longest."""
    weak: list[Number] = []
    for reading in readings:
        value = text[reading.start : reading.end]
        score = _score(value, reading)
        if score == WEAK and reading.groups > 1 and _LABEL_AFTER.match(text, reading.end):
            score = LIKELY
        if score == WEAK:
            weak.append(reading)
        elif score and (value.lstrip("(").startswith("+") or not _is_labelled(text, reading)):
            return Match(reading.start, with_extension(text, reading.end), score)
    if not weak or not may_be_weak or _is_labelled(text, weak[0]):
        return None
    regions = _TRUNK_REGIONS + _OTHER_REGIONS
    valid = (r for r in weak if len(weak) > 1 and _is_valid(text[r.start : r.end], regions))
    choice = next(valid, weak[0])
    return Match(choice.start, with_extension(text, choice.end), WEAK)


def _is_labelled(text: str, reading: Number) -> bool:
    """Say whether a label stands before the number, or the first half of an identifier (`PB15`)."""
    half = _IDENTIFIER_HALF.search(text, max(0, reading.start - 20), reading.start)
    return half is not None or follows_identifier_label(text, reading.start)


def _score(value: str, reading: Number) -> float:
    bare = value.lstrip("(")
    if bare.startswith("+"):
        return _international_score(bare)
    # More groups than that are a list of numbers.
    if reading.groups > _MOST_GROUPS or _DATE.fullmatch(value) or _DOTTED_QUAD.fullmatch(value):
        return 0.0
    if bare.startswith("00") and _international_score("+" + bare[2:]) == CERTAIN:
        return CERTAIN if reading.groups > 1 else WEAK
    if _NORTH_AMERICAN.fullmatch(value) and _is_valid(value, ("US",)):
        return LIKELY
    # Article numbers are grouped with hyphens too, and German ones may be of almost any length.
    grouped = reading.groups > 1 and len(reading.digits) >= 10 and "-" not in value
    if bare.startswith("0") and grouped and _is_valid(value, _TRUNK_REGIONS):
        return LIKELY
    return WEAK


def _international_score(value: str) -> float:
    import phonenumbers

    try:
        number = phonenumbers.parse(value, None)
    except phonenumbers.NumberParseException:
        return 0.0
    if phonenumbers.is_valid_number(number):
        return CERTAIN
    possible = phonenumbers.is_possible_number_with_reason(number)
    return LIKELY if possible == phonenumbers.ValidationResult.IS_POSSIBLE else 0.0


def _is_valid(value: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    for region in regions:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(value, region)):
                return True
        except phonenumbers.NumberParseException:
            return False
    return False


RULES = (Rule(kind=Kind.PHONE, find=_find, context=_CONTEXT),)
"""Every rule of this module."""
