"""Recognise payment card numbers and IBANs by their checksums.

Card networks are told by their prefixes (ISO/IEC 7812), and checked with the
Luhn formula; IBANs by country length and remainder 97 (ISO 13616).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hermes_apprentice.privacy.digit_runs import numbers
from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.rules import (
    CERTAIN,
    WEAK,
    Match,
    Rule,
    follows_identifier_label,
)

_FEWEST, _MOST = 12, 19
# Prefix and number of digits that suffice together with the checksum. The checksum alone passes one
# number in ten, and a 13-digit number beginning with 4 is as often a bar code: those need context.
_NETWORKS = re.compile(
    r"4(?:\d{15}|\d{18})"
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d{2})\d{12}"
    r"|(?:30[0-5]\d|3095|36\d{2}|3[89]\d{2})\d{10}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|(?:2131|1800)\d{11}"
    r"|62\d{14}|(?:50[0-9]{2}|5[6-9]\d{2}|6\d{3})\d{12}",
    re.ASCII,
)
_CARD_CONTEXT = (
    "card", "cards", "credit", "debit", "cc", "visa", "mastercard", "amex", "maestro", "discover",
    "diners", "jcb", "unionpay", "kreditkarte", "karte", "carte", "tarjeta",
)  # fmt: skip
_LENGTHS = {
    code[:2]: int(code[2:])
    for code in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 "
        "CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 "
        "GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
        "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
        "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 "
        "SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 "
    ).split()
}
_IBAN = re.compile(
    r"(?<![^\W_])[a-z]{2}\d{2}(?:[ \u00a0\-]?[a-z0-9]){11,29}", re.IGNORECASE | re.ASCII
)


def _find_cards(text: str) -> Iterator[Match]:
    covered = 0
    for readings in numbers(text, fewest=_FEWEST, most=_MOST):
        if readings[0].start < covered:
            continue
        for reading in readings:
            if any(c in "/.+()" for c in text[reading.start : reading.end]):
                continue
            known = _NETWORKS.fullmatch(reading.digits) is not None
            valid = _passes_luhn(reading.digits)
            if known and valid:
                score = CERTAIN
            elif (known or valid) and not follows_identifier_label(text, reading.start):
                score = WEAK
            else:
                continue
            covered = reading.end
            yield Match(reading.start, reading.end, score)
            break


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _find_ibans(text: str) -> Iterator[Match]:
    for match in _IBAN.finditer(text):
        length = _LENGTHS.get(match.group()[:2].upper())
        if length is None:
            continue
        signs = [i for i in range(match.start(), match.end()) if text[i].isalnum()]
        if len(signs) < length:
            continue
        end = signs[length - 1] + 1
        if end < len(text) and text[end].isalnum():
            continue
        code = "".join(text[i] for i in signs[:length]).upper()
        rest = int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97
        yield Match(match.start(), end, CERTAIN if rest == 1 else WEAK)


RULES = (
    Rule(kind=Kind.CREDIT_CARD, find=_find_cards, context=_CARD_CONTEXT),
    Rule(kind=Kind.IBAN, find=_find_ibans, context=("iban", "bank", "konto", "account")),
)
"""Every rule of this module."""
