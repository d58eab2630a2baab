"""Tell from what a user said next whether an answer was wrong.

Pure and cautious: an exchange that is wrongly taken for corrected is lost as
training data, one that is wrongly trusted is one noisy example among many. So
only clear words count, and similar requests for different things (two orders
in one wording) are not taken for the same request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

WINDOW = 3
"""Turns after an answer that may still show that it was wrong."""

_REJECTIONS = re.compile(
    r"""^\W*(?:
      (?:no[,.]?\s+)?(?:that|this|it)(?:'?s|\s+is|\s+was|\s+isn'?t|\s+wasn'?t)
        \s+(?:(?:completely|totally|just|still|also|all)\s+)?
        (?:wrong|incorrect|false|not\s+(?:right|correct|true|what|the|it)\b|right\s+not\b)
    | (?:that|this|it)\s+(?:isn'?t|wasn'?t)\s+(?:right|correct|true|what|it)\b
    | (?:still\s+)?(?:wrong|incorrect)\b(?!\s+number) | not\s+(?:what\s+i|quite\W|correct|right\W)
    | (?:sorry[,.]?\s+)?i\s+(?:meant|said|asked\s+(?:for|you)|didn'?t\s+(?:mean|ask|say))\b
    | you\s+(?:misunderstood|misread|got\s+(?:it|that|this)\s+wrong|made\s+a\s+mistake
        |forgot|missed|didn'?t|did\s+not|ignored)\b
    | (?:please\s+)?(?:try\s+(?:it\s+)?again|redo\b|do\s+(?:it|that)\s+again|do\s+over)
    | (?:please\s+)?(?:fix|correct)\s+(?:it|that|this|your)\b
    | (?:wait|hold\s+on|actually)[,.]?\s+(?:no\b|that'?s\s+(?:not|wrong)|i\s+meant)
    | (?:das\s+(?:ist|war)\s+(?:falsch|nicht\s+(?:richtig|was))|ich\s+meinte\b|falsch\b)
    | (?:ce\s+n'est\s+pas\s+(?:ça|ce\s+que|correct)|c'est\s+faux|je\s+voulais\s+dire)
    | (?:eso\s+(?:no\s+es|est[áa]\s+mal)|est[áa]\s+mal\b|quise\s+decir|quer[íi]a\s+decir)
    )""",
    re.IGNORECASE | re.VERBOSE,
)

_NO = re.compile(
    r"^\W*(?:no(?:[,!:;]\s|\.\s+(?!\d)|\W*$)|nope\b|nah\b|nein\b|non[,.!])", re.IGNORECASE
)

_POLITE_NO = re.compile(
    r"^\W*no[,.!]?\s+(?:problem|worries|need|thanks|thank|thx|hurry|rush|doubt|more\s+questions"
    r"|that'?s\s+(?:all|it|fine|ok|okay|good|great|everything|perfect)"
    r"|i'?m\s+(?:good|fine|ok)|it'?s\s+(?:fine|ok|okay|good|all))\b",
    re.IGNORECASE,
)

_FILLERS = frozenset(
    (
        "a an the please pls again just now so well ok okay hey hi hello can could would will you "
        "me my i want need to do it is this that for of and in on with once more only instead "
        "bitte nochmal noch mal"
    ).split()
)

_WORD = re.compile(r"\w+(?:[.,:/@'-]\w+)*")

_LONG = 20_000
"""Characters from which only the very same text counts as asked again."""

_TYPO = 0.75
"""Similarity from which two words count as one with a typing error."""


def was_corrected(request: str, answer: str, following: Sequence[str]) -> bool:
    """Whether the user showed that the answer was not what they wanted.

    Args:
        request: What was asked.
        answer: What was answered.
        following: What the user typed next, oldest first; the first three count.
    """
    if following and rejects(following[0], answer):
        return True
    return any(asks_again(request, later) for later in following[:WINDOW])


def rejects(message: str, answer: str) -> bool:
    """Whether a message turns down the answer before it.

    A plain "no" after an answer that ends in a question replies to the question.
    """
    message = _plain(message)
    if _POLITE_NO.search(message):
        return False
    if _NO.search(message) and not answer.rstrip(" \n*_`\"')").endswith("?"):
        return True
    return bool(_REJECTIONS.search(message))


def asks_again(request: str, later: str) -> bool:
    """Whether ``later`` asks the same once more.

    The same words apart from fillers, the same words and a few more, or the
    same words with typing errors put right. A different number, name or other
    word makes it a different request.
    """
    if max(len(request), len(later)) > _LONG:
        return request == later
    first, second = _content(request), _content(later)
    if len(first) < 2:
        return False
    if first == second:
        return True
    added = len(second) - len(first)
    if 0 < added <= max(2, len(first) // 2) and _is_part(first, second):
        return True
    return len(first) == len(second) and all(
        a == b or _same_but_for_a_typo(a, b) for a, b in zip(first, second, strict=True)
    )


def _plain(text: str) -> str:
    return text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def _content(text: str) -> list[str]:
    words = [word.casefold() for word in _WORD.findall(_plain(text))]
    return [word for word in words if word not in _FILLERS]


def _is_part(short: Sequence[str], long: Sequence[str]) -> bool:
    """Whether all words of ``short`` come in ``long`` in the same order."""
    rest = iter(long)
    return len(short) >= 3 and all(word in rest for word in short)


def _same_but_for_a_typo(a: str, b: str) -> bool:
    if min(len(a), len(b)) < 4 or any(c.isdigit() for c in a + b):
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= _TYPO
