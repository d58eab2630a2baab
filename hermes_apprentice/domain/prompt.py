"""What a generator is asked: the same words when it is trained and when it serves.

A template is part of a model version and signed with it. Knows nothing about
tokenizers or chat templates; those turn the messages into tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

REQUEST = "{request}"
"""Stands for the request in a template's user text; exactly once."""


class Message(NamedTuple):
    """One message of a conversation, as chat templates take them."""

    role: str
    """``system``, ``user`` or ``assistant``."""

    content: str
    """Its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """How a request is put to a generator."""

    system: str = ""
    """The system message; empty leaves it out, and so out of every answer's cost."""

    user: str = REQUEST
    """The user message, with ``{request}`` where the request goes."""

    def __post_init__(self) -> None:
        if self.user.count(REQUEST) != 1:
            raise ValueError(f"a prompt template's user text needs {REQUEST} exactly once")


def render(template: PromptTemplate, request: str) -> tuple[Message, ...]:
    """Return the messages that put ``request`` to a generator.

    The request is inserted as it stands: braces in it mean nothing.
    """
    before, _, after = template.user.partition(REQUEST)
    asked = Message("user", f"{before}{request}{after}")
    return (Message("system", template.system), asked) if template.system else (asked,)
