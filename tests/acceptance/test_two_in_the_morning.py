"""Two in the morning: a pattern is found, approved from a phone, learnt, and then used.

Hermes' gateway, its Telegram library, our plugin, the training, the signatures
and the sidecar are real. The Bot API is a fake, the upstream knows the
generator's answers, and weeks of traffic pass within a minute.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs
import pytest

from hermes_apprentice.demo.request import DemoRequest
from hermes_apprentice.demo.texts import Corpus, Sizes, make_corpus
from hermes_apprentice.demo.traffic import send
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.corrections import Correction, read_corrections
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import find_rollout

pytest.importorskip("telegram", reason="hermes-agent[messaging] is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODEL = "anthropic/claude-sonnet-4.6"
BATCH = 24
LIVE_WITHIN = 240.0

SETTINGS = """\
[approvals]
deciders = ["telegram:4711"]

[detector]
min_runs_stable = 1

[rollout]
min_step_seconds = 0
audit_share = 0.0

[trainer]
method = "crf"

[upstream]
base_url = {upstream}
api_key_env = ""

[server]
port = 0

[models]
embedder = "all-MiniLM-L6-v2"
folder = {models}
"""


def on_pipeline(settings: Settings, work: Callable[[Pipeline], Any]) -> Any:
    """Run the learning half's work on a connection of its own, as a cron script does."""
    with Database(settings.database_path) as database:
        return work(open_pipeline(settings, database))


def find_candidates(pipeline: Pipeline) -> list[Candidate]:
    pipeline.observe()
    pipeline.detect()
    return pipeline.candidates()


def tick_until_idle(pipeline: Pipeline) -> list[Step]:
    steps = []
    while (report := pipeline.tick()).moves or report.failures:
        steps += [move.step for move in (*report.moves, *report.failures)]
    return steps


def stage_of(settings: Settings, slug: str) -> Stage | None:
    with Database(settings.database_path) as database, database.transaction() as connection:
        rollout = find_rollout(connection, slug)
    return rollout.stage if rollout is not None else None


async def send_until_live(
    settings: Settings, url: str, items: list[DemoRequest], slug: str, template: dict[str, Any]
) -> None:
    """Send a pattern's requests until its specialist has earned all of them."""
    deadline = time.monotonic() + LIVE_WITHIN
    for start in range(0, len(items), BATCH):
        await send(url, items[start : start + BATCH], template)
        # In a thread: the sidecar may hold the database, and it runs in this loop.
        before = await asyncio.to_thread(stage_of, settings, slug)
        if before is Stage.LIVE:
            return
        assert time.monotonic() < deadline, f"{slug} is still in {before}"
        await asyncio.sleep(1.2)  # the sidecar looks at new evidence once a second
    assert await asyncio.to_thread(stage_of, settings, slug) is Stage.LIVE


def entries(settings: Settings) -> list[dict[str, Any]]:
    with Database(settings.database_path) as database:
        return [dict(row) for row in database.read("SELECT * FROM ledger ORDER BY entry_id")]


async def first_call_after(settings: Settings, sidecar: Any, known: int) -> dict[str, Any]:
    """Wait for the ledger's entry about the first call of a turn."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert await sidecar.parts.recorder.write()
        for entry in (await asyncio.to_thread(entries, settings))[known:]:
            if entry["call_kind"] == "first":
                return entry
        await asyncio.sleep(0.2)
    raise AssertionError("the turn is not in the ledger")


def corrections(settings: Settings) -> list[Correction]:
    with Database(settings.database_path) as database:
        return read_corrections(database)


async def first_correction(settings: Settings) -> Correction:
    """Wait until something that the user turned down was written."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(corrections, settings)
        if found:
            return found[0]
        await asyncio.sleep(0.2)
    raise AssertionError("no correction was heard")


async def test_a_pattern_is_approved_from_a_phone_and_then_answered_by_its_specialist(
    stage: ModuleType, sessions_home: Path, past: Corpus, tmp_path: Path
) -> None:
    shutil.copytree(sessions_home, tmp_path, dirs_exist_ok=True)
    hermes_home, home = tmp_path / "hermes", tmp_path / "apprentice"
    ramp = make_corpus(
        random.Random(21),
        Sizes(order=1, ticket=320, chat=1, multi_turn=1, tool=1),
        apart_from=(past,),
    )
    known = past + ramp

    def answer(text: str) -> str | None:
        found = known.find(text)
        return found.answer if found is not None else None

    telegram, upstream = stage.FakeTelegram(), stage.FakeUpstream(answer)
    async with (
        stage.serving("/bot{token}/{method}", telegram.handle) as api,
        stage.serving("/v1/chat/completions", upstream.handle) as model,
    ):
        home.mkdir(exist_ok=True)
        models = platformdirs.user_cache_path("hermes-apprentice") / "models"
        (home / "settings.toml").write_text(
            SETTINGS.format(upstream=json.dumps(f"{model}/v1"), models=json.dumps(str(models)))
        )
        settings = load_settings({"APPRENTICE_HOME": str(home), "HERMES_HOME": str(hermes_home)})
        async with running_sidecar(settings) as sidecar:
            config = stage.CONFIG.format(model=MODEL, upstream=f"{sidecar.url}/v1", telegram=api)
            async with stage.gateway(hermes_home, home, telegram, config):
                # A pattern is found, and the phone tells.
                candidates = await asyncio.to_thread(on_pipeline, settings, find_candidates)
                ticket = next(c for c in candidates if c.pattern.kind is Kind.CLASSIFIER)
                order = next(c for c in candidates if c.pattern.kind is Kind.EXTRACTOR)
                slug = ticket.pattern.slug
                question = await telegram.message(f"Reply: train {ticket.candidate_id}")
                assert set(question["buttons"]) == {"Train", "Skip", "Details"}

                # The operator answers while the agent is at work in the same chat.
                await telegram.say("Please do something SLOW.")
                await asyncio.wait_for(upstream.slow_began.wait(), stage.PATIENCE)
                before = len(telegram.sent)
                await telegram.say(f"train {ticket.candidate_id}")
                await telegram.message(f"{ticket.candidate_id} is accepted", after=before)
                other = await telegram.message(f"Reply: train {order.candidate_id}")
                await telegram.press(other["buttons"]["Skip"], other)
                await telegram.toast(f"{order.candidate_id} is skipped by telegram:4711")
                assert not any("has answered" in one["text"] for one in telegram.sent[before:])
                upstream.release.set()
                await telegram.message("The upstream has answered", after=before)
                assert not upstream.hung_up
                assert not any(ticket.candidate_id in text for text in upstream.asked)

                # The night's ticks: dataset, training, gate, signature.
                steps = await asyncio.to_thread(on_pipeline, settings, tick_until_idle)
                assert steps == [Step.DATASET_BUILT, Step.TRAINED, Step.VALIDATED, Step.REGISTERED]
                await telegram.message(f"'{slug}' passed the gate and now runs in shadow")

                # It earns its traffic beside the upstream, and the phone tells that, too.
                tickets = list(ramp.of("ticket"))
                template = upstream.template()
                await send_until_live(settings, sidecar.url, tickets[:-20], slug, template)
                await telegram.message(f"'{slug}' version 1 now answers 5% of its requests")
                await telegram.message(f"'{slug}' version 1 now answers 15% of its requests, up")
                await telegram.message(f"'{slug}' version 1 is live")

                # A new conversation in the chat: the specialist answers it, no big model.
                answered = await send(sidecar.url, tickets[-20:], template)
                sure = next(
                    one.item
                    for one in answered
                    if one.route == "specialist" and one.text == one.item.answer
                )
                await telegram.say("/new")
                await telegram.message("Confirm /new")
                await telegram.say("/approve")
                await telegram.message("Session reset")
                assert await sidecar.parts.recorder.write()
                asked, before = len(await asyncio.to_thread(entries, settings)), len(telegram.sent)
                await telegram.say(sure.request)
                await telegram.message(sure.answer, after=before)
                turn = await first_call_after(settings, sidecar, asked)
                assert (turn["route"], turn["slug"], turn["version"]) == ("specialist", slug, 1)
                assert turn["saved"] > 0

                # The operator turns an answer down, and the sidecar's database knows of whom.
                before = len(telegram.sent)
                await telegram.say("That's wrong.")
                await telegram.message("The upstream has answered", after=before)
                heard = await first_correction(settings)
                assert (heard.kind, heard.slug, heard.version) == ("rejected", slug, 1)
                assert heard.session_id == turn["session"]
