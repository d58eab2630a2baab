"""The sidecar with the real registry, embedder, matcher and classifier."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from typer.testing import CliRunner

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.routing import FILTER_FILE, MATCHER_FILE
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.inference.artefact import Artefact, write_artefact
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.classifier import Classifier
from hermes_apprentice.inference.confidence import Calibration, Typicality
from hermes_apprentice.inference.head import SoftmaxHead
from hermes_apprentice.interfaces.cli.main import app
from hermes_apprentice.interfaces.mcp_reading import Text, explain_route
from hermes_apprentice.registry.matchers import MATCHER_FOLDER
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.sealed import DOCUMENT, FILES, SIGNATURE
from hermes_apprentice.registry.signing import distrust_key, load_or_create_keys, rotate_keys
from hermes_apprentice.router.explain import explain_request
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.router.specialists import RETRY_SECONDS
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.statistics.open_set import fit_open_set
from hermes_apprentice.statistics.word_filter import fit_word_filter
from hermes_apprentice.storage.database import Database
from hermes_apprentice.testing import put_in_stage

SLUG = "label-ticket"
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
BUGS = (
    "Label this ticket: the app crashes when I open it",
    "Label this ticket: the export button does nothing",
    "Label this ticket: I get a white screen after the login",
    "Label this ticket: the search shows an error",
    "Label this ticket: the program freezes on start",
    "Label this ticket: uploads stop halfway",
)
BILLS = (
    "Label this ticket: I was charged twice this month",
    "Label this ticket: please send the invoice again",
    "Label this ticket: the refund has not arrived",
    "Label this ticket: my card was declined",
    "Label this ticket: the discount is missing on the bill",
    "Label this ticket: I want to change my payment method",
)
OTHER = tuple(
    f"{verb} {thing}"
    for verb in ("Tell me about", "Write a poem on", "What is the history of", "Plan a trip to")
    for thing in ("lighthouses", "the moon", "old bridges", "green tea", "chess", "whales")
)
BUSY = tuple(f"{text}, {place} times" for text in (*BUGS, *BILLS) for place in range(17))[:200]
NEW = "Label this ticket: the app crashes on start"
PATIENCE = 20.0


def write_classifier(folder: Path, embedder: Embedder) -> None:
    bugs, bills = embedder.embed(BUGS), embedder.embed(BILLS)
    vectors = np.concatenate([bugs, bills])
    centres = np.stack([bugs.mean(axis=0), bills.mean(axis=0)])
    folder.mkdir(parents=True)
    Classifier(
        labels=("bug", "billing"),
        head=SoftmaxHead(
            dense=(40 * (centres - centres.mean(axis=0)).T).astype(np.float32),
            vocabulary={},
            named=np.zeros((0, 2), np.float32),
            bias=np.zeros(2, np.float32),
        ),
        owners=np.array([0] * len(BUGS) + [1] * len(BILLS), np.int32),
        calibration=Calibration(weights=np.array([1.0, 0.0, 0.0]), bias=0.0),
        typicality=Typicality(exemplars=vectors, usual=0.6, foreign=0.2),
    ).save(folder)
    write_artefact(
        folder, Artefact(kind=Kind.CLASSIFIER, method=Method.HEAD, embedder=embedder.digest)
    )


@pytest.fixture
async def placed(settings: Settings, embedder: Embedder) -> AsyncIterator[Settings]:
    """A registry with one live classifier and a matcher, and an upstream that says so."""

    async def handle(request: web.Request) -> web.Response:
        choice = {"message": {"role": "assistant", "content": "bug"}, "finish_reason": "stop"}
        return web.json_response({"id": "chatcmpl-up", "choices": [choice]})

    fake = web.Application()
    fake.router.add_post("/v1/chat/completions", handle)
    runner = web.AppRunner(fake, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    found = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=f"http://{host}:{port}/v1", api_key_env=""),
            "server": ServerSettings(port=0),
        }
    )
    registry = Registry(found.registry_dir, load_or_create_keys(found.keys_dir))
    artefact = found.runs_dir / "run-1" / "artefact"
    write_classifier(artefact, embedder)
    registry.publish(artefact, draft(embedder))
    texts: Sequence[str] = (*BUGS, *BILLS, *OTHER)
    labels = np.array([0] * (len(BUGS) + len(BILLS)) + [-1] * len(OTHER))
    matcher = fit_open_set(matching_vectors(embedder.encode(texts)), labels, (SLUG,), 0.05, 3)
    words = fit_word_filter([*BUSY, *OTHER * 4], np.array([0] * 200 + [-1] * 4 * len(OTHER)), 1)
    assert words is not None
    registry.publish_matcher(
        {MATCHER_FILE: matcher.to_bytes(), FILTER_FILE: words.to_bytes()},
        {"embedder": embedder.digest, "vector": RECIPE},
    )
    put_in_stage(found.database_path, SLUG)
    yield found
    await runner.cleanup()


def draft(embedder: Embedder, /, **changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "format": 1,
        "slug": SLUG,
        "version": 0,
        "pattern_id": "pt-0123456789ab",
        "label": "label, ticket",
        "kind": Kind.CLASSIFIER,
        "base": embedder.name,
        "embedder": embedder.digest,
        "dataset": "d" * 64,
        "redaction": "none",
        "recipe": (),
        "shape": SHAPE,
        "envelope": Envelope(max_turn_index=2, min_chars=5, max_chars=300, ascii_only=True),
        "verdict": Verdict(
            outcome=Outcome.PASSED, reasons=("All checks passed.",), scores=None, threshold=0.5
        ),
        "created_at": 1_790_000_000.0,
        "files": (),
        **changes,
    }
    return Manifest(**values)


def body(text: str = NEW) -> dict[str, Any]:
    return {
        "model": "big-one",
        "messages": [{"role": "user", "content": text}],
        "tools": [{"type": "function", "function": {"name": "terminal", "parameters": {}}}],
    }


async def route_of(url: str, text: str = NEW) -> str:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=body(text)) as response:
            assert response.status == 200
            answer = await response.json()
            assert answer["choices"][0]["message"]["content"] == "bug"
            return response.headers["x-apprentice-route"]


async def problems_of(url: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/healthz") as response:
            found: dict[str, str] = (await response.json())["problems"]
            return found


async def test_a_registered_classifier_answers_what_it_never_saw_and_nothing_else(
    placed: Settings,
) -> None:
    async with running_sidecar(placed) as running:
        assert await problems_of(running.url) == {}
        assert await route_of(running.url) == "specialist"
        assert await route_of(running.url, "Tell me about old lighthouses") == "upstream"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def spoil_weights(placed: Settings) -> None:
    flip(next((placed.registry_dir / SLUG / "1" / FILES).rglob("*.npz")))


def spoil_manifest(placed: Settings) -> None:
    flip(placed.registry_dir / SLUG / "1" / DOCUMENT)


def truncate_manifest(placed: Settings) -> None:
    path = placed.registry_dir / SLUG / "1" / DOCUMENT
    path.write_bytes(path.read_bytes()[:50])


def drop_signature(placed: Settings) -> None:
    (placed.registry_dir / SLUG / "1" / SIGNATURE).unlink()


def sign_with_another_key(placed: Settings) -> None:
    for path in placed.keys_dir.rglob("*.pem"):
        path.unlink()


def spoil_word_filter(placed: Settings) -> None:
    flip(placed.registry_dir / MATCHER_FOLDER / "1" / FILES / FILTER_FILE)


def spoil_matcher(placed: Settings) -> None:
    flip(placed.registry_dir / MATCHER_FOLDER / "1" / FILES / MATCHER_FILE)


def drop_registry(placed: Settings) -> None:
    shutil.rmtree(placed.registry_dir)


def registry_of_rubbish(placed: Settings) -> None:
    shutil.rmtree(placed.registry_dir)
    placed.registry_dir.write_text("not a folder")


def keys_of_rubbish(placed: Settings) -> None:
    for path in placed.keys_dir.glob("*.pem"):
        path.write_text("not a key")


DAMAGE = [
    spoil_weights,
    spoil_manifest,
    truncate_manifest,
    drop_signature,
    sign_with_another_key,
    spoil_matcher,
    spoil_word_filter,
    drop_registry,
    registry_of_rubbish,
    keys_of_rubbish,
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_registry_is_never_served_and_the_upstream_answers(
    placed: Settings, damage: Callable[[Settings], None]
) -> None:
    damage(placed)
    async with running_sidecar(placed) as running:
        assert await route_of(running.url) == "upstream"
        assert await problems_of(running.url)


@pytest.mark.parametrize("damage", [spoil_weights, spoil_matcher, drop_registry])
async def test_damage_while_it_runs_takes_the_specialist_out(
    placed: Settings, damage: Callable[[Settings], None]
) -> None:
    async with running_sidecar(placed) as running:
        assert await route_of(running.url) == "specialist"
        damage(placed)
        async with asyncio.timeout(PATIENCE):
            while await route_of(running.url) == "specialist":
                await asyncio.sleep(0.05)
        assert await problems_of(running.url)


async def test_a_key_that_is_not_trusted_any_more_ends_what_it_signed_while_it_runs(
    placed: Settings,
) -> None:
    stolen = load_or_create_keys(placed.keys_dir).key_id
    async with running_sidecar(placed) as running:
        rotate_keys(placed.keys_dir)
        # The matcher is fitted and signed anew; a version stays as it is.
        registry = Registry(placed.registry_dir, load_or_create_keys(placed.keys_dir))
        matcher = registry.open_matcher()
        registry.publish_matcher(matcher.files, matcher.details)
        await running.parts.specialists.refresh(force=True)
        assert await route_of(running.url) == "specialist"
        distrust_key(placed.keys_dir, stolen)
        async with asyncio.timeout(PATIENCE):
            while await route_of(running.url) == "specialist":
                await asyncio.sleep(0.05)
        assert stolen in (await problems_of(running.url))[SLUG]


async def test_a_missing_embedder_costs_no_answer(placed: Settings, tmp_path: Path) -> None:
    empty = placed.model_copy(
        update={"models": placed.models.model_copy(update={"folder": tmp_path / "nothing"})}
    )
    async with running_sidecar(empty) as running:
        assert await route_of(running.url) == "upstream"
        assert "embedder" in await problems_of(running.url)


async def test_an_embedder_that_comes_back_is_used_without_a_restart(
    placed: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    late = placed.model_copy(update={"models": placed.models.model_copy(update={"folder": folder})})
    async with running_sidecar(late) as running:
        assert await route_of(running.url) == "upstream"
        assert "embedder" in await problems_of(running.url)
        shutil.rmtree(folder, ignore_errors=True)
        folder.symlink_to(placed.models_dir)
        running.parts.specialists._clock = lambda: time.monotonic() + RETRY_SECONDS
        async with asyncio.timeout(PATIENCE):
            while await route_of(running.url) == "upstream":
                await asyncio.sleep(0.05)
        assert await problems_of(running.url) == {}


async def test_a_specialist_that_hangs_in_its_threads_keeps_nobody_else_from_anything(
    placed: Settings,
) -> None:
    impatient = placed.model_copy(
        update={"rollout": placed.rollout.model_copy(update={"deadline_seconds": 0.3})}
    )
    release = threading.Event()

    class Hanging:
        reads_encodings = False

        def predict(self, requests: Sequence[str], encodings: object) -> list[Prediction]:
            release.wait(PATIENCE)
            return [Prediction("bug", 0.0) for _ in requests]

    async with running_sidecar(impatient) as running:
        loaded = running.parts.specialists.now.loading.specialists[SLUG]
        loaded.runtime._model = Hanging()  # type: ignore[attr-defined]
        try:
            routes = await asyncio.gather(*(route_of(running.url) for _ in range(8)))
            assert set(routes) == {"fallback"}
            matched = await asyncio.gather(*(route_of(running.url) for _ in range(8)))
            assert set(matched) == {"upstream"}
            assert "matcher" not in running.parts.metrics.faults
            assert "keeps failing" in (await problems_of(running.url))[SLUG]
        finally:
            release.set()


async def test_a_version_for_another_embedder_is_not_served(
    placed: Settings, embedder: Embedder
) -> None:
    registry = Registry(placed.registry_dir, load_or_create_keys(placed.keys_dir))
    foreign = draft(embedder, embedder="e" * 64)
    registry.publish(placed.runs_dir / "run-1" / "artefact", foreign)
    with Database(placed.database_path) as database, database.transaction() as connection:
        connection.execute("UPDATE rollouts SET version = 2")
    async with running_sidecar(placed) as running:
        assert await route_of(running.url) == "upstream"
        assert "embedder" in (await problems_of(running.url))[SLUG]


async def test_a_new_version_is_picked_up_while_it_runs(
    placed: Settings, embedder: Embedder
) -> None:
    async with running_sidecar(placed) as running:
        registry = Registry(placed.registry_dir, load_or_create_keys(placed.keys_dir))
        registry.publish(placed.runs_dir / "run-1" / "artefact", draft(embedder))
        with Database(placed.database_path) as database, database.transaction() as connection:
            connection.execute("UPDATE rollouts SET version = 2")
        specialists = running.parts.specialists
        async with asyncio.timeout(PATIENCE):
            while specialists.now.rollouts[SLUG].version != 2 or not specialists.now.find(SLUG):
                await asyncio.sleep(0.05)
        assert await route_of(running.url) == "specialist"


def turn_round_in_place(folder: Path) -> None:
    """Overwrite the weights, in the same file, by ones that say the opposite."""
    path = folder / FILES / "weights.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["head/dense"] = -arrays["head/dense"]
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    assert len(changed.getvalue()) == path.stat().st_size
    with path.open("r+b") as file:
        file.write(changed.getvalue())


async def test_no_request_is_lost_or_answered_wrongly_while_versions_come_and_are_tampered_with(
    placed: Settings, embedder: Embedder
) -> None:
    routes: list[str] = []
    over = asyncio.Event()

    async def ask(url: str) -> None:
        while not over.is_set():
            routes.append(await route_of(url))  # "bug" says who is right

    async def until(wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wanted():
                await asyncio.sleep(0.02)

    def move_to(version: int) -> None:
        with Database(placed.database_path) as database, database.transaction() as connection:
            connection.execute("UPDATE rollouts SET version = ?", (version,))

    def answered_by(version: int) -> bool:
        found = running.parts.specialists.now.find(SLUG)
        return found is not None and found[0].version == version

    async with running_sidecar(placed) as running, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask(running.url))
        registry = Registry(placed.registry_dir, load_or_create_keys(placed.keys_dir))
        for version in (2, 3):
            registry.publish(placed.runs_dir / "run-1" / "artefact", draft(embedder))
            await asyncio.to_thread(move_to, version)
            await until(lambda wanted=version: answered_by(wanted))  # type: ignore[misc]
            before = routes.count("specialist")
            await until(lambda least=before: routes.count("specialist") > least)  # type: ignore[misc]
            turn_round_in_place(placed.registry_dir / SLUG / str(version))
            await until(lambda wanted=version: not answered_by(wanted))  # type: ignore[misc]
        over.set()
    assert {"specialist", "upstream"} <= set(routes)


def explained(settings: Settings) -> tuple[Any, Any]:
    return (
        explain_request(settings, NEW),
        explain_request(settings, "Tell me about old lighthouses"),
    )


async def test_a_request_can_be_explained_without_a_running_sidecar(placed: Settings) -> None:
    match, other = await asyncio.to_thread(explained, placed)
    assert (match.route, match.slug, match.stage) == ("specialist", SLUG, "live")
    assert match.nearest[0].score >= match.nearest[0].threshold
    assert "would be asked" in match.in_words()
    assert match.words is not None and not match.words.rejected
    words = match.in_words()
    assert "kind 'first'" in words
    bound = match.nearest[0].bound
    assert bound is not None and bound.threshold == match.nearest[0].threshold
    assert (bound.background, bound.rate) == (len(OTHER), 0.05)
    assert f"of {len(OTHER)} other requests" in words
    assert "Word filter: score" in words and "let through" in words
    assert "5 to 300 characters, 2 earlier turns at most, ASCII only" in words
    assert (other.route, other.reason) == ("upstream", "words")
    assert other.words is not None and other.words.rejected
    assert other.nearest[0].score < other.nearest[0].threshold
    assert "turned away" in other.in_words()


async def test_the_filter_and_the_matcher_decide_the_same_after_a_restart(
    placed: Settings,
) -> None:
    first, again = [await asyncio.to_thread(explained, placed) for _ in range(2)]
    for before, after in zip(first, again, strict=True):
        assert (before.reason, before.words, before.nearest) == (
            after.reason,
            after.words,
            after.nearest,
        )


async def test_the_running_sidecar_explains_what_the_filter_and_the_envelope_say(
    placed: Settings,
) -> None:
    async with running_sidecar(placed) as running, aiohttp.ClientSession() as session:
        url = f"{running.url}/apprentice/explain"
        async with session.get(url, params={"text": NEW, "turn": "7"}) as response:
            late = await response.json()
        async with session.get(url, params={"text": "Tell me about old lighthouses"}) as response:
            other = await response.json()
        async with session.get(f"{running.url}/metrics") as response:
            metrics = await response.text()
    assert (late["reason"], late["nearest"][0]["outside"]) == ("envelope_turn", "turn")
    assert late["nearest"][0]["envelope"]["max_chars"] == 300
    assert late["nearest"][0]["bound"]["background"] == len(OTHER)
    assert f'apprentice_matcher_other_requests{{slug="{SLUG}"}} {len(OTHER)}.0' in metrics
    assert (other["reason"], other["words"]["rejected"]) == ("words", True)


async def test_the_command_and_the_agents_tool_say_the_same(
    placed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(placed.home))
    monkeypatch.setenv("HERMES_HOME", str(placed.hermes_home))
    (placed.home / "settings.toml").write_text(
        f'[models]\nembedder = "{placed.models.embedder}"\nfolder = "{placed.models_dir}"\n'
    )
    by_command = await asyncio.to_thread(
        CliRunner().invoke, app, ["explain", "Tell me about old lighthouses", "--json"]
    )
    assert by_command.exit_code == 0, by_command.output
    told = json.loads(by_command.stdout)
    by_tool = await asyncio.to_thread(
        explain_route, Text(text="Tell me about old lighthouses"), lambda _, __: None
    )
    assert isinstance(by_tool, dict)
    assert (told["kind"], told["reason"]) == (by_tool["kind"], by_tool["reason"])
    assert told["words"] == by_tool["word_filter"]
    assert told["nearest"][0]["envelope"]["max_chars"] == 300
    assert by_tool["nearest"][0]["outside_envelope"] is None
