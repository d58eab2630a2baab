"""What Hermes recorded: one request of the user and the answer it got.

Raw text lives here and nowhere else; the only road from here to training data
is ``hermes_apprentice.dataset.builder``. Knows nothing about databases.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum


class Ineligible(StrEnum):
    """Why a specialist could not have replaced the model in an exchange."""

    TOOLS = "tools"
    """The turn used tools; a specialist cannot replace side effects."""

    UNANSWERED = "unanswered"
    """No final answer was stored, or it was cut off."""

    WITHDRAWN = "withdrawn"
    """The user took the turn back (``/undo``), or deleted it."""

    NOT_A_USER_TURN = "not_a_user_turn"
    """Cron, subagent, review and other turns that no person typed."""

    ATTACHMENT = "attachment"
    """The request carries an image or another part that is not text."""

    SEVERAL_CALLS = "several_calls"
    """The answer took more than one model call."""

    EMPTY = "empty"
    """The request or the answer has no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One user request and the final answer, raw, as Hermes stored them."""

    exchange_id: str
    """Stable name: made from profile, session, time and text, so a re-read finds it again."""

    profile: str
    """The Hermes profile it was read from; ``default`` for the root home."""

    session_id: str
    """Hermes' session."""

    source: str
    """Where the user typed: ``cli``, ``telegram``, ..."""

    turn_index: int
    """How many user turns came before it in the session."""

    request: str
    """The user's text, without what Hermes wraps around it."""

    answer: str
    """The final answer's text."""

    model: str
    """The model the session was configured with."""

    asked_at: float
    """Unix time of the request, in seconds."""

    answered_at: float
    """Unix time of the answer, in seconds."""

    context_chars: int
    """Characters of the conversation that came before the request."""

    input_tokens: int
    """Prompt tokens of the call, an estimate where Hermes kept only the session's sum."""

    output_tokens: int
    """Completion tokens of the call, an estimate like the above."""

    corrected: bool
    """Whether the user corrected the answer or asked again within three turns."""

    ineligible: Ineligible | None
    """Why it cannot become training data, or ``None`` when it can."""

    @property
    def eligible(self) -> bool:
        """Whether the exchange may become training data."""
        return self.ineligible is None


def exchange_id(profile: str, session_id: str, asked_at: float, request: str) -> str:
    """Return the stable name of an exchange.

    Hermes re-inserts rows under new ids but keeps their time and text, so
    these make the name; see the observer.
    """
    text = hashlib.sha256(request.encode()).hexdigest()
    key = f"{profile}\x00{session_id}\x00{round(asked_at, 3):.3f}\x00{text}"
    return "ex-" + hashlib.sha256(key.encode()).hexdigest()[:24]


# What Hermes adds around the user's own words on the wire.
_NOTE_BEHIND = re.compile(r"\n\n\[System note: .*\Z", re.DOTALL)
_NOTES_BEFORE = re.compile(r"\A(?:\[(?:System note|Note: model was just switched)[^\]]*\]\s*)+")
_NOT_TYPED = (
    "[System: ",
    "[IMPORTANT: ",
    "[CONTEXT COMPACTION",
    "[CONTEXT SUMMARY]",
    "[ASYNC DELEGATION ",
    "[Background process ",
    "[Continuing toward ",
    "Review the conversation above and ",
    "You are running as Hermes' background skill CURATOR",
)


def user_text(content: str) -> str:
    """Return what the user typed, without the notes that Hermes puts before and behind it."""
    return _NOTES_BEFORE.sub("", _NOTE_BEHIND.sub("", content)).strip()


def typed_by_a_person(content: str) -> bool:
    """Whether a user message was typed, and not written by Hermes itself."""
    return not content.lstrip().startswith(_NOT_TYPED)
