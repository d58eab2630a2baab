"""Recognise street addresses that are written as addresses are in seven languages.

Only what a form can prove: a house number with a word that means street, or
a line labelled as an address. A bare village and house number is missed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hermes_apprentice.privacy.kinds import Kind
from hermes_apprentice.privacy.rules import LIKELY, WEAK, Match, Rule

_CAPITAL = r"(?![a-z])[^\W\d_][\w'\u2019.\-]*"
_HOUSE = r"\d{1,6}(?:[A-Za-z]|[\-/]\d{1,4}[A-Za-z]?)?"
_FREE = r"(?<![\w\-#.,/$\u20ac\u00a3])"
_UNIT = (
    r"(?:,?[ ](?i:apt|apartment|suite|ste|unit|flat|floor|room|rm)\.?[ ]?\#?\d{1,5}[A-Za-z]?"
    r"(?![\w\-]))?"
)
_STATE = r"(?:,[ ](?:[A-Z][\w.'\-]+[ ]?){1,3},?[ ][A-Z]{2}[ ]\d{5}(?:-\d{4})?)?"
_POSTCODE = r"(?:,?[ ]\d{4,5}[ ][A-Z\u00c0-\u00de][\w\-]+)?"
_SURE = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Av|Boulevard|Blvd|Lane|Ln|Highway|Hwy|Terrace|Crescent"
    r"|Parkway|Pkwy|Alley|Mews)"
)
# Words that also end the names of goods, such as a flash drive.
_UNSURE = (
    r"(?:Drive|Dr|Way|Court|Ct|Place|Pl|Square|Sq|Circle|Cir|Close|Trail|Row|Gardens?|Grove|Hill"
    r"|Park)"
)
_ENGLISH = re.compile(
    rf"{_FREE}{_HOUSE},?[ ](?:{_CAPITAL}[ ]){{1,4}}(?:(?P<sure>{_SURE})|{_UNSURE})\b\.?"
    rf"(?:[ ](?:N|S|E|W|NE|NW|SE|SW)\b)?{_UNIT}{_STATE}"
)
_STREET_FIRST = re.compile(
    r"(?<![^\W_])(?:"
    r"(?![a-z])[^\W\d_][\w\-]*(?:stra\u00dfe|strasse|str\.|weg|allee|gasse|platz|damm|straat|laan"
    r"|gracht|plein|gatan|v\u00e4gen|gata|(?<!ri)gade|vej|veien|katu|kuja|braut)"
    r"|(?:[Uu]l\.|Viale|Piazza|Calle|C/|Avenida|Paseo|Rua|Stra\u00dfe)"
    rf"(?:[ ]{_CAPITAL}|[ ](?:de|del|della|di|da|do|dos|la|los|las|des|der|von)){{1,4}}"
    rf"|(?P<unsure>Via|Corso|Plaza|Platz|Al\.)(?:[ ]{_CAPITAL}){{1,4}}"
    rf"),?[ ]{_HOUSE}(?![\w\-]){_UNIT}{_POSTCODE}"
)
_FRENCH = re.compile(
    rf"{_FREE}{_HOUSE}(?:[ ](?:bis|ter))?,?[ ](?i:rue|avenue|boulevard|chemin|place|all\u00e9e"
    r"|impasse|quai|route|cours)(?:[ ](?:de|du|des|la|le|les|l'|d'))*"
    rf"(?:[ ]?{_CAPITAL}){{1,4}}{_POSTCODE}"
)
_PO_BOX = re.compile(
    r"(?<![^\W_])(?:P\.?[ ]?O\.?[ ]?Box|Postfach|Apartado)[ ]\d{1,6}(?![\w\-])", re.IGNORECASE
)
_WITH_UNIT = re.compile(
    rf"{_FREE}(?:\d{{1,6}}[ ]){{0,2}}(?:{_CAPITAL}[ ]){{1,4}}(?:{_HOUSE}[ ])?"
    r"(?P<unit>(?i:(?P<sure>apt|apartment)|suite))\.?[ ]?\#?\d{1,5}(?![\w\-])"
)
_MILITARY = re.compile(
    r"(?<![^\W_])(?:PSC|CMR|Unit)[ ]\d{1,5},?[ ]Box[ ]\d{1,6}"
    r"(?:\s{1,2}(?:APO|FPO|DPO)[ ]A[AEP][ ]\d{5})?(?![\w\-])",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"(?:^|(?<=[\n|;,{\[]))[ \t\"'*\-]{0,12}"
    r"(?:(?:home|billing|shipping|delivery|mailing|postal|street|customer|invoice|my|new)[ _]){0,3}"
    r"(?:address|adresse|anschrift|direcci\u00f3n|indirizzo)(?:[ _](?:line[ _]?)?\d?)?[\"'*]{0,3}"
    r"\s{0,3}[:=][ \t\"'*]{0,12}(?P<value>[^\n|;\"<>{}]{0,80}\d[^\n|;\"<>{}]{0,80})",
    re.IGNORECASE,
)
_WORD_AND_NUMBER = re.compile(r"[^\W\d_]{3,}.*\d|\d.*[^\W\d_]{3,}")
_CONTEXT = (
    "address", "addresses", "live", "lives", "lived", "living", "reside", "resides", "residence",
    "residing", "moved", "moving", "home", "billing", "adresse", "anschrift", "wohne", "habite",
    "vivo",
)  # fmt: skip


def _find(text: str) -> Iterator[Match]:
    for match in _ENGLISH.finditer(text):
        yield Match(match.start(), match.end(), LIKELY if match.group("sure") else WEAK)
    for match in _STREET_FIRST.finditer(text):
        yield Match(match.start(), match.end(), WEAK if match.group("unsure") else LIKELY)
    for match in _WITH_UNIT.finditer(text):
        if any(c.isdigit() for c in text[match.start() : match.start("unit")]):
            yield Match(match.start(), match.end(), LIKELY if match.group("sure") else WEAK)
    for pattern in (_FRENCH, _PO_BOX, _MILITARY):
        for match in pattern.finditer(text):
            yield Match(match.start(), match.end(), LIKELY)
    for match in _LABELLED.finditer(text):
        value = match.group("value").rstrip(" .,)\t\r")
        if "@" not in value and "://" not in value and _WORD_AND_NUMBER.search(value):
            yield Match(match.start("value"), match.start("value") + len(value), LIKELY)


RULES = (Rule(kind=Kind.ADDRESS, find=_find, context=_CONTEXT),)
"""Every rule of this module."""
