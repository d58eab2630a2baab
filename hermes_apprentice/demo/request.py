"""One request of the demo with the answer that is right for it.

Knows nothing about how the texts are made, stored or served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["order", "ticket", "chat", "multi_turn", "tool"]
TASKS: tuple[Task, ...] = ("order", "ticket", "chat", "multi_turn", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """An earlier request of the same session, with its answer."""

    task: Task
    """What kind of request it was."""

    request: str
    """What the user wrote."""

    answer: str
    """What the model answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStep:
    """The tool call between a request and its final answer."""

    name: str
    """Name of the tool, as Hermes offers it."""

    arguments: str
    """The arguments as a JSON object."""

    output: str
    """What the tool returned, as Hermes stores it."""

    remark: str
    """What the model said along with the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """A request, its right answer, and what belongs to the turn besides."""

    task: Task
    """What kind of request it is."""

    request: str
    """The text of the user."""

    answer: str
    """The right answer, exactly as the upstream gives it."""

    history: tuple[Turn, ...] = ()
    """Earlier turns of the session; empty for everything but ``multi_turn``."""

    tool: ToolStep | None = None
    """The tool call of the turn; ``None`` for everything but ``tool``."""
