"""Make a text mean the same wherever it is read: no markup, nothing invisible, not too long.

Platforms format what they are sent, each in its own dialect of Markdown, and a
label or a reason may hold anything that somebody once typed. Pure. Knows
nothing about what a message says.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 900
"""Characters in a message: it fits every platform, with a note about a repetition, too."""

_LOUD = str.maketrans(
    {"`": "'", "*": "\u00b7", "~": "-", "|": "/", "<": "(", ">": ")", "\\": "/", "\t": " "}
)
_GAPS = "\u2028\u2029\r\x0b\x0c\x85"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})

_REST = (
    # Underscores at the edge of a word, or several of them, make it italic or bold.
    (re.compile(r"__+"), "_"),
    (re.compile(r"(?<![^\W_])_|_(?![^\W_])"), ""),
    (re.compile(r"\]\s*(?=[(\[])"), "] "),  # [a link](to somewhere)
    (re.compile(r"!(?=\[)"), "! "),  # ![a picture]
    (
        re.compile(r"^([ ]*)(?:#+|[-=+]{2,}|[+]|-(?=[ ]*$))(?=\s|$)", re.MULTILINE),
        r"\1",
    ),  # headings, rules
    (re.compile(r"(?<!\w)@(?=\w)"), "at "),  # @everyone
    (re.compile(r"&(?=#?\w+;)"), "& "),  # &lt;
    (re.compile(r"(?<!\w):(?=[\w+-]*[A-Za-z][\w+-]*:)"), ": "),  # :a_picture:
    (re.compile(r"[ ]+$", re.MULTILINE), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
)


def fitting(text: str) -> str:
    """Return a text as every platform shows it, cut to ``LONGEST``; a fitting one stays."""
    for _ in range(5):  # what one rule leaves may be another's
        before, text = text, _once(text)
        if len(text) > LONGEST:
            text = text[: LONGEST - 1] + "…"
        elif text == before:
            break
    return text


def _once(text: str) -> str:
    for gap in _GAPS:
        text = text.replace(gap, " ")
    text = text.translate(_LOUD)
    text = "".join(one for one in text if one == "\n" or unicodedata.category(one) not in _UNSEEN)
    for pattern, instead in _REST:
        text = pattern.sub(instead, text)
    return text.strip()
