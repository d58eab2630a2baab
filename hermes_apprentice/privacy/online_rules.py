"""Recognise what belongs to a person online: e-mail, URL, IP and MAC address, wallet.

E-mail domains are judged by their form, not by the public suffix list: the
list would have to be fetched, and an address below a domain that is newer
than the list would be left in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from hashlib import sha256

from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.rules import (
    CERTAIN,
    LIKELY,
    Match,
    Rule,
    follows_version_label,
)

# Scripts written without spaces: an address pasted into them has no other boundary.
_UNSPACED = "\u0e00-\u0e7f\u1100-\u11ff\u3000-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60"
_AT = re.compile(r"[@\uff20]")
_LOCAL = re.compile(rf"[^\W{_UNSPACED}]|[.+%'\-]")
_LOCAL_ANY_SCRIPT = re.compile(r"\w|[.+%'\-]")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.)+(?:xn--[a-z0-9\-]{2,59}|[a-z]{2,24}|[^\W\d_a-z]{2,24})"
    r"|\[?(?:\d{1,3}\.){3}\d{1,3}\]?",
    re.IGNORECASE,
)
_URL = re.compile(
    r"(?<![^\W_])(?:(?:https?|ftps?|sftp|wss?|ssh|git|file)://|(?:https?|ftp):(?:\\/){2}"
    r"|www\d{0,2}\.(?=[^\s.]+\.))"
    r"(?:[^\s<>\"`\\\u3001\u3002\uff0c\uff01\uff1f\uff09\u300d\u3011]|\\/)+",
    re.IGNORECASE,
)
_URL_TAIL = ".,;:!?'*_~)]}>"
_OPENING = {")": "(", "]": "[", "}": "{"}
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![^\W_]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,8}[0-9a-f]{0,4}(?:(?:\.\d{1,3}){3})?(?:%\w+)?"
    r"(?:/\d{1,3})?(?![\w:])",
    re.IGNORECASE,
)
_MAC = re.compile(
    r"(?<![\w:-])[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}(?![\w:-])"
    r"|(?<![\w.])[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(?![\w.])",
    re.IGNORECASE,
)
_WALLET = re.compile(
    r"(?<![^\W_])(?:0x[0-9a-fA-F]{40}|[13][1-9A-HJ-NP-Za-km-z]{25,34}"
    r"|(?:bc1|BC1)[02-9ac-hj-np-zAC-HJ-NP-Z]{11,71})"
    r"(?![^\W_])"
)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _find_emails(text: str) -> Iterator[Match]:
    for at in _AT.finditer(text):
        domain = _DOMAIN.match(text, at.end())
        if domain is None:
            continue
        for allowed in (_LOCAL, _LOCAL_ANY_SCRIPT):
            start = at.start()
            while start > 0 and allowed.match(text, start - 1):
                start -= 1
            while start < at.start() and text[start] in ".+%'-":
                start += 1
            if start < at.start():
                yield Match(start, domain.end(), CERTAIN)
                break


def _find_urls(text: str) -> Iterator[Match]:
    for match in _URL.finditer(text):
        start, end = match.span()
        while end > start and text[end - 1] in _URL_TAIL:
            opening = _OPENING.get(text[end - 1])
            if opening and text.count(opening, start, end) >= text.count(text[end - 1], start, end):
                break
            end -= 1
        if any(c.isalnum() for c in text[start:end].partition(":")[2] or text[start:end]):
            yield Match(start, end, CERTAIN)


def _find_ips(text: str) -> Iterator[Match]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            value = match.group()
            # `a::b` is a valid address and also how programmers write names.
            if pattern is _IPV6 and (value.count(":") < 3 or not any(c.isdigit() for c in value)):
                continue
            try:
                address = ipaddress.ip_interface(value).ip
            except ValueError:
                continue
            if address.is_loopback or address.is_unspecified:
                continue
            if not follows_version_label(text, match.start()):
                yield Match(match.start(), match.end(), LIKELY)


def _find_macs(text: str) -> Iterator[Match]:
    for match in _MAC.finditer(text):
        digits = re.sub(r"[:.\-]", "", match.group()).lower()
        # Without a hexadecimal letter, `12-34-56-78-90-12` is mostly an article number.
        if match.group()[2] != ":" and digits.isdigit():
            continue
        if digits not in ("0" * 12, "f" * 12):
            yield Match(match.start(), match.end(), LIKELY)


def _find_wallets(text: str) -> Iterator[Match]:
    for match in _WALLET.finditer(text):
        value = match.group()
        if value.startswith("0x"):
            yield Match(match.start(), match.end(), LIKELY)
        elif (
            _has_bech32_checksum(value)
            if value[:3].lower() == "bc1"
            else _has_base58_checksum(value)
        ):
            yield Match(match.start(), match.end(), CERTAIN)


def _has_base58_checksum(address: str) -> bool:
    """Check a Bitcoin address: the last 4 bytes are the double SHA-256 of the first 21."""
    number = 0
    for sign in address:
        number = number * 58 + _BASE58.index(sign)
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25, "big")
    return sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def _has_bech32_checksum(address: str) -> bool:
    """Check a segregated-witness address: BIP 173 (constant 1) or BIP 350 (bech32m)."""
    if address != address.lower() and address != address.upper():
        return False
    values = [_BECH32.index(sign) for sign in address.lower()[3:]]
    state = 1
    for value in [*(ord(c) >> 5 for c in "bc"), 0, *(ord(c) & 31 for c in "bc"), *values]:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= term if top >> bit & 1 else 0
    return state in (1, 0x2BC830A3)


RULES = (
    Rule(kind=Kind.EMAIL, find=_find_emails),
    Rule(kind=Kind.URL, find=_find_urls),
    Rule(kind=Kind.IP, find=_find_ips),
    Rule(kind=Kind.MAC, find=_find_macs),
    Rule(kind=Kind.CRYPTO, find=_find_wallets),
)
"""Every rule of this module; all their matches are sure enough without context."""
