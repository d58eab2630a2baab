"""Whether two texts say the same: the rule for answers that are neither labels nor JSON.

Two texts agree if they use nearly the same words (token F1), in nearly the same order (ROUGE-L;
Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004), and if all facts that can be
told apart by their form are equal: numbers, addresses, placeholders, names, code, negations.

What this cannot see: a wrong ordinary word among many right ones ("the door is open" in a text of
thirty words), and facts written as plain words ("three"). What it refuses: the same thing said
in other words; and, since every German noun looks like a name, one other noun there. So it is
strict where a mistake shows, and its figures are a lower bound for texts that may be put in many
ways. Pure, and fast for texts of thousands of words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

LEAST_F1 = 0.9
"""Shared words, of all words of both."""

LEAST_ROUGE_L = 0.85
"""Words in the longest common subsequence, of all words of both."""

_PLACEHOLDER = re.compile(r"<[A-Z]+(?:_[A-Z]+)*_\d+(?:\.\d+)?>")
_CODE = re.compile(r"`[^`\n]+`")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s<>\"')\]]+|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.I)
_NUMBER = re.compile(r"\d+(?:[.,:/\u00a0-]\d+)*")
_WORD = re.compile(rf"{_NUMBER.pattern}|\w+(?:['\u2019]\w+)*|[^\w\s]")
_NAME = re.compile(r"(?<![.!?:;\n\"\u201c(*-]\s)(?<!^)\b[A-Z]\w+", re.M)
_START = re.compile(r"(?:^|[.!?:;\n\"\u201c(*-]\s*)\b([A-Z]\w+)", re.M)
_NEGATIONS = frozenset(
    "no not never none nothing nobody cannot without nor neither "
    "nicht nichts nie kein keine keinen keinem keiner niemand ohne weder "
    "ne pas jamais rien aucun aucune sans ni "
    "nunca nada nadie sin ninguno ninguna jam\u00e1s "
    "non mai niente nessuno senza n\u00e3o sem geen niet nooit zonder".split()
)


def same_text(answer: str, reference: str) -> bool:
    """Whether two texts say the same, by the rule of this module; symmetric."""
    left, right = _folded(answer), _folded(reference)
    if left == right:
        return True
    if not left or not right or facts(left, right) != facts(right, left):
        return False
    mine, theirs = words(left), words(right)
    return token_f1(mine, theirs) >= LEAST_F1 and rouge_l(mine, theirs) >= LEAST_ROUGE_L


def facts(text: str, other: str = "") -> Counter[str]:
    """Return what must be equal: numbers, addresses, placeholders, names, code, negations.

    Args:
        text: The text.
        other: A text in which a word inside a sentence shows that it is a name, so that the same
            word at the start of a sentence of ``text`` counts as one, too.
    """
    found: Counter[str] = Counter()
    rest = text
    for kind, form in (("placeholder", _PLACEHOLDER), ("code", _CODE), ("address", _ADDRESS)):
        found.update(f"{kind} {match.rstrip('.,;:!?')}" for match in form.findall(rest))
        rest = form.sub(" ", rest)
    found.update(f"number {_plain_number(match)}" for match in _NUMBER.findall(rest))
    names = set(_NAME.findall(rest)) | set(_NAME.findall(other))
    starts = [word for word in _START.findall(rest) if word in names]
    found.update(f"name {word.casefold()}" for word in [*_NAME.findall(rest), *starts])
    for word in words(rest):
        if word in _NEGATIONS or word.endswith(("n't", "n\u2019t")):
            found["negation"] += 1
    return found


def words(text: str) -> list[str]:
    """Return words, numbers and marks, without case and without what groups thousands."""
    return [_plain_number(match.casefold()) for match in _WORD.findall(text)]


def token_f1(mine: list[str], theirs: list[str]) -> float:
    """Return the F1 of shared words, 0 to 1, whatever their order."""
    if not mine and not theirs:
        return 1.0
    shared = (Counter(mine) & Counter(theirs)).total()
    return 2 * shared / (len(mine) + len(theirs))


def rouge_l(mine: list[str], theirs: list[str]) -> float:
    """Return the F1 of the longest common subsequence, 0 to 1.

    Its length is counted with bit-vectors (Hyyr\u00f6, "Bit-parallel LCS-length computation
    revisited", 2004): one step per word instead of one per pair of words.
    """
    if not mine and not theirs:
        return 1.0
    places: dict[str, int] = {}
    for place, word in enumerate(mine):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(mine)) - 1
    open_places = full
    for word in theirs:
        matched = open_places & places.get(word, 0)
        open_places = (open_places + matched | open_places - matched) & full
    common = len(mine) - open_places.bit_count()
    return 2 * common / (len(mine) + len(theirs))


def _folded(text: str) -> str:
    """Return the text with one way to write spaces, quotes and composed letters; lines stay."""
    text = unicodedata.normalize("NFC", text)
    text = text.translate({0x2019: "'", 0x2018: "'", 0x201C: '"', 0x201D: '"', 0xA0: " "})
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _plain_number(number: str) -> str:
    """Return a number without what groups its thousands: 1,000 and 1000 are one."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", number):
        return number.replace(",", "")
    return number
