"""Tell what is said to Apprentice from what is said to the agent. Pure.

Words such as "details" belong to the agent unless something gives them away:
a handle, a quoted question of ours, or an open question in a private chat.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hermes_apprentice.approvals.grammar import handles_in, parse_reply
from hermes_apprentice.domain.approval import Action, answers_to
from hermes_apprentice.errors import ReplyError

_COMMAND = re.compile(r"/apprentice(?:@(?P<bot>\w+))?(?:\s+(?P<words>.*))?", re.I | re.S)
_MENTION = re.compile(r"@(?P<bot>\w+)[\s,:]+")
_ALMOST = re.compile(
    r"(?:train|skip|details|merge|reject)\s+(?:gc|rt|mp)[-\u2010-\u2015]\S+"
    r"|budget\s+increase\s+[-+$]?[\d.,]+\S*",
    re.I,
)


LONGEST = 200
"""Characters; nothing that we understand is longer."""


class _Anything(frozenset[str]):
    """Contains every name."""

    def __contains__(self, item: object) -> bool:
        return True


class Known(NamedTuple):
    """What is there to talk about, as of a moment ago."""

    questions: frozenset[str] = frozenset()
    """Handles of the open proposals."""

    specialists: frozenset[str] = frozenset()
    """Slugs."""


class Heard(NamedTuple):
    """Something said to Apprentice."""

    words: str
    """The reply, or what followed the command."""

    command: bool
    """Whether it was said as ``/apprentice ...``."""


def plausible(text: str) -> bool:
    """Tell whether a text could be meant for us, before anything is looked up."""
    everything = Known(frozenset({"gc-0000", "mp-0000"}), _Anything())
    return len(text) <= LONGEST and listen(text, everything) is not None


def listen(
    text: str, known: Known, *, quoted: str = "", private: bool = True, bot: str = ""
) -> Heard | None:
    """Return what was said to Apprentice, or ``None`` when it is meant for the agent.

    Args:
        text: The message.
        known: Open questions and specialists.
        quoted: The message that it answers, if it answers one.
        private: Whether nobody else reads along.
        bot: The bot's own name, where it is known: in a group, messages name whom they mean.
    """
    text = text.strip()
    mention = _MENTION.match(text)
    if mention is not None and _names(mention["bot"], bot):
        text = text[mention.end() :]
    command = _COMMAND.fullmatch(text)
    if command is not None:
        if command["bot"] and not _names(command["bot"], bot):
            return None
        return Heard((command["words"] or "").strip(), command=True)
    try:
        reply = parse_reply(text)
    except ReplyError:
        return Heard(text, command=False) if _ALMOST.fullmatch(text) else None
    ours = bool(handles_in(quoted))
    if reply.action in (Action.ROLLBACK, Action.DEMOTE):
        meant = reply.subject in known.specialists
    elif reply.subject or reply.action is Action.BUDGET_INCREASE:
        meant = True
    elif quoted:
        meant = ours
    else:
        meant = private and any(reply.action in answers_to(one) for one in known.questions)
    return Heard(text, command=False) if meant else None


def _names(name: str, bot: str) -> bool:
    return not bot or name.lower() == bot.lower()
