"""Tell messages that were said from those that Hermes only wrote down again.

A compaction archives a conversation and inserts what survives of it as new
rows. Pure; knows nothing about turns or databases.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hermes_apprentice.observer.session_rows import MessageRow, RowState

_SUMMARIES = ("[CONTEXT COMPACTION", "[CONTEXT SUMMARY]:")
"""Rows written by a compaction to stand for older ones."""

_MERGED = re.compile(
    r"\A\[PRIOR CONTEXT [^\]\n]*\]\n(.*?)\s*(?:\[END OF PRIOR CONTEXT|\[CONTEXT COMPACTION|\Z)",
    re.DOTALL,
)
"""A message that a compaction put its summary into."""

_PRECISION = 5e-7
"""Seconds within which two times are one."""

_SAME_TRANSACTION = 2e-5
"""Seconds between rows that Hermes inserts together; it steps by a microsecond."""


@dataclass(slots=True)
class WrittenRow:
    """A row, and where the same message was last written."""

    row: MessageRow
    """The row itself."""

    newest: MessageRow
    """Its latest copy, or the row itself; says whether the message was taken back."""

    is_copy: bool = False
    """Whether an earlier row is the original."""


def is_summary(row: MessageRow) -> bool:
    """Whether a compaction wrote the row to stand for what it archived."""
    return row.role in ("user", "assistant") and (row.content or "").startswith(_SUMMARIES)


def emptied_archive_at(rows: Iterable[MessageRow]) -> float | None:
    """Return when a compaction took place whose archive is gone.

    What was said before it can be missing without having been taken back.

    Returns:
        The Unix time of the newest summary; ``None`` without one, or with the archive in place.
    """
    newest: float | None = None
    for row in rows:
        if row.state is RowState.ARCHIVED:
            return None
        if is_summary(row):
            newest = max(row.timestamp, newest or 0.0)
    return newest


def with_copies(rows: Sequence[MessageRow]) -> list[WrittenRow]:
    """Wrap rows, and recognise those that a compaction wrote a second time.

    It archives the conversation and inserts what survives under new ids, in one
    transaction, partly with the old times, partly with one time for all. A row
    is a copy if an archived one says the same and either the time is the same,
    or the row came in one transaction with others, or it follows the copy of
    the message that its original followed. Between such rows, one that was
    changed on the way is known by its time alone. The same words typed again
    fulfil none of these.
    """
    wrapped = [WrittenRow(row, row) for row in map(_without_summary, rows)]
    if any(row.state is RowState.ARCHIVED for row in rows):
        _Copies(wrapped).mark()
    return wrapped


class _Span(NamedTuple):
    """Original rows that a copy stands for: one, or requests that were joined."""

    first: int
    last: int


class _Copies:
    """The search for copies in the rows of one session."""

    def __init__(self, rows: Sequence[WrittenRow]) -> None:
        self._rows = rows
        self._saying: defaultdict[tuple[str, str], list[_Span]] = defaultdict(list)
        self._at: defaultdict[tuple[str, int], list[_Span]] = defaultdict(list)
        self._next: dict[int | None, int] = {}
        self._newest: int | None = None
        """The last original."""
        self._run: list[int] = []
        """Originals of the user at the end that nothing answered yet."""
        self._copied: int | None = None
        """The last original that the row before was a copy of."""
        self._after_summary = False
        self._taken: set[int] = set()
        """Originals copied since the last row that was said."""

    def mark(self) -> None:
        rewriting = False
        for index, item in enumerate(self._rows):
            row = item.row
            if is_summary(row):
                rewriting = self._after_summary = True
            elif row.role in ("user", "assistant", "tool"):
                span = self._original(index, rewriting)
                item.is_copy = span is not None or (rewriting and self._is_later_part(index))
                rewriting = item.is_copy
                self._after_summary &= item.is_copy
                if not item.is_copy:
                    self._remember(index)
                elif span is not None:
                    if span.first in self._taken:  # a second compaction right after the first
                        self._taken.clear()
                    for i in range(span.first, span.last + 1):
                        if not self._rows[i].is_copy:
                            self._rows[i].newest = row
                            self._taken.add(i)
                    self._copied = span.last
                    # The next compaction copies this copy, with the time that it has now.
                    self._at[row.role, _moment(row)].append(span)

    def _remember(self, index: int) -> None:
        """Note an original."""
        row = self._rows[index].row
        self._run = [*self._run, index] if row.role == "user" else []
        # Requests that came before an answer may be joined into one.
        for start in range(len(self._run)) or (0,):
            joined = [self._rows[i].row for i in self._run[start:]] or [row]
            span = _Span(self._run[start] if self._run else index, index)
            self._saying[_key(joined)].append(span)
            self._at[row.role, _moment(joined[0])].append(span)
        self._next[self._newest] = index
        self._newest = index
        self._copied = None
        self._taken.clear()

    def _original(self, index: int, rewriting: bool) -> _Span | None:
        """Return what a row is a copy of."""
        row = self._rows[index].row
        same_time = self._archived(self._at[row.role, _moment(row)])
        same_words = self._archived(self._saying[_key([row])])
        for span in same_words:
            if span in same_time:
                return span
        # Requests keep their time or lose it with all others; only answers lose it alone.
        expected = self._next.get(self._copied) if self._taken and row.role != "user" else None
        for span in same_words:
            if span.first == expected:
                return span
        if self._came_with_others(index):
            if not self._after_summary:  # before it stands the head of the conversation
                same_words.sort(key=lambda span: (span.first in self._taken, span.first))
            for span in same_words:
                # Rows of one transaction may say the same, and are no copies of each other.
                original = self._rows[span.first].row
                if row.timestamp - original.timestamp > (index - span.first) * _SAME_TRANSACTION:
                    return span
        if same_time and (rewriting or row.timestamp % 1):
            return same_time[0]
        return None

    def _archived(self, spans: Sequence[_Span]) -> list[_Span]:
        """Return those that were archived, the latest not yet copied first."""
        archived = [
            span
            for span in reversed(spans)
            if self._rows[span.first].row.state is RowState.ARCHIVED
        ]
        return sorted(archived, key=lambda span: span.first in self._taken)

    def _came_with_others(self, index: int) -> bool:
        """Whether the row was inserted in one transaction with rows beside it."""
        time = self._rows[index].row.timestamp
        beside = (*self._rows[max(0, index - 2) : index], *self._rows[index + 1 : index + 3])
        apart = (abs(other.row.timestamp - time) for other in beside)
        # No two rows of a transaction have one time; an original and its copy have.
        return any(_PRECISION < seconds <= _SAME_TRANSACTION for seconds in apart)

    def _is_later_part(self, index: int) -> bool:
        """Whether a row after a rewritten one was rewritten with it, though not word for word."""
        row = self._rows[index].row
        if abs(row.timestamp - self._rows[index - 1].row.timestamp) <= _SAME_TRANSACTION:
            return True
        said_last = self._rows[self._newest].row if self._newest is not None else row
        return row.role != "user" and row.timestamp < said_last.timestamp


def _without_summary(row: MessageRow) -> MessageRow:
    merged = _MERGED.match(row.content or "")
    return row._replace(content=merged[1]) if merged else row


def _key(rows: Sequence[MessageRow]) -> tuple[str, str]:
    if rows[0].role == "tool":
        return "tool", rows[0].tool_call_id or ""
    return rows[0].role, "\n\n".join((row.content or "").strip() for row in rows)


def _moment(row: MessageRow) -> int:
    """Return the time in whole microseconds, as precise as a float of seconds is."""
    return round(row.timestamp * 1e6)
