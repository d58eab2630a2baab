"""Beside a gateway: other platforms, gateways of an unknown kind, and who is trusted."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.plugin.gateway import Watch
from hermes_apprentice.plugin.telegram import TelegramDesk, send_letter
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import find_proposal
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
DISCORD = SimpleNamespace(value="discord")


@dataclass
class Adapter:
    """A connection to some platform."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, chat_id: str, content: str, metadata: Any = None) -> Any:
        self.sent.append((chat_id, content))
        self.said.set()
        return SimpleNamespace(success=True, error=None)


class Gateway:
    """As much of Hermes' gateway as the plugin asks for."""

    def __init__(self, adapter: Any, trusted: set[str], platform: Any = DISCORD) -> None:
        self.adapters = (
            {platform: adapter} if isinstance(platform, str) else _Map(platform, adapter)
        )
        self.config = SimpleNamespace(
            get_home_channel=lambda platform: SimpleNamespace(chat_id="42", thread_id=None)
        )
        self._trusted = trusted

    def _is_user_authorized(self, source: Any) -> bool:
        return source.user_id in self._trusted


class _Map(dict[Any, Any]):
    """A map whose key need not be hashable by value."""

    def __init__(self, key: Any, value: Any) -> None:
        super().__init__({key.value: value})

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(getattr(key, "value", key), default)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_candidate: Callable[..., Candidate]
) -> Path:
    """A home with one open question that Discord user 7 may decide."""
    monkeypatch.setenv("APPRENTICE_HOME", str(tmp_path))
    monkeypatch.setattr(Watch, "start", lambda self: None)  # no thread in these tests
    (tmp_path / "settings.toml").write_text('[approvals]\ndeciders = ["discord:7"]\n')
    with Database(tmp_path / "apprentice.db") as database, database.transaction() as connection:
        desk.propose(connection, make_candidate(), ApprovalSettings(), NOW)
    return tmp_path


def message(text: str, user: str = "7") -> Any:
    source = SimpleNamespace(
        platform=DISCORD, chat_id="500", user_id=user, thread_id=None, chat_type="dm"
    )
    return SimpleNamespace(text=text, source=source, reply_to_text=None, raw_message=None)


async def test_details_are_given_on_any_platform(place: Path) -> None:
    adapter = Adapter()
    heard = Watch().hear(event=message("details gc-9999"), gateway=Gateway(adapter, {"7"}))
    assert heard == {"action": "skip", "reason": "said to apprentice"}
    await asyncio.wait_for(adapter.said.wait(), 30)
    ((chat, text),) = adapter.sent
    assert chat == "500"
    assert "gc-9999" in text


async def test_somebody_hermes_does_not_trust_is_left_to_hermes(place: Path) -> None:
    adapter = Adapter()
    assert Watch().hear(event=message("train gc-7f3a"), gateway=Gateway(adapter, set())) is None
    with Database(place / "apprentice.db") as database, database.transaction() as connection:
        found = find_proposal(connection, "gc-7f3a")
    assert found is not None and found.state is ProposalState.OPEN


async def test_a_trusted_person_who_is_no_decider_is_told_so(place: Path) -> None:
    adapter = Adapter()
    gateway = Gateway(adapter, {"8"})
    assert Watch().hear(event=message("demote x gc", user="8"), gateway=gateway) is None
    assert Watch().hear(event=message("/apprentice budget increase 5", user="8"), gateway=gateway)
    await asyncio.wait_for(adapter.said.wait(), 30)
    assert "discord:8 may not decide" in adapter.sent[0][1]


async def test_ordinary_messages_pass(place: Path) -> None:
    gateway = Gateway(Adapter(), {"7"})
    assert Watch().hear(event=message("What is the weather?"), gateway=gateway) is None


@pytest.mark.parametrize(
    ("event", "gateway"),
    [
        (None, None),
        (object(), object()),
        (message("train gc-7f3a"), object()),
        (SimpleNamespace(text=b"train", source=object()), Gateway(Adapter(), {"7"})),
    ],
)
async def test_a_gateway_of_an_unknown_kind_is_left_alone(
    place: Path, event: Any, gateway: Any
) -> None:
    assert Watch().hear(event=event, gateway=gateway) is None


@pytest.mark.parametrize(
    "gateway",
    [
        object(),
        SimpleNamespace(adapters=None, config=None),
        SimpleNamespace(adapters={"telegram": object(), DISCORD.value: None}, config=object()),
        SimpleNamespace(
            adapters={"telegram": SimpleNamespace(_app=None)}, _profile_adapters=["changed"]
        ),
    ],
)
async def test_connections_of_an_unknown_kind_are_left_alone_and_the_log_says_so(
    gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()
    with caplog.at_level(logging.WARNING):
        await watch._attend(gateway)
        first = len(caplog.records)
        await watch._attend(gateway)
    assert 0 < first == len(caplog.records)
    assert "apprentice reply" in caplog.text


async def test_in_a_busy_chat_ours_are_heard_and_hermes_gets_the_rest(place: Path) -> None:
    class Connection(Adapter):
        """One that asks a handler about busy chats, as Hermes' do."""

        def __init__(self) -> None:
            super().__init__()
            self.passed: list[str] = []
            self._busy_session_handler: Any = self._queue

        def set_busy_session_handler(self, handler: Any) -> None:
            self._busy_session_handler = handler

        async def _queue(self, event: Any, session_key: str) -> bool:
            self.passed.append(event.text)
            return False

    adapter = Connection()
    watch = Watch()
    watch._gateway = gateway = Gateway(adapter, {"7"})
    await watch._attend(gateway)
    assert await adapter._busy_session_handler(message("details gc-9999"), "key") is True
    assert await adapter._busy_session_handler(message("And then?"), "key") is False
    assert await adapter._busy_session_handler(message("train gc-7f3a", user="8"), "key") is False
    await asyncio.wait_for(adapter.said.wait(), 30)
    assert adapter.passed == ["And then?", "train gc-7f3a"]


async def test_a_hook_that_fails_says_so_once_and_lets_everything_pass(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(source: Any) -> bool:
        raise RuntimeError("changed in a later version")

    gateway = SimpleNamespace(_is_user_authorized=broken)
    watch = Watch()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert watch.hear(event=message("train gc-7f3a"), gateway=gateway) is None
    assert len(caplog.records) == 1
    assert "apprentice reply" in caplog.text


@pytest.mark.parametrize(
    "adapter",
    [
        SimpleNamespace(_app=None),
        SimpleNamespace(_app=SimpleNamespace(running=False)),
    ],
)
def test_a_telegram_connection_that_is_not_up_is_waited_for(adapter: Any) -> None:
    desk = TelegramDesk(lambda: pytest.fail("nobody spoke"), lambda source: None)
    assert desk.attend(adapter, "")


def test_a_telegram_connection_of_an_unknown_kind_gets_no_handlers() -> None:
    assert not TelegramDesk(lambda: pytest.fail("nobody spoke"), lambda source: None).attend(
        SimpleNamespace(), ""
    )
    added: list[Any] = []
    application = SimpleNamespace(running=True, add_handler=lambda *a, **k: added.append(a))
    desk = TelegramDesk(lambda: pytest.fail("nobody spoke"), lambda source: None)
    assert not desk.attend(SimpleNamespace(_app=application), "")
    assert added == []


def test_a_connection_that_is_built_anew_gets_our_handlers_again() -> None:
    pytest.importorskip("telegram", reason="hermes-agent[messaging] is not installed")
    groups: list[int] = []

    def application() -> Any:
        return SimpleNamespace(
            running=True, add_handler=lambda handler, group: groups.append(group)
        )

    adapter = SimpleNamespace(_app=application(), _is_callback_user_authorized=lambda *a, **k: True)
    desk = TelegramDesk(lambda: pytest.fail("nobody spoke"), lambda source: None)
    assert desk.attend(adapter, "42") and desk.attend(adapter, "42")
    assert groups == [-1, -1]  # texts and buttons, once
    adapter._app = application()
    assert desk.attend(adapter, "42")
    assert groups == [-1] * 4


async def test_without_a_bot_nothing_is_sent_and_that_is_certain() -> None:
    sent = await send_letter(SimpleNamespace(), "42", None, "hello", "")
    assert (sent.ok, sent.certain) == (False, True)


def test_the_tests_left_no_thread_behind() -> None:
    assert "apprentice-gateway" not in {thread.name for thread in threading.enumerate()}
