"""Put the messages of one session together into turns.

Pure: rows in, turns out. Rows that Hermes wrote a second time are recognised,
so that a turn is found once however often the session was compacted; what no
person typed is left out or marked. Knows nothing about databases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from hermes_apprentice.domain.exchange import (
    Exchange,
    Ineligible,
    exchange_id,
    typed_by_a_person,
    user_text,
)
from hermes_apprentice.observer.copies import WrittenRow, is_summary, with_copies
from hermes_apprentice.observer.session_rows import MessageRow, RowState, SessionRow

_MULTIMODAL = "\x00json:"
"""What Hermes writes before content that is a list of parts."""

_CRON_DELIVERY = "[Cron delivery: "
"""A scheduled job's output, copied into a chat as if the user had said it."""

_NUDGE = "[System: "
"""Hermes asking the model to go on, or telling it about a change."""

_SCREENSHOT = re.compile(r"^\[screenshot\]$", re.MULTILINE)
"""All that Hermes keeps of an image."""

_UNFINISHED = frozenset(
    {
        *("tool_calls", "function_call", "length", "max_tokens", "incomplete", "content_filter"),
        *("error", "cancelled", "interrupted", "verification_required", "verify_hook_continue"),
        "kanban_terminal_required",
    }
)
"""Finish reasons after which the turn goes on, or ended without a whole answer."""

_OTHER_SOURCES = frozenset({"cron", "subagent", "curator", "tool"})
"""Sessions in which nobody types."""

_CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing a user (or Hermes itself) asked, and how it was answered."""

    request: str
    """What was typed; messages sent before an answer came are joined, as Hermes does."""

    answer: str
    """The final answer, or the last piece of an unfinished one."""

    asked_at: float
    """Unix time of the request, in seconds."""

    answered_at: float
    """Unix time of the last assistant row, or of the request."""

    user_row: int
    """Newest row that holds the (first) request."""

    answer_row: int | None
    """Newest row that holds the final answer; ``None`` while there is none."""

    turn_index: int
    """Turns before it in the conversation; those taken back do not count."""

    context_chars: int
    """Characters of the conversation before it."""

    calls: int
    """Model calls made for it."""

    output_tokens: int | None
    """Tokens of the answer, where Hermes recorded them with the message."""

    uses_tools: bool
    """Whether any tool was called."""

    attachment: bool
    """Whether the request has a part that is not text."""

    typed: bool
    """Whether a person typed it."""

    withdrawn: bool
    """Whether the user took it back."""


def assemble(
    rows: Sequence[MessageRow], *, turn_index: int = 0, context_chars: int = 0
) -> list[Turn]:
    """Return the turns of one session, in order.

    Args:
        rows: All rows of the session by id, or those from a request on.
        turn_index: Turns before the first row, where earlier rows are left out.
        context_chars: Characters before it.
    """
    drafts = _Drafts(turn_index=turn_index)
    context = context_chars
    compacting = False
    for row in with_copies(rows):
        summary = is_summary(row.row)
        rewritten = row.is_copy or summary
        if rewritten and not compacting:
            context = 0
        compacting = rewritten
        if summary:
            drafts.interrupt()
        elif row.is_copy:
            drafts.resume(row.row)
        else:
            drafts.add(row, context)
        if row.row.state is not RowState.WITHDRAWN:
            context += row.row.chars
    return [draft.turn() for draft in drafts.all]


def copied_from(
    turns: Sequence[Turn], ancestors: Sequence[Sequence[Turn]], started_at: float
) -> int:
    """Return how many of a session's first turns are copies of an earlier session's.

    A branch starts with its parent's history under new times, a continuation
    after a compaction with a part of it. Copies come first and in the old
    order, so the count ends at the first turn that no ancestor has.

    Args:
        turns: The turns of the session.
        ancestors: The turns of the session it came from, of that one's, and so on.
        started_at: Unix time of the split; what was asked later elsewhere is no original.
    """
    earlier = [[t for t in old if t.asked_at <= started_at + 1] for old in ancestors]
    positions = [0] * len(earlier)
    for count, turn in enumerate(turns):
        found = False
        for which, originals in enumerate(earlier):
            for position in range(positions[which], len(originals)):
                if _is_copy(turn, originals[position]):
                    positions[which] = position + 1
                    found = True
                    break
        if not found:
            return count
    return len(turns)


def _is_copy(turn: Turn, original: Turn) -> bool:
    if turn.request != original.request:
        return False
    if turn.answer_row is None:  # the answer was compacted away, or is being copied right now
        return True
    # The steps before an answer may have been joined to it.
    return turn.answer == original.answer or turn.answer.endswith(f"\n{original.answer}")


def to_exchange(turn: Turn, session: SessionRow, profile: str) -> Exchange:
    """Return the exchange that a turn is, not yet judged as corrected or not."""
    input_tokens, output_tokens = _tokens(turn, session)
    return Exchange(
        exchange_id=exchange_id(profile, session.session_id, turn.asked_at, turn.request),
        profile=profile,
        session_id=session.session_id,
        source=session.source,
        turn_index=turn.turn_index,
        request=turn.request,
        answer=turn.answer,
        model=session.model,
        asked_at=turn.asked_at,
        answered_at=turn.answered_at,
        context_chars=turn.context_chars,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        corrected=False,
        ineligible=_ineligible(turn, session.source),
    )


def _ineligible(turn: Turn, source: str) -> Ineligible | None:
    if turn.withdrawn:
        return Ineligible.WITHDRAWN
    if source in _OTHER_SOURCES or not turn.typed:
        return Ineligible.NOT_A_USER_TURN
    if turn.attachment:
        return Ineligible.ATTACHMENT
    if turn.uses_tools:
        return Ineligible.TOOLS
    if turn.answer_row is None:
        return Ineligible.UNANSWERED
    if turn.calls > 1:
        return Ineligible.SEVERAL_CALLS
    if not turn.request or not turn.answer:
        return Ineligible.EMPTY
    return None


def _tokens(turn: Turn, session: SessionRow) -> tuple[int, int]:
    """Return prompt and completion tokens of a turn.

    Hermes 0.19 keeps sums per session and none per message. The prompt is
    dominated by the system prompt and the tools, which every call repeats, so
    the session's sum is spread evenly over its calls. An answer's tokens
    follow its length: the sum is exact where the session made one call, else
    four characters count as one token, plus an even share of the reasoning.
    Without sums, both are estimated from their characters. Text never costs zero.
    """
    calls = max(1, turn.calls)
    request_chars = turn.context_chars + len(turn.request)
    if session.calls and session.prompt_tokens:
        prompt = round(session.prompt_tokens / session.calls) * calls
    else:
        prompt = -(-request_chars // _CHARS_PER_TOKEN) * calls
    if turn.output_tokens:
        completion = turn.output_tokens
    elif session.calls == 1 and session.output_tokens:
        completion = session.output_tokens
    else:
        completion = -(-len(turn.answer) // _CHARS_PER_TOKEN)
        if session.calls:
            completion += round(session.reasoning_tokens / session.calls) * calls
    return max(prompt, 1 if turn.request else 0), max(completion, 1 if turn.answer else 0)


# --- turns ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """A turn in the making."""

    turn_index: int
    context_chars: int
    typed: bool
    withdrawn: bool
    users: list[WrittenRow]
    texts: list[str] = field(default_factory=list)
    attachment: bool = False
    uses_tools: bool = False
    calls: int = 0
    final: WrittenRow | None = None
    last: WrittenRow | None = None
    cut_off: bool = False

    @property
    def started(self) -> bool:
        """Whether the model or a tool has done anything."""
        return self.last is not None or self.uses_tools

    @property
    def certain(self) -> bool:
        """Whether a final answer stands that is marked as such."""
        return self.final is not None and self.final.row.finish_reason is not None

    def turn(self) -> Turn:
        last = self.final or self.last
        answer_text, _ = _decoded(last.row.content) if last else ("", False)
        return Turn(
            request="\n\n".join(self.texts),
            answer=answer_text.strip(),
            asked_at=self.users[0].row.timestamp,
            answered_at=(last or self.users[0]).row.timestamp,
            user_row=self.users[0].newest.row_id,
            answer_row=self.final.newest.row_id if self.final else None,
            turn_index=self.turn_index,
            context_chars=self.context_chars,
            calls=self.calls,
            output_tokens=last.row.token_count if last else None,
            uses_tools=self.uses_tools,
            attachment=self.attachment,
            typed=self.typed,
            withdrawn=self.withdrawn,
        )


@dataclass(slots=True)
class _Drafts:
    """The turns of a session in the making, in order."""

    turn_index: int
    all: list[_Draft] = field(default_factory=list)
    last_of: dict[bool, _Draft] = field(default_factory=dict)
    """The last turn that goes on, and the last that was taken back."""

    def interrupt(self) -> None:
        """Note a summary: what follows does not belong to the turn before it."""
        if self.all:
            self.all[-1].cut_off = True

    def resume(self, copy: MessageRow) -> None:
        """Note a copied row: if it is the last request, its turn goes on after the summary."""
        if self.all and self.all[-1].users[-1].newest is copy:
            self.all[-1].cut_off = False

    def add(self, row: WrittenRow, context: int) -> None:
        """Add a row to the turn it belongs to, or start one."""
        if row.row.role == "user":
            self._add_user(row, context)
        elif self.all and not self.all[-1].cut_off:
            draft = self.all[-1]
            if row.row.role == "assistant":
                _add_assistant(row, draft)
            elif row.row.role == "tool" and not draft.certain:
                draft.uses_tools = True
                draft.final = None

    def _add_user(self, row: WrittenRow, context: int) -> None:
        content, attachment = _decoded(row.row.content)
        if row.row.observed or content.startswith(_CRON_DELIVERY):
            return
        withdrawn = row.newest.state is RowState.WITHDRAWN
        current = self.last_of.get(withdrawn)
        text = user_text(content)
        only_a_note = bool(content.strip()) and not text and not attachment
        typed = typed_by_a_person(content) and not only_a_note
        if content.lstrip().startswith(_NUDGE) and current and current.final is None:
            return
        if typed and current and current.typed and not (current.started or current.cut_off):
            current.users.append(row)
            current.attachment |= attachment
            # A row saved twice around a crash was still sent once.
            if text and text not in current.texts[-1:]:
                current.texts.append(text)
            if current is not self.all[-1]:
                self.all.remove(current)
                self.all.append(current)
            return
        draft = _Draft(
            turn_index=self.turn_index,
            context_chars=context,
            typed=typed,
            withdrawn=withdrawn,
            users=[row],
            texts=[text] if text else [],
            attachment=attachment,
        )
        self.all.append(draft)
        self.last_of[withdrawn] = draft
        self.turn_index += typed and not withdrawn


def _add_assistant(row: WrittenRow, draft: _Draft) -> None:
    """Take a row as the answer so far.

    Hermes marks what a model wrote with a finish reason. Rows without one are
    notes of what was sent to the chat from elsewhere, or come from a history
    that lost its marks, as branches do.
    """
    finish = row.row.finish_reason
    if draft.certain:
        return
    if draft.final is None or finish is None:
        draft.calls += 1  # otherwise this replaces what was only a note
    draft.last = row
    draft.uses_tools |= row.row.calls_tools
    is_final = not row.row.calls_tools and finish not in _UNFINISHED
    draft.final = row if is_final and (finish or row.row.content) else None


def _decoded(content: str | None) -> tuple[str, bool]:
    """Return the text of a message, and whether something else came with it."""
    if not content or not content.startswith(_MULTIMODAL):
        return content or "", bool(content and _SCREENSHOT.search(content))
    try:
        parts = json.loads(content.removeprefix(_MULTIMODAL))
    except ValueError:
        return content, True
    texts = [
        str(part.get("text", ""))
        for part in (parts if isinstance(parts, list) else [parts])
        if isinstance(part, dict) and part.get("type") in ("text", "input_text")
    ]
    return "\n".join(texts), True
