"""Stand beside Hermes' gateway: find it, hear what is said on any platform, deliver the outbox.

A daemon thread looks for the running gateway every two seconds and does its
work on the gateway's own event loop; what blocks is done in the thread. A
gateway that does not look as expected is left alone, with one line in its log.
Imports next to nothing until a gateway runs: asyncio alone would take most of
the time that a plugin's import may take.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio

    from hermes_apprentice.plugin.intake import Heard, Known
    from hermes_apprentice.plugin.office import Letter, Sent
    from hermes_apprentice.plugin.telegram import TelegramDesk

INTERVAL = 2.0
"""Seconds between two looks."""

_PATIENCE = 90.0
_SENDING = 45.0
_LETTERS = 20
_DUTY = 10.0
_FALLBACK = "Decide with 'apprentice reply' on the machine."

_log = logging.getLogger(__name__)


def runs_a_gateway() -> bool:
    """Tell whether this process is, or becomes, a gateway."""
    return "gateway" in sys.argv[1:] or "gateway.run" in sys.modules


class Home(NamedTuple):
    """Where the outbox is delivered to."""

    platform: str
    """Hermes' name of the platform."""

    adapter: Any
    """Hermes' connection to it."""

    chat: str
    """Chat id."""

    thread: str | None
    """Thread in the chat."""


class Watch:
    """Our side of one gateway process."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._gateway: Any = None
        self._known: Known | None = None
        self._desks: dict[int, TelegramDesk] = {}
        self._without_buttons: set[int] = set()
        self._told: set[str] = set()
        self._on_duty = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to watch; a second call does nothing."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="apprentice-gateway", daemon=True
                )
                self._thread.start()

    def runner(self) -> Any:
        """Return the running gateway of this process, or ``None``."""
        if self._gateway is not None:
            return self._gateway
        found = getattr(sys.modules.get("gateway.run"), "_gateway_runner_ref", None)
        return found() if callable(found) else None

    def hear(self, event: Any = None, gateway: Any = None, **rest: Any) -> dict[str, str] | None:
        """Take what is said to Apprentice on any platform; Hermes' hook before an agent's turn.

        Hermes calls it for idle chats, and before it asks whether it trusts the sender; for a
        chat in which the agent is at work see ``door``.

        Returns:
            Hermes' word for "this is dealt with", or ``None`` for everything else.
        """
        try:
            if gateway is not None:
                self._gateway = gateway
                self.start()
            return self._hear(event, gateway)
        except Exception:
            self._tell_once("hear", "an incoming message could not be read")
            return None

    def _hear(self, event: Any, gateway: Any) -> dict[str, str] | None:
        source = getattr(event, "source", None)
        text = getattr(event, "text", None)
        trusts = getattr(gateway, "_is_user_authorized", None)
        if source is None or not isinstance(text, str) or not callable(trusts):
            return None
        from hermes_apprentice.plugin.intake import Known, listen, plausible

        if not plausible(text):
            return None
        quoted = str(getattr(event, "reply_to_text", None) or "")
        private = str(getattr(source, "chat_type", "")) in ("dm", "direct", "private")
        heard = listen(text, self._known or Known(), quoted=quoted, private=private)
        user = getattr(source, "user_id", None)
        if heard is None or not user or not trusts(source):
            return None
        if getattr(getattr(event, "raw_message", None), "forward_origin", None) is not None:
            return None
        import asyncio

        task = asyncio.get_running_loop().create_task(self._answer(gateway, source, heard, quoted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"action": "skip", "reason": "said to apprentice"}

    def _hears(self, event: Any) -> bool:
        return self.hear(event, self.runner()) is not None

    async def _answer(self, gateway: Any, source: Any, heard: Heard, quoted: str) -> None:
        import asyncio

        from hermes_apprentice.plugin.office import BROKEN, answer_command, answer_reply, settle

        adapter, chat = _adapter_of(gateway, source), str(source.chat_id)
        try:
            platform = _name(source.platform)
            home = self._home(gateway)
            at_home = home is not None and (home.platform, home.chat) == (platform, chat)
            refused = self._denied(source) if heard.command else None
            if refused:
                await _send(adapter, chat, source.thread_id, refused)
                return
            act = answer_command if heard.command else answer_reply
            answer = await asyncio.to_thread(
                act, heard.words, f"{platform}:{source.user_id}", quoted=quoted, at_home=at_home
            )
            sent = await _send(adapter, chat, source.thread_id, answer.text)
            if answer.duty is not None:
                await asyncio.to_thread(settle, answer.duty, 0, sent)
        except Exception:
            _log.exception("apprentice: an operator's message could not be answered")
            with suppress(Exception):  # the log has it; this is only for the phone
                await _send(adapter, chat, source.thread_id, BROKEN)

    def _run(self) -> None:
        import asyncio

        began = time.monotonic()
        while True:
            time.sleep(INTERVAL)
            gateway = self.runner()
            loop = getattr(gateway, "_gateway_loop", None)
            if gateway is None or loop is None:
                if time.monotonic() - began > _PATIENCE:
                    self._tell_once("none", "no gateway of a known kind was found here")
                continue
            try:
                self._look()
                asyncio.run_coroutine_threadsafe(self._attend(gateway), loop).result(_PATIENCE)
                self._deliver(gateway, loop)
            except Exception as error:
                if loop.is_closed():
                    return
                self._tell_once(
                    type(error).__name__, f"the gateway is not served at present: {error}"
                )

    def _look(self) -> Known:
        """Look up what there is to talk about; blocking."""
        from hermes_apprentice.plugin.office import what_is_known

        self._known = what_is_known()
        return self._known

    async def _attend(self, gateway: Any) -> None:
        """Install our handlers on every connection that has none."""
        from hermes_apprentice.plugin.door import stand_at
        from hermes_apprentice.plugin.telegram import TelegramDesk

        for adapter in _connections(gateway):
            if not stand_at(adapter, self._hears):
                self._tell_once("busy", "replies cannot be heard while the agent is at work")
        home = self._home(gateway)
        adapters = _connections(gateway, "telegram")
        self._desks = {
            id(adapter): self._desks.get(id(adapter)) or TelegramDesk(self._look, self._denied)
            for adapter in adapters
        }
        for adapter in adapters:
            desk = self._desks[id(adapter)]
            chat = home.chat if home is not None and home.adapter is adapter else ""
            if desk.attend(adapter, chat):
                self._without_buttons.discard(id(adapter))
            else:
                self._without_buttons.add(id(adapter))
                self._tell_once(
                    "telegram", "this Hermes' Telegram connection is unknown: no buttons here"
                )

    def _deliver(self, gateway: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver what waits in the outbox; runs in the thread."""
        import asyncio

        from hermes_apprentice.plugin.office import Sent, next_letter, report_for_duty, settle

        for _ in range(_LETTERS):
            home = self._home(gateway)
            if home is None:
                return  # the scheduler prints the messages instead
            if time.monotonic() - self._on_duty > _DUTY:
                report_for_duty()
                self._on_duty = time.monotonic()
            letter = next_letter()
            if letter is None:
                return
            if id(home.adapter) in self._without_buttons:
                letter = letter._replace(nonce="")  # nobody would hear them being pressed
            try:
                sending = asyncio.run_coroutine_threadsafe(_post(home, letter), loop)
                sent = sending.result(_SENDING)
            except Exception as error:  # whatever an adapter raises: it may have been sent
                sent = Sent(False, certain=False, error=str(error) or type(error).__name__)
            settle(letter.message_id, letter.attempts, sent)
            if not sent.ok:
                _log.info("apprentice: a message waits: %s", sent.error)
                if sent.wait:
                    return

    def _home(self, gateway: Any) -> Home | None:
        """Return where messages go: the home channel of a connected platform, Telegram first."""
        find = getattr(getattr(gateway, "config", None), "get_home_channel", None)
        adapters = getattr(gateway, "adapters", None)
        if not callable(find) or not isinstance(adapters, dict):
            self._tell_once("home", "this Hermes does not tell its home channel")
            return None
        for platform in sorted(adapters, key=lambda one: _name(one) != "telegram"):
            channel = find(platform)
            adapter = adapters.get(platform)
            if channel is None or adapter is None or getattr(adapter, "_send_path_degraded", False):
                continue
            thread = getattr(channel, "thread_id", None)
            return Home(
                _name(platform), adapter, str(channel.chat_id), str(thread) if thread else None
            )
        return None

    def _denied(self, source: Any) -> str | None:
        """Return why somebody may not use commands, by Hermes' own rule, or ``None``."""
        check = getattr(self.runner(), "_check_slash_access", None)
        if not callable(check) or source is None:
            return None
        refused = check(source, "apprentice")
        return str(refused) if refused else None

    def _tell_once(self, topic: str, problem: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            _log.warning("apprentice: %s. %s", problem, _FALLBACK)


def _connections(gateway: Any, platform: str = "") -> list[Any]:
    """Return the connections, to one platform or to all, of every profile that is served here."""
    maps = [getattr(gateway, "adapters", None)]
    others = getattr(gateway, "_profile_adapters", None)
    maps += list(others.values()) if isinstance(others, dict) else []
    return [
        adapter
        for one in maps
        if isinstance(one, dict)
        for name, adapter in list(one.items())
        if platform in ("", _name(name))
    ]


def _adapter_of(gateway: Any, source: Any) -> Any:
    find = getattr(gateway, "_adapter_for_source", None)
    found = find(source) if callable(find) else None
    return found if found is not None else getattr(gateway, "adapters", {}).get(source.platform)


async def _post(home: Home, letter: Letter) -> Sent:
    if home.platform == "telegram":
        from hermes_apprentice.plugin.telegram import send_letter

        return await send_letter(
            home.adapter, home.chat, home.thread, letter.text, letter.nonce, letter.answers
        )
    return await _send(home.adapter, home.chat, home.thread, letter.text)


async def _send(adapter: Any, chat: str, thread: Any, text: str) -> Sent:
    """Send by any of Hermes' connections."""
    from hermes_apprentice.plugin.office import Sent

    metadata = {"thread_id": str(thread)} if thread else None
    result = await adapter.send(chat, text, metadata=metadata)
    return Sent(bool(getattr(result, "success", False)), error=str(getattr(result, "error", "")))


def _name(platform: Any) -> str:
    return str(getattr(platform, "value", platform))
