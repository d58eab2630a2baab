"""Write invented values where placeholders stand, so that a text reads like one that was typed.

For whatever compares texts by their sound: next to ``<EMAIL_1>`` a typed address looks like another
kind of request. The values belong to nobody: reserved domains, numbers and addresses of
documentation, made-up names. Knows nothing about what the text is for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import MappingProxyType

from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.placeholders import PLACEHOLDER

_ONSETS = ("b", "br", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "v", "w")
_RHYMES = ("a", "al", "an", "ar", "e", "el", "en", "er", "i", "in", "o", "on", "or", "u", "un")
_TOPS = ("com", "net", "org")
_STREETS = ("Street", "Road", "Lane", "Avenue")
_HOSTS = ("192.0.2", "198.51.100", "203.0.113")


def filled(text: str, rng: random.Random) -> str:
    """Return ``text`` with an invented value for every placeholder, the same one for the same.

    Args:
        text: May hold placeholders; those of a kind that is not known stay.
        rng: Where the values come from.
    """
    made: dict[str, str] = {}
    for match in PLACEHOLDER.finditer(text):
        kind = match.group(1)
        if kind in _MAKERS and match.group() not in made:
            made[match.group()] = _MAKERS[Kind(kind)](rng)
    return PLACEHOLDER.sub(lambda match: made.get(match.group(), match.group()), text)


def _name(rng: random.Random) -> str:
    parts = rng.randint(2, 3)
    return "".join(rng.choice(_ONSETS) + rng.choice(_RHYMES) for _ in range(parts)).capitalize()


def _digits(rng: random.Random, *groups: int) -> str:
    return " ".join("".join(str(rng.randint(0, 9)) for _ in range(count)) for count in groups)


def _capitals(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(count))


def _hexadecimal(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789abcdef") for _ in range(count))


def _domain(rng: random.Random) -> str:
    return f"example.{rng.choice(_TOPS)}"


def _email(rng: random.Random) -> str:
    first, last = _name(rng).lower(), _name(rng).lower()
    return f"{rng.choice((first, f'{first}.{last}', f'{first[0]}{last}'))}@{_domain(rng)}"


def _phone(rng: random.Random) -> str:
    area = rng.randint(201, 989)
    return rng.choice((f"+1 {area} 555 01", f"{area}-555-01", f"({area}) 555-01")) + _digits(rng, 2)


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1940, 2005)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


_MAKERS: MappingProxyType[Kind, Callable[[random.Random], str]] = MappingProxyType(
    {
        Kind.EMAIL: _email,
        Kind.PHONE: _phone,
        Kind.CREDIT_CARD: lambda rng: _digits(rng, 4, 4, 4, 4),
        Kind.IBAN: lambda rng: f"{_capitals(rng, 2)}{_digits(rng, 2, 4, 4, 4, 4)}",
        Kind.IP: lambda rng: f"{rng.choice(_HOSTS)}.{rng.randint(1, 254)}",
        Kind.MAC: lambda rng: ":".join(_hexadecimal(rng, 2) for _ in range(6)),
        Kind.URL: lambda rng: f"https://{_domain(rng)}/{_name(rng).lower()}",
        Kind.CRYPTO: lambda rng: f"0x{_hexadecimal(rng, 40)}",
        Kind.SSN: lambda rng: _digits(rng, 3, 2, 4).replace(" ", "-"),
        Kind.PASSPORT: lambda rng: _capitals(rng, 1) + _digits(rng, 8),
        Kind.DRIVER_LICENCE: lambda rng: _capitals(rng, 1) + _digits(rng, 7),
        Kind.BIRTH_DATE: _date,
        Kind.ADDRESS: lambda rng: f"{rng.randint(1, 99)} {_name(rng)} {rng.choice(_STREETS)}",
        Kind.PERSON: lambda rng: f"{_name(rng)} {_name(rng)}",
        Kind.PLACE: _name,
        Kind.ORGANISATION: lambda rng: f"{_name(rng)} Ltd",
        Kind.GROUP: lambda rng: f"{_name(rng)}an",
    }
)
