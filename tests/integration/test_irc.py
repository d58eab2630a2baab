"""The same replies as in Telegram on a platform that we know nothing about, busy or not.

The gateway and its IRC connection are Hermes' own; the IRC server and the model are fake.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hermes_apprentice.approvals import desk
from hermes_apprentice.domain.approval import ProposalState
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.settings import ApprovalSettings
from hermes_apprentice.storage.approvals import find_proposal
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

HERMES = Path(sys.executable).with_name("hermes")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERMES.exists(), reason="hermes-agent is not installed here"),
]

CONFIG = """\
model:
  provider: custom
  default: big
  base_url: {upstream}/v1
  api_key: sk-invented
  context_length: 131072
plugins:
  enabled: [apprentice]
"""

ENV = """\
IRC_SERVER=127.0.0.1
IRC_PORT={port}
IRC_CHANNEL=#somewhere
IRC_NICKNAME=hermes-bot
IRC_USE_TLS=false
IRC_ALLOWED_USERS=rosa,otto
IRC_HOME_CHANNEL=rosa
"""


async def test_in_irc_too_a_reply_is_taken_while_the_agent_is_at_work(
    stage: ModuleType, tmp_path: Path, make_candidate: Callable[..., Candidate]
) -> None:
    home = tmp_path / "apprentice"
    home.mkdir()
    (home / "settings.toml").write_text('[approvals]\ndeciders = ["irc:rosa"]\n')
    candidate = make_candidate("gc-0c01")
    with (
        Database(home / "apprentice.db") as database,
        database.transaction() as connection,
    ):
        store = PatternStore(connection)
        centre = np.array([0.6, 0.8], dtype=np.float32)
        pattern = StoredPattern(pattern=candidate.pattern, embedder="d", centre=centre, radius=0.5)
        store.save(pattern, time.time())
        store.add_candidate(candidate)
        desk.propose(connection, candidate, ApprovalSettings(), time.time())

    def decision() -> ProposalState:
        with Database(home / "apprentice.db") as database, database.transaction() as connection:
            found = find_proposal(connection, "gc-0c01")
        assert found is not None
        return found.state

    irc, upstream = stage.FakeIrc(), stage.FakeUpstream()
    async with (
        irc.running(),
        stage.serving("/v1/chat/completions", upstream.handle) as model,
        stage.gateway(
            tmp_path / "hermes",
            home,
            irc,
            CONFIG.format(upstream=model),
            ENV.format(port=irc.port),
        ),
    ):
        question = await irc.message("Reply: train gc-0c01")
        assert question["chat"] == "rosa"

        # While the agent works for her in this very chat, its operator decides.
        await irc.say("Please do something SLOW.", "rosa")
        await upstream.slow_began.wait()
        before = len(irc.sent)
        await irc.say("/apprentice candidates", "rosa")
        await irc.message("gc-0c01 (open) ticket, label", after=before)
        await irc.say("train gc-0c01", "rosa")
        await irc.message("gc-0c01 is accepted by irc:rosa", after=before)
        assert decision() is ProposalState.ACCEPTED
        assert not any("has answered" in one["text"] for one in irc.sent[before:])
        upstream.release.set()
        await irc.message("The upstream has answered", after=before)
        assert not upstream.hung_up
        assert not any("gc-0c01" in text for text in upstream.asked)

        # Idle, it is the same; somebody whom Hermes trusts is still no decider.
        await irc.say("budget increase 10", "otto")
        await irc.message("irc:otto may not decide", after=before)
        await irc.say("skip gc-0c01", "rosa")
        await irc.message("gc-0c01 was already accepted by irc:rosa", after=before)
        await irc.say("/apprentice specialists", "rosa")
        await irc.message("ticket-label-0c01: approved", after=before)

        # Whom Hermes does not trust is not answered by us.
        before = len(irc.sent)
        await irc.say("details gc-0c01", "mallory")
        await irc.say("details gc-0c01", "rosa")
        await irc.message("Exchanges: 42", after=before)
        assert not any(
            one["chat"] == "mallory" and "gc-0c01" in one["text"] for one in irc.sent[before:]
        )
