"""Approvals over Telegram: the real gateway and our plugin; the Bot API and the model are fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from hermes_apprentice.approvals import desk
from hermes_apprentice.approvals.changes import merge_question
from hermes_apprentice.approvals.outbox import SENT_AGAIN, deliver
from hermes_apprentice.domain.approval import Proposal, ProposalState
from hermes_apprentice.domain.merge import Merge, MergeState, Parent
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import (
    add_message,
    decide_proposal,
    find_proposal,
    open_proposals,
    waiting_messages,
)
from hermes_apprentice.storage.corrections import digest_of, read_corrections
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.merges import save_merge
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

pytest.importorskip("telegram", reason="hermes-agent[messaging] is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

DECIDERS = ("telegram:4711", "telegram:4712", "telegram:99")  # Hermes does not trust 99
Make = Callable[..., Candidate]


@dataclass
class Scene:
    """A running gateway with its two ends, and Apprentice's database."""

    telegram: Any
    upstream: Any
    home: Path

    @property
    def path(self) -> Path:
        return self.home / "apprentice.db"

    def ask(self, candidate: Candidate) -> Proposal:
        """Propose a candidate as a detection run does."""
        now = time.time()
        with Database(self.path) as database, database.transaction() as connection:
            store = PatternStore(connection)
            if find_proposal(connection, candidate.candidate_id) is None:
                centre = np.array([0.6, 0.8], dtype=np.float32)
                store.save(
                    StoredPattern(
                        pattern=candidate.pattern, embedder="d", centre=centre, radius=0.5
                    ),
                    now,
                )
                store.add_candidate(candidate)
            return desk.propose(connection, candidate, ApprovalSettings(deciders=DECIDERS), now)

    def ask_to_merge(self, left: Candidate, right: Candidate) -> Proposal:
        """Propose a merge as an agent's tool does."""
        now = time.time()
        merge = Merge(
            merge_id="mp-0b01",
            left=Parent(
                slug="left", version=1, pattern=left.pattern, compared=9, agreed=9, fit=1.0
            ),
            right=Parent(
                slug="right", version=1, pattern=right.pattern, compared=9, agreed=9, fit=1.0
            ),
            pattern=left.pattern,
            cosine=0.8,
            alike=True,
            asked_by="agent",
            state=MergeState.PROPOSED,
            updated_at=now,
        )
        settings = ApprovalSettings(deciders=DECIDERS)
        with Database(self.path) as database, database.transaction() as connection:
            save_merge(connection, merge)
            text = merge_question(merge)
            return desk.ask(connection, merge.merge_id, "pt-1", text, settings, now)

    def proposal(self, handle: str) -> Proposal:
        with Database(self.path) as database, database.transaction() as connection:
            found = find_proposal(connection, handle)
        assert found is not None
        return found

    def decision(self, handle: str) -> tuple[ProposalState, str | None]:
        found = self.proposal(handle)
        return found.state, found.decided_by

    def write(self, topic: str, key: str, text: str) -> None:
        with Database(self.path) as database, database.transaction() as connection:
            add_message(connection, topic, key, text, time.time())

    def settle_everything(self) -> None:
        with Database(self.path) as database, database.transaction() as connection:
            for one in open_proposals(connection):
                decide_proposal(
                    connection, one.proposal_id, ProposalState.EXPIRED, "test", time.time()
                )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    stage: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    root = tmp_path_factory.mktemp("telegram")
    home = root / "apprentice"
    home.mkdir()
    deciders = ", ".join(f'"{one}"' for one in DECIDERS)
    (home / "settings.toml").write_text(f"[approvals]\ndeciders = [{deciders}]\n")
    telegram, upstream = stage.FakeTelegram(), stage.FakeUpstream()
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", upstream.handle) as model,
    ):
        config = stage.CONFIG.format(model="big", upstream=f"{model}/v1", telegram=api)
        scene = Scene(telegram, upstream, home)
        scene.write("early", "early", "Written while no gateway was running.")
        async with stage.gateway(root / "hermes", home, telegram, config):
            yield scene


@pytest.fixture
def scene(running: Scene) -> Scene:
    running.settle_everything()
    return running


async def test_what_was_written_while_hermes_was_down_is_delivered(scene: Scene) -> None:
    message = await scene.telegram.message("Written while no gateway was running.")
    assert message["text"] == "Written while no gateway was running."
    assert (message["chat"], message["buttons"]) == ("4711", {})


async def test_while_the_gateway_delivers_the_scheduler_prints_nothing(scene: Scene) -> None:
    await scene.telegram.message("Written while no gateway was running.")
    printed: list[str] = []
    scene.write("either", "either", "By exactly one of the two.")
    with Database(scene.path) as database:
        deliver(database, lambda key, text: printed.append(text), time.time())
    await scene.telegram.message("By exactly one of the two.")
    with Database(scene.path) as database:
        deliver(database, lambda key, text: printed.append(text), time.time())
    assert printed == []


async def test_a_question_arrives_with_buttons_and_train_is_pressed(
    scene: Scene, make_candidate: Make
) -> None:
    asked = scene.ask(make_candidate("gc-0a01"))
    message = await scene.telegram.message("gc-0a01")
    assert message["text"] == asked.shown
    assert message["buttons"] == {
        "Train": f"apprentice:{asked.nonce}:t",
        "Skip": f"apprentice:{asked.nonce}:s",
        "Details": f"apprentice:{asked.nonce}:d",
    }
    assert all(len(data.encode()) <= 64 for data in message["buttons"].values())
    await scene.telegram.press(message["buttons"]["Details"], message)
    await scene.telegram.message("Exchanges: 42")
    assert scene.decision("gc-0a01") == (ProposalState.OPEN, None)
    await scene.telegram.press(message["buttons"]["Train"], message)
    await scene.telegram.toast("gc-0a01 is accepted by telegram:4711")
    await scene.telegram.edit()
    assert scene.decision("gc-0a01") == (ProposalState.ACCEPTED, "telegram:4711")


async def test_a_merge_has_buttons_of_its_own(scene: Scene, make_candidate: Make) -> None:
    asked = scene.ask_to_merge(make_candidate("gc-0b01"), make_candidate("gc-0b02"))
    message = await scene.telegram.message("mp-0b01")
    assert message["text"] == asked.shown
    assert message["buttons"] == {
        "Merge": f"apprentice:{asked.nonce}:m",
        "Reject": f"apprentice:{asked.nonce}:r",
        "Details": f"apprentice:{asked.nonce}:d",
    }
    await scene.telegram.press(message["buttons"]["Details"], message)
    await scene.telegram.message("The same task by the detector's rule")
    await scene.telegram.press(message["buttons"]["Reject"], message)
    await scene.telegram.toast("mp-0b01 is rejected by telegram:4711")
    assert scene.decision("mp-0b01") == (ProposalState.DECLINED, "telegram:4711")


async def test_a_reply_is_answered_while_a_turn_runs_and_does_not_interrupt_it(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a02"))
    await scene.telegram.message("gc-0a02")
    scene.ask(make_candidate("gc-0a22"))
    other = await scene.telegram.message("gc-0a22")
    await scene.telegram.say("Do something SLOW for me, please.")
    await scene.upstream.slow_began.wait()
    before = len(scene.telegram.sent)
    await scene.telegram.say("train gc-0a02")
    await scene.telegram.message("gc-0a02 is accepted by telegram:4711", after=before)
    await scene.telegram.say("/apprentice specialists")
    await scene.telegram.message("Specialists:", after=before)
    await scene.telegram.press(other["buttons"]["Skip"], other)
    await scene.telegram.toast("gc-0a22 is skipped by telegram:4711")
    assert scene.decision("gc-0a22") == (ProposalState.DECLINED, "telegram:4711")
    assert scene.decision("gc-0a02") == (ProposalState.ACCEPTED, "telegram:4711")
    assert not any("has answered" in one["text"] for one in scene.telegram.sent[before:])
    scene.upstream.release.set()
    await scene.telegram.message("The upstream has answered", after=before)
    assert not scene.upstream.hung_up
    assert not any("gc-0a02" in text for text in scene.upstream.asked)


async def test_the_answer_to_a_reply_comes_once(scene: Scene, make_candidate: Make) -> None:
    scene.ask(make_candidate("gc-0a03"))
    await scene.telegram.message("gc-0a03")
    await scene.telegram.say("train gc-0a03")
    await scene.telegram.message("gc-0a03 is accepted")
    scene.write("other", "marker-3", "A later message of the outbox.")
    await scene.telegram.message("A later message of the outbox.")
    answers = [one for one in scene.telegram.sent if "gc-0a03 is accepted" in one["text"]]
    assert len(answers) == 1


async def test_the_second_of_two_operators_is_told_who_decided(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a04"))
    message = await scene.telegram.message("gc-0a04")
    await scene.telegram.say("skip gc-0a04", user=4712)
    await scene.telegram.message("gc-0a04 is skipped by telegram:4712")
    await scene.telegram.press(message["buttons"]["Train"], message)
    await scene.telegram.toast("gc-0a04 was already declined by telegram:4712")
    assert scene.decision("gc-0a04") == (ProposalState.DECLINED, "telegram:4712")


async def test_a_button_of_an_old_question_decides_nothing(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a05"))
    old = await scene.telegram.message("gc-0a05")
    scene.settle_everything()
    before = len(scene.telegram.sent)
    scene.ask(make_candidate("gc-0a05", size=99))
    await scene.telegram.message("gc-0a05", after=before)
    await scene.telegram.press(old["buttons"]["Train"], old)
    await scene.telegram.toast("replaced by a newer one")
    await scene.telegram.say("train", reply_to=old)
    await scene.telegram.message("is out of date", after=before)
    assert scene.decision("gc-0a05") == (ProposalState.OPEN, None)


async def test_a_bare_train_asks_which_and_a_quoted_question_says_which(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a06"))
    scene.ask(make_candidate("gc-0a07"))
    first = await scene.telegram.message("gc-0a06")
    await scene.telegram.message("gc-0a07")
    before = len(scene.telegram.sent)
    await scene.telegram.say("Train!")
    await scene.telegram.message("Which one do you mean? Open: gc-0a06, gc-0a07", after=before)
    await scene.telegram.say("train", reply_to=first)
    await scene.telegram.message("gc-0a06 is accepted", after=before)
    assert scene.decision("gc-0a07") == (ProposalState.OPEN, None)


async def test_forwarded_and_edited_messages_decide_nothing(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a08"))
    await scene.telegram.message("gc-0a08")
    await scene.telegram.say("train gc-0a08", forwarded=True)
    await scene.telegram.message("A forwarded message decides nothing")
    await scene.telegram.say("train gc-0a08", edited=True)
    await scene.telegram.message("An edited message decides nothing")
    assert scene.decision("gc-0a08") == (ProposalState.OPEN, None)


async def test_somebody_hermes_does_not_trust_decides_nothing(
    scene: Scene, make_candidate: Make
) -> None:
    scene.ask(make_candidate("gc-0a09"))
    message = await scene.telegram.message("gc-0a09")
    await scene.telegram.say("train gc-0a09", user=99)
    await scene.telegram.press(message["buttons"]["Train"], message, user=99)
    await scene.telegram.toast("You may not decide here")
    await scene.telegram.say("details gc-0a09")
    await scene.telegram.message("Exchanges: 42")
    assert scene.decision("gc-0a09") == (ProposalState.OPEN, None)


async def test_ordinary_messages_reach_the_agent(scene: Scene) -> None:
    before = len(scene.telegram.sent)
    await scene.telegram.say("details")  # no question is open: meant for the agent
    await scene.telegram.message("The upstream has answered", after=before)
    assert any(text.endswith("details") for text in scene.upstream.asked)


async def test_what_the_operator_takes_back_is_heard(scene: Scene) -> None:
    asked = "Which of these two tickets is about a refund?"
    before = len(scene.telegram.sent)
    await scene.telegram.say(asked)
    await scene.telegram.message("The upstream has answered", after=before)
    await scene.telegram.say("/undo")
    await scene.telegram.message("Confirm /undo", after=before)
    await scene.telegram.say("/approve")
    await scene.telegram.message(
        "Which of these two tickets", after=before
    )  # Hermes gives it back for another try
    before = len(scene.telegram.sent)
    await scene.telegram.say("Tell me about lighthouses.")
    await scene.telegram.message("The upstream has answered", after=before)
    with Database(scene.path) as database:
        heard = [(one.kind, one.request_digest, one.slug) for one in read_corrections(database)]
    assert heard == [("taken_back", digest_of(asked), None)]


async def test_a_rate_limit_is_waited_for_and_the_order_kept(scene: Scene) -> None:
    scene.telegram.rate_limits.append(1)
    before = len(scene.telegram.sent)
    scene.write("limits", "limits-1", "First of the topic.")
    scene.write("limits", "limits-2", "Second of the topic.")
    await scene.telegram.message("Second of the topic.", after=before)
    texts = [one["text"] for one in scene.telegram.sent[before:] if "of the topic" in one["text"]]
    assert texts == ["First of the topic.", "Second of the topic."]


async def test_a_broken_connection_delays_a_message_which_then_says_so(scene: Scene) -> None:
    scene.telegram.down = True
    before = len(scene.telegram.sent)
    scene.write("down", "down", "Through a broken connection.")
    await asyncio.wait_for(scene.telegram.refused.wait(), 30)
    scene.telegram.down = False
    message = await scene.telegram.message("Through a broken connection.", after=before)
    assert message["text"] == f"{SENT_AGAIN}Through a broken connection."


async def test_commands_show_and_decide(scene: Scene, make_candidate: Make) -> None:
    scene.ask(make_candidate("gc-0a10"))
    await scene.telegram.message("gc-0a10")
    before = len(scene.telegram.sent)
    await scene.telegram.say("/apprentice@invented_bot candidates")
    await scene.telegram.message("gc-0a10 (open) ticket, label: 42 requests", after=before)
    await scene.telegram.say("/apprentice help")
    await scene.telegram.message("Commands: candidates, specialists, week, help.", after=before)
    await scene.telegram.say("/apprentice week")
    await scene.telegram.message("- Waiting for your decision: ", after=before)
    await scene.telegram.say("/apprentice skip gc-0a10")
    await scene.telegram.message("gc-0a10 is skipped by telegram:4711", after=before)
    assert scene.decision("gc-0a10") == (ProposalState.DECLINED, "telegram:4711")


async def test_the_outbox_is_empty_in_the_end(scene: Scene) -> None:
    scene.write("end", "end", "The last message of all.")
    await scene.telegram.message("The last message of all.")
    deadline = time.monotonic() + 30
    while True:
        with Database(scene.path) as database, database.transaction() as connection:
            waiting = waiting_messages(connection)
        if not waiting:
            return
        assert time.monotonic() < deadline, [one.text for one in waiting]
        await asyncio.sleep(0.2)


async def test_a_gateway_killed_while_sending_sends_again_and_keeps_the_order(
    stage: ModuleType, tmp_path: Path
) -> None:
    home = tmp_path / "apprentice"
    home.mkdir()
    telegram, upstream = stage.FakeTelegram(), stage.FakeUpstream()
    scene = Scene(telegram, upstream, home)
    telegram.silent_after = "First"
    scene.write("one", "one-1", "First of one.")
    scene.write("one", "one-2", "Second of one.")
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", upstream.handle) as model,
    ):
        config = stage.CONFIG.format(model="big", upstream=f"{model}/v1", telegram=api)
        async with stage.gateway(tmp_path / "hermes", home, telegram, config) as process:
            await telegram.message("First of one.")
            process.kill()
            await process.wait()
        telegram.silent_after = ""
        with Database(scene.path) as database, database.transaction() as connection:
            assert [one.key for one in waiting_messages(connection)] == ["one-1", "one-2"]
            connection.execute("UPDATE outbox SET held_until = 0")  # a minute passes
        async with stage.gateway(tmp_path / "hermes", home, telegram, config):
            await telegram.message("Second of one.")
    assert [one["text"] for one in telegram.sent if "of one" in one["text"]] == [
        "First of one.",
        f"{SENT_AGAIN}First of one.",
        "Second of one.",
    ]


async def test_without_a_list_of_deciders_nobody_decides_from_a_phone(
    stage: ModuleType, tmp_path: Path, make_candidate: Make
) -> None:
    home = tmp_path / "apprentice"
    home.mkdir()
    telegram, upstream = stage.FakeTelegram(), stage.FakeUpstream()
    scene = Scene(telegram, upstream, home)
    scene.ask(make_candidate("gc-0b01"))
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", upstream.handle) as model,
    ):
        config = stage.CONFIG.format(model="big", upstream=f"{model}/v1", telegram=api)
        async with stage.gateway(tmp_path / "hermes", home, telegram, config):
            await telegram.message("gc-0b01")
            await telegram.say("train gc-0b01")
            await telegram.message('add "telegram:4711" to approvals.deciders')
    assert scene.decision("gc-0b01") == (ProposalState.OPEN, None)


LATER_HERMES = """
def register(ctx):
    from gateway.platforms.base import BasePlatformAdapter

    present = BasePlatformAdapter.__getattribute__

    def without(self, name):
        if name == "_is_callback_user_authorized":
            raise AttributeError(name)
        return present(self, name)

    BasePlatformAdapter.__getattribute__ = without
"""
"""A plugin that makes this Hermes one whose Telegram connection we do not know."""


async def test_a_telegram_connection_that_we_do_not_know_gets_texts_only_and_says_so(
    stage: ModuleType, tmp_path: Path, make_candidate: Make
) -> None:
    home = tmp_path / "apprentice"
    home.mkdir()
    (home / "settings.toml").write_text('[approvals]\ndeciders = ["telegram:4711"]\n')
    folder = tmp_path / "hermes" / "plugins" / "later"
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text("name: later\nversion: 1.0.0\ndescription: a test\n")
    (folder / "__init__.py").write_text(LATER_HERMES)
    telegram, upstream = stage.FakeTelegram(), stage.FakeUpstream()
    scene = Scene(telegram, upstream, home)
    scene.ask(make_candidate("gc-0b02"))
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", upstream.handle) as model,
    ):
        config = stage.CONFIG.format(model="big", upstream=f"{model}/v1", telegram=api)
        config = config.replace("[apprentice]", "[apprentice, later]")
        async with stage.gateway(tmp_path / "hermes", home, telegram, config):
            question = await telegram.message("Reply: train gc-0b02")
            assert question["buttons"] == {}
            await telegram.say("Do something SLOW for me, please.")
            await asyncio.wait_for(upstream.slow_began.wait(), stage.PATIENCE)
            await telegram.say("skip gc-0b02")
            await telegram.message("0b02 is skipped by telegram:4711")  # by Hermes, with escapes
            upstream.release.set()
            await telegram.message("The upstream has answered")
    assert scene.decision("gc-0b02") == (ProposalState.DECLINED, "telegram:4711")
    logs = [path.read_text() for path in (tmp_path / "hermes" / "logs").glob("*.log")]
    said = "this Hermes' Telegram connection is unknown"
    assert max(log.count(said) for log in logs) == 1
