"""Notice that the user turned down an answer, at the moment when they do.

Hermes calls ``asked`` at the beginning of every turn, with the conversation so
far, and ``answered`` at its end. The sidecar may thus learn within seconds that
a specialist's answer was wrong; the session database tells it only at the next
detection, and after ``/undo`` or ``/retry`` hardly at all. Nothing here may
delay or break a turn: what fails is logged once, and writing is not waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hermes_apprentice.storage.corrections import CorrectionKind

TURNS = 4
"""Turns of a session that are remembered."""

SESSIONS = 256
"""Sessions that are remembered, the latest ones."""

PATIENCE = 1.0
"""Seconds that a turn may wait until a correction is written."""

_NOT_A_PERSON = ("cron", "subagent", "curator")

_log = logging.getLogger(__name__)


class Turn(NamedTuple):
    """One request and its answer."""

    request: str
    """What the user typed."""

    answer: str
    """What they read."""

    asked_at: float
    """Unix time at which the turn began."""


class Memory:
    """What was said lately in the sessions of this process, and what was turned down."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        keep: Callable[..., None] | None = None,
    ) -> None:
        """Take a clock, and what keeps a correction; by default it is written to the database."""
        self._clock = clock
        self._keep = keep if keep is not None else _write
        self._turns: OrderedDict[str, list[Turn]] = OrderedDict()
        self._begun: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._complained = False

    def asked(self, **told: Any) -> None:
        """Look whether a new message turns down an earlier answer; Hermes' ``pre_llm_call``."""
        self._safely(self._asked, told)

    def answered(self, **told: Any) -> None:
        """Remember a turn; Hermes' ``post_llm_call``."""
        self._safely(self._answered, told)

    def _asked(self, session: str, message: str, history: list[Any]) -> None:
        from hermes_apprentice.observer.corrections import WINDOW, asks_again, rejects
        from hermes_apprentice.storage.corrections import CorrectionKind

        now = self._clock()
        with self._lock:
            turns = self._known(session, history)
            self._begun[session] = (message, now)
            while len(self._begun) > SESSIONS:
                del self._begun[next(iter(self._begun))]
        taken_back = _taken_back(turns, history)
        for turn in taken_back:
            self._note(session, turns, turn, CorrectionKind.TAKEN_BACK, now)
        standing = [turn for turn in turns if turn not in taken_back]
        if standing and rejects(message, standing[-1].answer):
            self._note(session, turns, standing[-1], CorrectionKind.REJECTED, now)
        for turn in standing[-WINDOW:]:
            if asks_again(turn.request, message):
                self._note(session, turns, turn, CorrectionKind.ASKED_AGAIN, now)
        if taken_back:
            with self._lock:
                self._turns[session] = standing

    def _answered(self, session: str, message: str, history: list[Any]) -> None:
        answer = _last_answer(history)
        with self._lock:
            begun = self._begun.pop(session, None)
            asked_at = begun[1] if begun is not None and begun[0] == message else self._clock()
            turns = self._turns.setdefault(session, [])
            self._turns.move_to_end(session)
            turns.append(Turn(message, answer, asked_at))
            del turns[:-TURNS]
            while len(self._turns) > SESSIONS:
                self._turns.popitem(last=False)

    def _known(self, session: str, history: list[Any]) -> list[Turn]:
        """Return the latest turns: as this process saw them, else as Hermes gives them."""
        remembered = list(self._turns.get(session, ()))
        return remembered or list(_turns_of(history[:-1]))[-TURNS:]

    def _note(
        self, session: str, turns: list[Turn], turn: Turn, kind: CorrectionKind, now: float
    ) -> None:
        later = [one.asked_at for one in turns if one.asked_at > turn.asked_at]
        self._keep(session, turn, kind, until=min(later, default=now), now=now)

    def _safely(self, work: Callable[[str, str, list[Any]], None], told: dict[str, Any]) -> None:
        try:
            from hermes_apprentice.domain.exchange import typed_by_a_person, user_text

            session, said = told.get("session_id"), told.get("user_message")
            history = told.get("conversation_history")
            if not isinstance(session, str) or not session or not isinstance(said, str):
                return
            if not isinstance(history, list) or told.get("platform") in _NOT_A_PERSON:
                return
            if typed_by_a_person(said):
                work(session, user_text(said), history)
        except Exception:  # the edge: an agent's turn goes on whatever this Hermes tells us
            if not self._complained:
                self._complained = True
                _log.warning("apprentice: corrections cannot be noticed here", exc_info=True)


def _write(session: str, turn: Turn, kind: CorrectionKind, *, until: float, now: float) -> None:
    """Write a correction in a thread, so that a locked database does not hold up the turn."""

    def work() -> None:
        from hermes_apprentice.errors import ApprenticeError
        from hermes_apprentice.settings import load_settings
        from hermes_apprentice.storage.corrections import (
            Correction,
            add_correction,
            answerer_of,
            digest_of,
        )
        from hermes_apprentice.storage.database import Database

        try:
            path = load_settings().database_path
            with Database(path) as database, database.transaction() as connection:
                answerer = answerer_of(connection, session, turn.asked_at, until)
                add_correction(
                    connection,
                    Correction(
                        session_id=session,
                        asked_at=turn.asked_at,
                        kind=kind,
                        at=now,
                        request_digest=digest_of(turn.request),
                        slug=answerer.slug if answerer is not None else None,
                        version=answerer.version if answerer is not None else None,
                    ),
                )
        except ApprenticeError as error:
            _log.warning("apprentice: a correction was not kept: %s", error)

    # Not a daemon: a one-shot command that ends at once still writes it.
    thread = threading.Thread(target=work, name="apprentice-correction")
    thread.start()
    thread.join(PATIENCE)


def _taken_back(turns: list[Turn], history: list[Any]) -> list[Turn]:
    """Return the last turns that are no longer part of the conversation.

    A conversation that was compacted has lost turns that nobody took back.
    """
    before = history[:-1]
    if any(_text(message).lstrip().startswith("[CONTEXT COMPACTION") for message in before):
        return []
    requests = "\n".join(_text(message) for message in before if _role(message) == "user")
    gone: list[Turn] = []
    for turn in reversed(turns):
        if turn.request in requests:
            break
        gone.append(turn)
    return gone


def _turns_of(history: list[Any]) -> Iterator[Turn]:
    """Yield the answered turns of a conversation whose times are known."""
    from hermes_apprentice.domain.exchange import typed_by_a_person, user_text

    request, asked_at, answer = "", 0.0, ""
    for message in [*history, {"role": "user", "content": ""}]:
        role, text = _role(message), _text(message)
        if role == "assistant" and not message.get("tool_calls"):
            answer = text
        elif role == "user" and typed_by_a_person(text):
            if request and answer and asked_at:
                yield Turn(request, answer, asked_at)
            when = message.get("timestamp")
            request, answer = user_text(text), ""
            asked_at = float(when) if isinstance(when, int | float) else 0.0


def _last_answer(history: list[Any]) -> str:
    for message in reversed(history):
        if _role(message) == "assistant":
            return _text(message)
    return ""


def _role(message: Any) -> str:
    return str(message.get("role")) if isinstance(message, dict) else ""


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):  # a text with pictures
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
