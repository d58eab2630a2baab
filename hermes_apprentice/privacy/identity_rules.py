"""Recognise papers and birth dates: always by context, for the forms alone prove nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.rules import (
    LIKELY,
    WEAK,
    Match,
    Rule,
    follows_identifier_label,
    from_pattern,
)

_SSN = re.compile(r"(?<![\w-])\d{3}([ .\-]?)\d{2}\1\d{4}(?![\w-])", re.ASCII)
_PASSPORT = re.compile(r"(?<![\w-])[A-Z]{0,3}\d{6,9}[A-Z]?(?![\w-])", re.ASCII | re.IGNORECASE)
# The phrase itself is looked for, because `driver`, `license` and `permit` alone mean software too.
_LICENCE = re.compile(
    r"(?:\bdriv(?:er'?s?|ers'|er\u2019s|ing)\s+(?:licen[cs]e|permit)|\bDL\b)"
    r"(?:[\s:#.,]|\b(?:number|no|nr|num|id|is|was)\b){0,8}"
    r"(?P<value>[A-Z]{0,5}[0-9][A-Z0-9]*(?:[ \-][A-Z0-9]*[0-9][A-Z0-9]*){0,4})",
    re.IGNORECASE,
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DATE = re.compile(
    r"(?<![\w.,/\-])(?:"
    r"(?:0?[1-9]|[12]\d|3[01])([./\-])(?:0?[1-9]|[12]\d|3[01])\1(?:(?:19|20)\d{2}|\d{2})"
    r"|(?:19|20)\d{2}([./\-])(?:0?[1-9]|1[0-2])\2(?:0?[1-9]|[12]\d|3[01])"
    rf"|(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?(?: of)?[ \-]{_MONTH},?[ \-]"
    r"(?:(?:19|20)\d{2}|\d{2})"
    rf"|{_MONTH} (?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?,? (?:19|20)\d{{2}}"
    r")(?![^\W_]|[/\-.]\d)",
    re.IGNORECASE,
)


def _find_passports(text: str) -> Iterator[Match]:
    for match in _PASSPORT.finditer(text):
        if not follows_identifier_label(text, match.start()):
            yield Match(match.start(), match.end(), WEAK)


def _find_licences(text: str) -> Iterator[Match]:
    for match in _LICENCE.finditer(text):
        start, end = match.span("value")
        if sum(c.isdigit() for c in match.group("value")) >= 5:
            yield Match(start, end, LIKELY)


RULES = (
    Rule(kind=Kind.SSN, find=from_pattern(_SSN, WEAK), context=("ssn", "ssns", "social", "itin")),
    Rule(
        kind=Kind.PASSPORT,
        find=_find_passports,
        context=("passport", "passports", "passeport", "reisepass", "pasaporte", "passaporto"),
    ),
    Rule(kind=Kind.DRIVER_LICENCE, find=_find_licences),
    Rule(
        kind=Kind.BIRTH_DATE,
        find=from_pattern(_DATE, WEAK),
        context=(
            "born",
            "birth",
            "birthday",
            "birthdate",
            "birthdays",
            "dob",
            "geboren",
            "geburtsdatum",
            "nacido",
        ),
    ),
)
"""Every rule of this module."""
