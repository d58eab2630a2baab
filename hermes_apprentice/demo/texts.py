"""The requests of the demo and the answers that are right for them.

All texts are invented here from tables and a seeded source of randomness.
Knows nothing about where they are stored or who answers them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hermes_apprentice.demo.orders import write_order
from hermes_apprentice.demo.request import TASKS, DemoRequest, Task, ToolStep, Turn
from hermes_apprentice.demo.talk import write_chat, write_follow_up, write_tool_turn
from hermes_apprentice.demo.tickets import LABELS, write_ticket
from hermes_apprentice.errors import ConfigError

__all__ = [
    "LABELS",
    "TASKS",
    "Corpus",
    "DemoRequest",
    "Sizes",
    "Task",
    "ToolStep",
    "Turn",
    "make_corpus",
]

_PATIENCE = 400
"""Drafts in a row that may repeat a known text before a size counts as out of reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many requests of each task a corpus has."""

    order: int = 230
    """Order e-mails to be read."""

    ticket: int = 230
    """Support tickets to be labelled, in equal shares per label."""

    chat: int = 150
    """One-off questions, a fifth of them near misses of the two tasks."""

    multi_turn: int = 25
    """Follow-ups; each brings the turn before it along."""

    tool: int = 20
    """Requests answered with the help of a tool."""


class Corpus:
    """Requests with known answers, no two of them equal."""

    def __init__(self, requests: Iterable[DemoRequest]) -> None:
        """Take the ``requests`` in the order in which they are to be played."""
        self._requests = tuple(requests)
        self._by_text: dict[str, DemoRequest] = {}
        for item in self._requests:
            for turn in item.history:
                earlier = DemoRequest(task=turn.task, request=turn.request, answer=turn.answer)
                self._by_text.setdefault(turn.request, earlier)
        self._by_text.update((item.request, item) for item in self._requests)
        self._longest_first = sorted(self._by_text, key=len, reverse=True)

    def __iter__(self) -> Iterator[DemoRequest]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __add__(self, other: Corpus) -> Corpus:
        """Return one corpus that knows the answers of both."""
        return Corpus((*self, *other))

    def of(self, task: Task) -> tuple[DemoRequest, ...]:
        """Return the requests of one task."""
        return tuple(item for item in self._requests if item.task == task)

    def texts(self) -> frozenset[str]:
        """Return every user text that occurs, earlier turns included."""
        return frozenset(self._by_text)

    def find(self, text: str) -> DemoRequest | None:
        """Return the request that ``text`` is, or that it carries among other text.

        Hermes adds notes to what the user wrote, so the longest known request
        that ``text`` contains is taken.
        """
        known = self._by_text.get(text)
        if known is not None:
            return known
        contained = (known for known in self._longest_first if known in text)
        longest = next(contained, None)
        return None if longest is None else self._by_text[longest]

    def truth(self, request: str) -> str | None:
        """Return the right answer to ``request``; ``None`` when it is not of this corpus."""
        known = self._by_text.get(request)
        return None if known is None else known.answer


def make_corpus(
    rng: random.Random, sizes: Sizes | None = None, *, apart_from: Iterable[Corpus] = ()
) -> Corpus:
    """Write a corpus, its tasks well mixed.

    Args:
        rng: The only source of randomness; the same seed gives the same corpus.
        sizes: How many requests of each task.
        apart_from: Corpora whose user texts must not occur again.

    Raises:
        ConfigError: A size asks for more different texts than the tables can give.
    """
    sizes = sizes or Sizes()
    taken = {text for corpus in apart_from for text in corpus.texts()}
    requests = [
        *_distinct(taken, sizes.order, lambda _: write_order(rng), "order"),
        *_distinct(taken, sizes.ticket, _ticket_writer(rng), "ticket"),
        *_distinct(taken, sizes.chat, lambda _: write_chat(rng), "chat"),
        *_distinct(taken, sizes.multi_turn, lambda _: write_follow_up(rng), "multi_turn"),
        *_distinct(taken, sizes.tool, lambda _: write_tool_turn(rng), "tool"),
    ]
    rng.shuffle(requests)
    return Corpus(requests)


def _ticket_writer(rng: random.Random) -> Callable[[int], DemoRequest]:
    """Return a writer that serves the labels in turn, so that they stay balanced."""
    labels = rng.sample(LABELS, k=len(LABELS))
    return lambda index: write_ticket(rng, labels[index % len(labels)])


def _distinct(
    taken: set[str], count: int, write: Callable[[int], DemoRequest], task: Task
) -> list[DemoRequest]:
    """Call ``write`` with 0, 1, ... until ``count`` texts are new; adds them to ``taken``."""
    found: list[DemoRequest] = []
    misses = 0
    while len(found) < count:
        item = write(len(found))
        texts = {item.request, *(turn.request for turn in item.history)}
        if taken & texts:
            misses += 1
            if misses == _PATIENCE:
                raise ConfigError(
                    f"The demo can write only {len(found)} more different texts of the task "
                    f"'{task}', not {count}; ask for fewer."
                )
            continue
        misses = 0
        taken |= texts
        found.append(item)
    return found
