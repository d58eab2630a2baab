"""Talk to the operator over Hermes' own Telegram connection.

Hermes hands a message that arrives during an agent's turn to that turn, so our
handlers stand in front of its own (group -1). They see every text and button,
take what is said to Apprentice by somebody whom Hermes trusts, and let the
rest pass. Hermes' connection is reached through private attributes: every one
is asked for with a fallback, and without them this module does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hermes_apprentice.plugin.intake import Heard, Known, listen, plausible
from hermes_apprentice.plugin.office import (
    BROKEN,
    Answer,
    Sent,
    answer_command,
    answer_reply,
    settle,
)

PREFIX = "apprentice:"
"""Begins the data of our buttons; Hermes' own begin differently."""

GROUP = -1
"""Handlers of a lower group are asked first; Hermes' are in group 0."""

_WORDS = {"t": "train", "s": "skip", "d": "details", "m": "merge", "r": "reject"}
"""What a button says, by the letter in its data."""
_TOAST = 190
_LONGEST_WAIT = 30.0
_FORWARDED = "A forwarded message decides nothing. Type the reply yourself."
_EDITED = "An edited message decides nothing. Send the reply as a new message."
_STRANGER = "You may not decide here."

_log = logging.getLogger(__name__)


class TelegramDesk:
    """Our handlers on one Telegram connection, installed again whenever it is built anew."""

    def __init__(self, known: Callable[[], Known], denied: Callable[[Any], str | None]) -> None:
        """Take two functions.

        Args:
            known: Gives what there is to talk about; called in a thread.
            denied: Hermes' own rule about who may use commands: gives the refusal, or ``None``.
        """
        self._known = known
        self._denied = denied
        self._home = ""
        self._application: Any = None
        self._adapter: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    def attend(self, adapter: Any, home: str) -> bool:
        """Install our handlers unless they are; returns whether this connection can have them.

        Args:
            adapter: Hermes' Telegram adapter, connected.
            home: The chat that the outbox is delivered to; empty for none.
        """
        self._home = home
        if not hasattr(adapter, "_app"):
            return False
        application = getattr(adapter, "_app", None)
        if application is None or not getattr(application, "running", False):
            return True  # not connected yet, or connecting again
        if application is self._application:
            return True
        if not callable(getattr(adapter, "_is_callback_user_authorized", None)):
            return False
        try:
            from telegram.ext import CallbackQueryHandler, MessageHandler, filters
        except ImportError:
            return False
        self._adapter = adapter
        application.add_handler(MessageHandler(filters.TEXT, self._read), group=GROUP)
        application.add_handler(
            CallbackQueryHandler(self._pressed, pattern=f"^{PREFIX}"), group=GROUP
        )
        self._application = application
        return True

    async def _read(self, update: Any, context: Any) -> None:
        message = update.effective_message
        if message is None or not message.text or message.from_user is None:
            return
        if not plausible(message.text):
            return
        quoted = getattr(message.reply_to_message, "text", None) or ""
        heard = listen(
            message.text,
            await asyncio.to_thread(self._known),
            quoted=quoted,
            private=str(message.chat.type) == "private",
            bot=str(getattr(context.bot, "username", "") or ""),
        )
        if heard is None or not self._trusts(message.from_user, message.chat, message):
            return
        if getattr(message, "forward_origin", None) is not None:
            self._go(message, _say(message, _FORWARDED))
        elif update.edited_message is not None:
            self._go(message, _say(message, _EDITED))
        else:
            self._go(message, self._answer(message, heard, quoted))
        _stop()

    async def _answer(self, message: Any, heard: Heard, quoted: str) -> None:
        who = f"telegram:{message.from_user.id}"
        at_home = str(message.chat.id) == self._home
        if heard.command:
            refused = self._denied(self._source(message))
            if refused:
                await _say(message, refused)
                return
        act = answer_command if heard.command else answer_reply
        answer = await asyncio.to_thread(act, heard.words, who, quoted=quoted, at_home=at_home)
        await self._tell(message, answer)

    async def _pressed(self, update: Any, context: Any) -> None:
        query = update.callback_query
        nonce, _, letter = str(query.data or "")[len(PREFIX) :].partition(":")
        message = query.message
        if message is None or letter not in _WORDS or not nonce:
            self._go(None, _toast(query, "This button is too old.", alert=True))
        elif not self._trusts(query.from_user, message.chat, None, message):
            self._go(None, _toast(query, _STRANGER, alert=True))
        else:
            self._go(message, self._decide(query, message, nonce, letter))
        _stop()

    async def _decide(self, query: Any, message: Any, nonce: str, letter: str) -> None:
        answer = await asyncio.to_thread(
            answer_reply,
            _WORDS[letter],
            f"telegram:{query.from_user.id}",
            nonce=nonce,
            at_home=str(message.chat.id) == self._home,
        )
        short = answer.text if len(answer.text) <= _TOAST else answer.text[: _TOAST - 1] + "…"
        await _toast(query, "" if letter == "d" and answer.done else short, alert=not answer.done)
        if answer.done or letter == "d":
            await self._tell(message, answer)
        if answer.done and letter != "d":
            await _quietly(query.edit_message_reply_markup(reply_markup=None))

    async def _tell(self, message: Any, answer: Answer) -> None:
        sent = await _say(message, answer.text)
        if answer.duty is not None:
            await asyncio.to_thread(settle, answer.duty, 0, sent)

    def _trusts(self, user: Any, chat: Any, message: Any, place: Any = None) -> bool:
        """Whether Hermes trusts this person here; in doubt it does not."""
        by_id = getattr(self._adapter, "_is_callback_user_authorized", None)
        by_message = getattr(self._adapter, "_is_user_authorized_from_message", None)
        thread = getattr(message or place, "message_thread_id", None)
        try:
            known = callable(by_id) and by_id(
                str(user.id),
                chat_id=str(chat.id),
                chat_type=str(chat.type),
                thread_id=None if thread is None else str(thread),
                user_name=getattr(user, "username", None),
            )
            if known and message is not None and callable(by_message):
                return bool(by_message(message))
            return bool(known)
        except Exception:
            _log.warning("apprentice: Hermes could not say whether it trusts a sender; it does not")
            return False

    def _source(self, message: Any) -> Any:
        make = getattr(self._adapter, "_source_from_message_for_auth", None)
        return make(message) if callable(make) else None

    def _go(self, message: Any, work: Awaitable[Any]) -> None:
        """Answer beside Hermes' own work; its updates go on meanwhile."""

        async def run() -> None:
            try:
                await work
            except Exception:
                _log.exception("apprentice: an operator's message could not be answered")
                if message is not None:
                    await _say(message, BROKEN)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def send_letter(
    adapter: Any, chat: str, thread: str | None, text: str, nonce: str, answers: Sequence[str] = ()
) -> Sent:
    """Send one message as plain text, with a button for each answer to its question."""
    bot = getattr(adapter, "_bot", None)
    if bot is None or not callable(getattr(bot, "send_message", None)):
        return Sent(False, error="Telegram is not connected")
    extra: dict[str, Any] = {}
    if nonce:
        extra["reply_markup"] = _buttons(nonce, answers)
    if thread:
        extra["message_thread_id"] = int(thread)
    target = int(chat) if chat.lstrip("-").isdigit() else chat
    return await _sent(bot.send_message(chat_id=target, text=text, **extra))


def _buttons(nonce: str, answers: Sequence[str]) -> Any:
    from telegram import InlineKeyboardButton, InlineKeyboardMarkup

    row = [
        InlineKeyboardButton(word.capitalize(), callback_data=f"{PREFIX}{nonce}:{letter}")
        for word in answers
        for letter in [next(letter for letter, known in _WORDS.items() if known == word)]
    ]
    return InlineKeyboardMarkup([row])


async def _say(message: Any, text: str) -> Sent:
    """Answer a message; a short rate limit is waited for."""
    sent = await _sent(message.reply_text(text))
    if not sent.ok and 0 < sent.wait <= _LONGEST_WAIT:
        await asyncio.sleep(sent.wait)
        sent = await _sent(message.reply_text(text))
    return sent


async def _sent(sending: Awaitable[Any]) -> Sent:
    """Wait for a message to be sent, and say what became of it."""
    from telegram.error import BadRequest, Forbidden, InvalidToken, RetryAfter, TelegramError

    try:
        await sending
    except RetryAfter as error:
        wait: Any = error.retry_after  # seconds or a timedelta, depending on a setting
        seconds = wait.total_seconds() if hasattr(wait, "total_seconds") else float(wait)
        return Sent(False, error="rate limit", wait=seconds)
    except (BadRequest, Forbidden, InvalidToken) as error:
        return Sent(False, error=str(error))
    except TelegramError as error:  # a broken connection: it may have arrived
        return Sent(False, certain=False, error=str(error) or type(error).__name__)
    return Sent(True)


async def _toast(query: Any, text: str, alert: bool) -> None:
    await _quietly(query.answer(text=text or None, show_alert=alert))


async def _quietly(work: Awaitable[Any]) -> None:
    """Do something that is only for show: if it fails, nothing is lost."""
    from telegram.error import TelegramError

    try:
        await work
    except TelegramError as error:
        _log.debug("apprentice: %s", error)


def _stop() -> None:
    from telegram.ext import ApplicationHandlerStop

    raise ApplicationHandlerStop
