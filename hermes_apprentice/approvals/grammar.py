"""Understand an operator's reply. Pure: a text goes in, a ``Reply`` comes out."""

from __future__ import annotations

import re

from hermes_apprentice.domain.approval import Action, Reply
from hermes_apprentice.domain.money import MICRO
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.errors import ReplyError

_TRAINING = r"(?P<subject>(?:gc|rt)-[0-9a-f]{4,12})"
_AS = r"(?:\s+(?:as(?:\s+an?)?|-{1,2}kind)[\s=]+(?P<kind>" + "|".join(Kind) + r"))?"
_ANY = r"(?P<subject>(?:gc|rt|mp)-[0-9a-f]{4,12})"
_MERGE = r"(?P<subject>mp-[0-9a-f]{4,12})"
_NAME = r"(?P<subject>[a-z0-9][a-z0-9-]{0,63})"

_HANDLE = re.compile(r"\b(?:gc|rt|mp)-[0-9a-f]{4,12}\b", re.IGNORECASE)

_GRAMMAR: tuple[tuple[Action, re.Pattern[str]], ...] = tuple(
    (action, re.compile(pattern, re.IGNORECASE))
    for action, pattern in (
        (Action.TRAIN, rf"train(?:\s+{_TRAINING})?{_AS}"),
        (Action.SKIP, rf"skip(?:\s+{_TRAINING})?"),
        (Action.DETAILS, rf"details(?:\s+{_ANY})?"),
        (Action.MERGE, rf"merge(?:\s+{_MERGE})?"),
        (Action.REJECT, rf"reject(?:\s+{_MERGE})?"),
        (Action.ROLLBACK, rf"rollback\s+{_NAME}"),
        (Action.DEMOTE, rf"demote\s+{_NAME}"),
        (Action.BUDGET_INCREASE, r"budget\s+increase\s+\$?(?P<amount>\d{1,6}(?:\.\d{1,2})?)"),
    )
)

_DASHES = dict.fromkeys(range(0x2010, 0x2016), "-") | {0x2212: "-", 0xA0: " "}
"""What phones and chat programs put in the place of a hyphen or a space."""

_ENOUGH = 300
"""Characters that show what somebody meant."""

_ADVICE: tuple[tuple[str, str], ...] = (
    (r".*[\n;,].*(?:gc|rt|mp)-.*", "One reply per message, please."),
    (r"(?:train|skip)\s+mp-.*", "A handle with mp- is about a merge: answer merge or reject."),
    (r"(?:merge|reject)\s+(?:gc|rt)-.*", "That handle is about a training: answer train or skip."),
    (
        r"train\b.*\s(?:as|-{1,2}kind)\b.*",
        f"A specialist is trained as one of: {', '.join(Kind)}.",
    ),
    (
        r"(?:train|skip|details|merge|reject)\s+\S+",
        "That is no handle; it begins with gc-, rt- or mp- and stands in the question.",
    ),
    (
        r"(?:rollback|demote)(?:\s.*)?",
        "Which specialist? Its name stands in: /apprentice specialists.",
    ),
    (
        r"budget\b.*",
        "By how much? An amount in dollars above 0, with two decimals at most: budget increase 10.",
    ),
)
"""Replies that come close, and what is wrong with them; the first that fits is said."""

HELP = (
    "I understand: train gc-7f3a, skip gc-7f3a, details gc-7f3a (or rt-5c1e0a), train gc-7f3a as "
    "generator, rollback NAME, demote NAME, merge mp-1a2b, reject mp-1a2b, budget increase 10."
)


def parse_reply(text: str) -> Reply:
    """Understand a reply; case, surrounding space and a closing full stop do not matter.

    ``train``, ``skip``, ``merge``, ``reject`` and ``details`` may stand alone: the
    subject is then empty, and means the only open proposal that is answered so.

    Raises:
        ReplyError: The text is none of the known replies.
    """
    cleaned = text.translate(_DASHES).strip().strip("\"'`").rstrip(".!").strip().strip("\"'`")
    for action, pattern in _GRAMMAR:
        found = pattern.fullmatch(cleaned)
        if found is None:
            continue
        groups = found.groupdict()
        amount = groups.get("amount")
        return Reply(
            action=action,
            subject=(groups.get("subject") or "").lower(),
            amount=_micro(amount) if amount else 0,
            kind=Kind(groups["kind"].lower()) if groups.get("kind") else None,
        )
    raise ReplyError(f"{_advice(cleaned)} {HELP}")


def handles_in(text: str) -> list[str]:
    """Return the handles in a text, each once, in order."""
    return list(dict.fromkeys(found.lower() for found in _HANDLE.findall(text)))


def _advice(text: str) -> str:
    text = text[:_ENOUGH]
    for pattern, advice in _ADVICE:
        if re.fullmatch(pattern, text, re.IGNORECASE | re.DOTALL):
            return advice
    return "That reply was not understood."


def _micro(amount: str) -> int:
    whole, _, cents = amount.partition(".")
    return int(whole) * MICRO + int((cents or "0").ljust(2, "0")) * (MICRO // 100)
