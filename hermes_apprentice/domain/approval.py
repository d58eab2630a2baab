"""What the operator is asked, and what they answer.

Values only; the grammar of replies and the texts are in ``approvals``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.shape import Kind


class Action(StrEnum):
    """What a reply can ask for."""

    TRAIN = "train"
    SKIP = "skip"
    DETAILS = "details"
    MERGE = "merge"
    REJECT = "reject"
    ROLLBACK = "rollback"
    DEMOTE = "demote"
    BUDGET_INCREASE = "budget increase"


_TRAINING = (Action.TRAIN, Action.SKIP, Action.DETAILS)

_ANSWERS = {
    "gc": _TRAINING,
    "rt": _TRAINING,
    "mp": (Action.MERGE, Action.REJECT, Action.DETAILS),
}

ACCEPTING = (Action.TRAIN, Action.MERGE)
"""The answers that mean yes."""


def answers_to(handle: str) -> tuple[Action, ...]:
    """Return the answers to a proposal: yes, no, and tell me more; none for an unknown handle.

    ``gc-`` is a candidate, ``rt-`` a specialist to train again, ``mp-`` a merge.
    """
    return _ANSWERS.get(handle.partition("-")[0], ())


class ProposalState(StrEnum):
    """Whether a proposal was decided; it is decided once."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One question to the operator, bound to what was shown."""

    proposal_id: str
    """The handle that the operator types: ``gc-7f3a``, ``rt-5c1e`` or ``mp-1a2b``."""

    subject: str
    """What it is about: a pattern's id, or for ``rt-`` a specialist's name."""

    nonce: str
    """Random; a button carries it, so that an old button cannot decide a new question."""

    shown: str
    """The text as it was shown."""

    deciders: tuple[str, ...]
    """Who could decide when it was asked; empty means whoever can run the CLI here."""

    state: ProposalState
    """Whether it was decided."""

    created_at: float
    """Unix time."""

    expires_at: float
    """Unix time after which it cannot be accepted."""

    decided_at: float | None = None
    """Unix time of the decision."""

    decided_by: str | None = None
    """Who decided: ``cli``, or a platform and its user id, such as ``telegram:4711``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An operator's reply, understood."""

    action: Action
    """What to do."""

    subject: str
    """The handle or name it names; empty for a budget."""

    amount: int = 0
    """Micro-dollars, for a budget."""

    kind: Kind | None = None
    """What to train it as; ``None`` leaves that to the shape of the answers."""

    nonce: str = ""
    """The question that a pressed button belongs to."""

    quoted: str = ""
    """The message that this is a reply to, where the platform tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """One message to the operator."""

    message_id: int
    """Order of writing."""

    topic: str
    """What it is about; messages of one topic are delivered in order."""

    key: str
    """Idempotency key: the same event never makes two messages."""

    text: str
    """What the operator reads."""

    created_at: float
    """Unix time."""

    delivered_at: float | None
    """Unix time, ``None`` while it waits."""

    attempts: int
    """Deliveries tried."""
