"""Name the kinds of personal data, and say when two spellings mean the same value.

Knows nothing about where a value was found or how it was recognised.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """A kind of personal data; its value is the word inside a placeholder."""

    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CREDIT_CARD = "CREDIT_CARD"
    IBAN = "IBAN"
    IP = "IP"
    MAC = "MAC"
    URL = "URL"
    CRYPTO = "CRYPTO"
    SSN = "SSN"
    PASSPORT = "PASSPORT"
    DRIVER_LICENCE = "DRIVER_LICENCE"
    BIRTH_DATE = "BIRTH_DATE"
    ADDRESS = "ADDRESS"
    PERSON = "PERSON"
    PLACE = "PLACE"
    ORGANISATION = "ORGANISATION"
    GROUP = "GROUP"


LANGUAGE_KINDS: tuple[Kind, ...] = (Kind.PERSON, Kind.PLACE, Kind.ORGANISATION, Kind.GROUP)
"""What only a language model can tell from ordinary words."""

PATTERN_KINDS: tuple[Kind, ...] = tuple(k for k in Kind if k not in LANGUAGE_KINDS)
"""What rules and checksums recognise, with no model installed."""

_GROUPED = frozenset(
    {
        Kind.PHONE,
        Kind.CREDIT_CARD,
        Kind.IBAN,
        Kind.SSN,
        Kind.PASSPORT,
        Kind.DRIVER_LICENCE,
        Kind.MAC,
    }
)
_CASELESS = frozenset({Kind.EMAIL, Kind.IP, Kind.CRYPTO, Kind.IBAN, Kind.MAC, Kind.ADDRESS})
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_SHORTEST_PHONE = 7
_SPACES = re.compile(r"\s+")
_SEPARATOR = r"[ \u00a0\u202f().:/\-]{0,3}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One piece of personal data in a text. It does not carry the text."""

    kind: Kind
    """What it is."""

    start: int
    """Index of its first character."""

    end: int
    """Index after its last character."""

    score: float
    """How sure the rule is, 0 to 1; what is reported has passed the threshold."""


class Identity(NamedTuple):
    """Two spellings are the same value if one is filed under a key that the other seeks."""

    filed: tuple[str, ...]
    sought: tuple[str, ...]


def identity(kind: Kind, value: str) -> Identity:
    """Return the keys of ``value``.

    Case does not matter in e-mail addresses, nor grouping in numbers. A phone
    number with a country code is the same as one that lacks only the code; two
    with different codes are different. So a key that begins with ``?`` is met
    only once: a number without a code belongs to one country.
    """
    if kind is Kind.PHONE:
        digits, coded = _phone_digits(value)
        if not coded:
            return Identity((f"={digits}", f"?{digits}"), (f"={digits}", f"-{digits}"))
        endings = _phone_endings(value)[1:]
        return Identity(
            (f"+{digits}", *(f"-{ending}" for ending in endings)),
            (f"+{digits}", *(f"?{ending}" for ending in endings)),
        )
    if kind in _GROUPED:
        keys = (squeeze(value),)
    elif kind is Kind.URL:
        keys = (value.replace("\\/", "/"),)
    else:
        flat = _SPACES.sub(" ", value)
        keys = (flat.casefold() if kind in _CASELESS else flat,)
    return Identity(keys, keys)


def squeeze(text: str) -> str:
    """Return only the letters and digits of ``text``, without case."""
    return _NOT_ALPHANUMERIC.sub("", text).casefold()


def core(kind: Kind, value: str) -> str:
    """Return the part of ``value`` that every spelling has, without grouping."""
    if kind is Kind.PHONE:
        return _phone_endings(value)[-1]
    return squeeze(value)


def occurrences(kind: Kind, value: str) -> re.Pattern[str]:
    """Return a pattern that finds ``value`` again in another text, however it is grouped there.

    The neighbours of an occurrence are no letters or digits, so that a value
    is never found inside a longer word or number.
    """
    if kind is Kind.PHONE:
        body = _phone_body(value)
    elif kind in _GROUPED:
        body = _SEPARATOR.join(re.escape(sign) for sign in squeeze(value))
    else:
        body = r"\s+".join(re.escape(word) for word in _SPACES.split(value.strip()))
    flags = re.IGNORECASE if kind in _CASELESS or kind in _GROUPED else 0
    return re.compile(rf"(?<![^\W_]){body}(?![^\W_])", flags)


def _phone_digits(value: str) -> tuple[str, bool]:
    """Return the digits without leading zeros, and whether they begin with a country code."""
    bare = re.split(r"[xe]", value.lower(), maxsplit=1)[0].lstrip("( ")
    coded = bare.startswith(("+", "00"))
    digits = re.sub(r"\(0\)", "", bare) if coded else bare
    return "".join(c for c in digits if c.isdigit()).lstrip("0") or "0", coded


def _phone_endings(value: str) -> list[str]:
    """Return the digits, then without each country code they may begin with, ever shorter."""
    digits, coded = _phone_digits(value)
    longest_code = min(3, len(digits) - _SHORTEST_PHONE) if coded else 0
    return [digits[drop:] for drop in range(longest_code + 1)] or [digits]


def _phone_body(value: str) -> str:
    """Return a pattern for a phone number with or without its country code and leading zero."""
    numbers = "|".join(_SEPARATOR.join(ending) for ending in _phone_endings(value))
    return rf"(?:(?:\+|00)\d{{1,3}}{_SEPARATOR})?\(?(?:0{_SEPARATOR})?(?:{numbers})"
