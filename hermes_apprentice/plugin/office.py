"""Run the product's own functions for somebody in a chat. Blocking: call it in a thread.

Opens settings and database for each call and closes them again, so that a
gateway that runs for months sees every change of the settings. Knows nothing
about platforms.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from hermes_apprentice.approvals import messages
from hermes_apprentice.approvals.desk import nonce_of
from hermes_apprentice.approvals.grammar import HELP, parse_reply
from hermes_apprentice.approvals.outbox import LEASE, pause_after, take, worded
from hermes_apprentice.approvals.plain_text import fitting
from hermes_apprentice.domain.approval import Action, ProposalState, answers_to
from hermes_apprentice.domain.pattern import CandidateState
from hermes_apprentice.errors import ApprenticeError, ReplyError
from hermes_apprentice.plugin.intake import Known
from hermes_apprentice.settings import load_settings
from hermes_apprentice.storage.approvals import (
    anything_waits,
    claim_text,
    find_question,
    mark_delivered,
    mark_failed,
    mark_uncertain,
    read_names,
    show_courier,
)
from hermes_apprentice.storage.database import Database

BROKEN = "That did not work; the gateway's log says why. 'apprentice reply' on the machine may."
"""Said when something failed that nobody foresaw."""

_WEEK = 7 * 86_400.0
_COMMANDS = "Commands: candidates, specialists, week, help."
_ON_THE_MACHINE = (
    "More on the machine ('apprentice --help'): specialists advance, hold, resume, merge, gc; "
    "jobs, keys, tenants, doctor."
)
_NO_CANDIDATE = "No candidate waits for your decision."
_NOBODY = "Type that as a message of its own, or run 'apprentice reply' on the machine."


class Answer(NamedTuple):
    """What to say to somebody."""

    text: str
    """The words."""

    done: bool
    """Whether what they asked for was done."""

    duty: int | None = None
    """A message of the outbox with the same words, held for whoever says them."""


class Letter(NamedTuple):
    """One message of the outbox, held for us."""

    message_id: int
    """Its number."""

    text: str
    """What to send."""

    nonce: str
    """The question that buttons belong to; empty where there is nothing to decide."""

    answers: tuple[str, ...]
    """What may be answered: yes, no, tell me more."""

    attempts: int
    """Deliveries tried before."""


class Sent(NamedTuple):
    """What became of a message."""

    ok: bool
    """Whether the platform took it."""

    certain: bool = True
    """Whether that is known: a timeout leaves it open."""

    error: str = ""
    """What went wrong."""

    wait: float = 0.0
    """Seconds that the platform asked to wait."""


def courier_name() -> str:
    """Return the name under which this process delivers."""
    return f"gateway:{os.getpid()}"


def what_is_known() -> Known:
    """Return the open questions and the specialists.

    Raises:
        ApprenticeError: Settings or database cannot be read.
    """
    with Database(load_settings().database_path) as database:
        return Known(*read_names(database))


def report_for_duty() -> None:
    """Tell the scheduler that messages are delivered here.

    Raises:
        ApprenticeError: Settings or database cannot be read.
    """
    with Database(load_settings().database_path) as database, database.transaction() as connection:
        show_courier(connection, courier_name(), time.time())


def answer_reply(
    words: str, who: str, *, quoted: str = "", nonce: str = "", at_home: bool = False
) -> Answer:
    """Carry out a reply and return the answer; a refusal is an answer, too.

    Args:
        words: What was said.
        who: A platform and its user id, or ``cli``.
        quoted: The message that it answers.
        nonce: The question whose button was pressed.
        at_home: Whether the answer goes where the outbox is delivered to; the same words
            in the outbox are then held, so that they are said once.
    """
    from hermes_apprentice.pipeline import open_pipeline

    try:
        settings = load_settings()
        with Database(settings.database_path) as database:
            text = open_pipeline(settings, database).reply(words, who, quoted=quoted, nonce=nonce)
            duty = None
            if at_home:
                with database.transaction() as connection:
                    duty = claim_text(connection, text, courier_name(), time.time(), lease=LEASE)
            return Answer(fitting(text), True, duty)
    except ApprenticeError as error:
        return Answer(fitting(str(error)), False)


def answer_command(
    words: str, who: str | None, *, quoted: str = "", at_home: bool = False
) -> Answer:
    """Answer ``/apprentice words``.

    Args:
        words: What followed the command.
        who: Who said it; ``None`` when Hermes does not tell, and then nothing is decided.
        quoted: The message that it answers.
        at_home: As for ``answer_reply``.
    """
    name = words.strip().lower()
    try:
        if name in ("", "status", "candidates", "specialists"):
            return Answer(fitting(_overview(name)), True)
        if name == "week":
            return Answer(fitting(_week()), True)
        if name == "help":
            return Answer(f"{HELP} {_COMMANDS} {_ON_THE_MACHINE}", True)
        action = parse_reply(words).action
    except ReplyError as error:
        return Answer(f"{error} {_COMMANDS}", False)
    except ApprenticeError as error:
        return Answer(fitting(str(error)), False)
    if who is None and action is not Action.DETAILS:
        return Answer(_NOBODY, False)
    return answer_reply(words, who or "nobody", quoted=quoted, at_home=at_home)


def next_letter() -> Letter | None:
    """Take the next message of the outbox, for a minute.

    Raises:
        ApprenticeError: Settings or database cannot be read.
    """
    with Database(load_settings().database_path) as database:
        if not anything_waits(database):
            return None
        claimed = take(database, courier_name(), time.time(), courier=True)
        if claimed is None:
            return None
        message = claimed.message
        nonce = nonce_of(message.key)
        with database.transaction() as connection:
            question = find_question(connection, nonce) if nonce else None
        opened = question is not None and question.state is ProposalState.OPEN
        return Letter(
            message.message_id,
            worded(claimed),
            nonce if opened else "",
            answers_to(question.proposal_id) if question is not None and opened else (),
            message.attempts,
        )


def settle(message_id: int, attempts: int, sent: Sent) -> None:
    """Record what became of a message.

    Raises:
        ApprenticeError: Settings or database cannot be read; the message is sent again then.
    """
    now = time.time()
    later = now + max(sent.wait, pause_after(attempts))
    with Database(load_settings().database_path) as database, database.transaction() as connection:
        if sent.ok:
            mark_delivered(connection, message_id, now)
        elif sent.certain:
            mark_failed(connection, message_id, sent.error, later)
        else:
            mark_uncertain(connection, message_id, sent.error, later)


def _overview(what: str) -> str:
    from hermes_apprentice.pipeline import open_pipeline

    settings = load_settings()
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database)
        parts = []
        questions = [(one.handle, one.about) for one in pipeline.questions()]
        if questions:
            parts.append(messages.question_list(questions))
        if what != "specialists":
            found = pipeline.candidates()
            # What was decided long ago must not push the specialists out of a short message.
            waiting = [one for one in found if one.state is CandidateState.OPEN]
            shown = found if what == "candidates" or not found else waiting
            parts.append(messages.candidate_list(shown) if shown or not found else _NO_CANDIDATE)
        if what != "candidates":
            views = pipeline.specialists()
            parts.append(
                messages.specialist_list(
                    [(view.specialist, view.rollout, view.compared, view.agreed) for view in views]
                )
            )
        return "\n".join(parts)


def _week() -> str:
    from hermes_apprentice.interfaces.cron_digest import digest_of

    settings, now = load_settings(), time.time()
    with Database(settings.database_path) as database:
        return digest_of(database, settings, now - _WEEK, now) or "There is nothing to tell yet."
