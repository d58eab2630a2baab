"""A generator from exchanges to the sidecar's runtime, on a tiny base, on the CPU."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import platformdirs
import pytest
from safetensors.numpy import load_file, save_file

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Forecast, Pattern
from hermes_apprentice.domain.shape import Kind, ShapeKind
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.domain.specialist import Abstain, Answer, Specialist, Step
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ArtefactError, ConfigError
from hermes_apprentice.inference.generator import ADAPTER_DIR, read_card
from hermes_apprentice.pipeline import Pipeline, open_pipeline
from hermes_apprentice.pipeline.exports import export
from hermes_apprentice.router.heavy import HeavyLoader
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.serving.generators import GeneratorHosts
from hermes_apprentice.serving.local_generator import LocalGenerator
from hermes_apprentice.serving.local_host import LocalHost
from hermes_apprentice.settings import (
    DatasetSettings,
    GeneratorSettings,
    ModelSettings,
    Settings,
    TrainerSettings,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchange_records import StoredExchange
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import save_specialist

pytestmark = [pytest.mark.train_env, pytest.mark.slow]

NOW = 1_790_000_000.0
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"
SLUG = "shop-notes"
PATIENCE = 120.0


def settings_in(home: Path, base: Path, recipe: str, *, on_cpu: bool = True) -> Settings:
    return Settings(
        home=home,
        hermes_home=home / "hermes",
        models=ModelSettings(embedder="all-MiniLM-L6-v2", folder=MODELS),
        trainer=TrainerSettings(base_model=str(base)),
        generator=GeneratorSettings(on_cpu=on_cpu, recipe=recipe),
        dataset=DatasetSettings(redact=False),
    )


def fill(database: Database, rows: list[tuple[str, str]], kind: Kind) -> None:
    """Write a pattern of exchanges whose training was approved."""
    exchanges = [
        Exchange(
            exchange_id=f"x{place}",
            profile="default",
            session_id=f"s{place}",
            source="cli",
            turn_index=0,
            request=request,
            answer=answer,
            model="big-one",
            asked_at=NOW - 10_000 + place,
            answered_at=NOW - 9_999 + place,
            context_chars=0,
            input_tokens=10,
            output_tokens=5,
            corrected=False,
            ineligible=None,
        )
        for place, (request, answer) in enumerate(rows)
    ]
    ExchangeStore(database).upsert(
        [
            StoredExchange(exchange=one, user_row=2 * place, answer_row=2 * place + 1)
            for place, one in enumerate(exchanges)
        ],
        NOW,
    )
    pattern = Pattern(
        pattern_id="pt-1",
        slug=SLUG,
        label="shop, note",
        size=len(rows),
        tightness=0.7,
        shape=infer_shape([text for text, _ in rows], [answer for _, answer in rows]),
        kind=kind,
        runs_stable=2,
        first_seen=NOW - 10_000,
        last_seen=NOW,
        max_turn_index=0,
        forecast=Forecast(
            requests_per_day=2.0, cost_per_request=1, coverage=0.8, saved_per_month=1, priced=True
        ),
    )
    with database.transaction() as connection:
        patterns = PatternStore(connection)
        centre = np.ones(4, np.float32)
        patterns.save(StoredPattern(pattern=pattern, embedder="e", centre=centre, radius=0.5), NOW)
        patterns.add_members("pt-1", [(one.exchange_id, 0.9) for one in exchanges])
        save_specialist(
            connection,
            Specialist(
                slug=SLUG,
                pattern_id="pt-1",
                candidate_id="gc-0001",
                kind=kind,
                step=Step.APPROVED,
                reason="",
                run_id="run-1",
                version=None,
                updated_at=NOW,
            ),
        )


def run_to_the_end(pipeline: Pipeline) -> Specialist:
    while pipeline.tick().pending:
        pass
    return pipeline.specialist(SLUG).view.specialist


@pytest.fixture(scope="module")
def home(
    shop_notes: ModuleType, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A home in which the whole loop has run: a generator is registered."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "recipes.toml").write_text(shop_notes.RECIPE, encoding="utf-8")
    settings = settings_in(folder, tiny_base, "tiny")
    with Database(settings.database_path) as database:
        fill(database, shop_notes.notes(600, 1), Kind.GENERATOR)
        done = run_to_the_end(open_pipeline(settings, database, clock=lambda: NOW))
        assert done.step is Step.REGISTERED, done.reason
    return settings


@pytest.fixture(scope="module")
def artefact(home: Settings) -> Path:
    """The artefact that the training left."""
    return home.runs_dir / "run-1" / "generator" / "artefact"


@pytest.fixture
def now() -> list[float]:
    """The host's clock; it stands still, so nothing times out by itself."""
    return [0.0]


@pytest.fixture
def host(artefact: Path, train_python: str, now: list[float]) -> Iterator[LocalHost]:
    card = read_card(artefact)
    one = LocalHost(
        train_python,
        card.base_model,
        card.base_digest,
        device="cpu",
        seconds=PATIENCE,
        start_seconds=PATIENCE,
        clock=lambda: now[0],
    )
    yield one
    one.close()


@pytest.fixture
def hosts(train_python: str) -> Iterator[GeneratorHosts]:
    several = GeneratorHosts(train_python, device="cpu", seconds=PATIENCE)
    yield several
    several.close()


def test_a_generator_learns_texts_and_is_served_as_it_was_judged(
    home: Settings, embedder: Embedder, shop_notes: ModuleType
) -> None:
    with Database(home.database_path) as database:
        pipeline = open_pipeline(home, database, clock=lambda: NOW)
        version = pipeline.shop.registry.open_version(SLUG, 1)
        report = pipeline.specialist(SLUG).report
    manifest = version.manifest
    told = dict(manifest.recipe)
    assert manifest.kind is Kind.GENERATOR and manifest.shape.kind is ShapeKind.TEXT
    assert told["served_by"] == "transformers" and told["generator.backend"] == "peft"
    assert any("asked through transformers" in reason for reason in manifest.verdict.reasons)
    scores = manifest.verdict.scores
    assert scores is not None and scores.rouge_l is not None and scores.rouge_l > 0.95
    assert scores.baseline == "the same base model with 4 examples in its prompt"
    assert scores.f1_gain.low > 0.1 and scores.agreement.value >= 0.9
    assert "ROUGE-L" in report

    with pytest.raises(ArtefactError, match="does not run inside the sidecar"):
        load_runtime(version, embedder, pytest.fail)
    # The sidecar loads it aside: until it is ready it is a problem with a reason.
    loader = HeavyLoader(home)
    key = (SLUG, 1, "files")
    try:
        before = loader.stamp
        with pytest.raises(ArtefactError, match="being loaded"):
            loader.runtime(key, version, embedder, pytest.fail)
        until(lambda: loader.stamp != before and "True" in str(loader.stamp))
        runtime = loader.runtime(key, version, embedder, pytest.fail)
        fresh = shop_notes.notes(660, 1)[600:]
        given = runtime.answer_many([request for request, _ in fresh])
        right = sum(
            isinstance(one, Answer) and one.text == wanted
            for one, (_, wanted) in zip(given, fresh, strict=True)
        )
        assert right >= 48
        one = asyncio.run(runtime.answer(fresh[0][0]))
        assert isinstance(one, type(given[0])) and one.text == given[0].text
        loader.keep(set())
        assert runtime.answer_many(["soap low, tell Ana"]) == [Abstain(reason="error")]
    finally:
        loader.close()


def test_what_was_judged_elsewhere_is_not_served_here(
    home: Settings, hosts: GeneratorHosts, embedder: Embedder
) -> None:
    with Database(home.database_path) as database:
        pipeline = open_pipeline(home, database, clock=lambda: NOW)
        version = pipeline.shop.registry.open_version(SLUG, 1)
    others = tuple(
        (name, "another-server" if name == "served_by" else value)
        for name, value in version.manifest.recipe
    )
    foreign = replace(version, manifest=replace(version.manifest, recipe=others))
    with pytest.raises(ArtefactError, match="judged as served by another-server"):
        hosts.load_runtime(foreign, embedder, pytest.fail)


def test_other_weights_are_refused_and_a_killed_child_is_started_again(
    artefact: Path, host: LocalHost, now: list[float], tmp_path: Path
) -> None:
    card = read_card(artefact)
    weights = load_file(artefact / ADAPTER_DIR / "adapter_model.safetensors")
    swapped = tmp_path / "artefact"
    (swapped / ADAPTER_DIR).mkdir(parents=True)
    for file in (artefact / ADAPTER_DIR).iterdir():
        (swapped / ADAPTER_DIR / file.name).write_bytes(file.read_bytes())
    save_file(
        {name: -value if "lora_A" in name else value for name, value in weights.items()},
        swapped / ADAPTER_DIR / "adapter_model.safetensors",
    )
    with pytest.raises(ArtefactError, match="does not answer as it did"):
        LocalGenerator(host, "swapped", card, swapped)
    # The template of training is part of it: with another one it answers otherwise.
    other = card.model_copy(update={"chat_template": "{{ messages[-1].content }}"})
    with pytest.raises(ArtefactError, match="does not answer as it did"):
        LocalGenerator(host, "untold", other, artefact)
    with pytest.raises(ArtefactError, match="no adapter"):
        host.load("nowhere", tmp_path / "nowhere")
    assert host.process is not None
    good = LocalGenerator(host, "good", card, artefact)
    assert host.complete("", card.chat_template, [], 8) == []

    # A killed child is started again after a pause, with the adapters it had.
    first = host.process
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ArtefactError, match="failed"):
        good.predict([card.canary_request], None)
    with pytest.raises(ArtefactError, match="a moment ago"):
        good.predict([card.canary_request], None)
    now[0] += 60
    assert good.predict([card.canary_request], None)[0].text == card.canary_answer
    assert host.process not in (None, first)
    good.close()
    assert host.process is None

    elsewhere = LocalHost(
        host._python, card.base_model, "0" * 64, device="cpu", seconds=9, start_seconds=PATIENCE
    )
    with pytest.raises(ArtefactError, match="other weights"):
        elsewhere.complete("", card.chat_template, [], 8)
    assert elsewhere.process is None


def test_the_child_ends_when_its_parent_is_killed(artefact: Path, train_python: str) -> None:
    card = read_card(artefact)
    script = (
        "import sys, time\n"
        "from hermes_apprentice.serving.local_host import LocalHost\n"
        "host = LocalHost(*sys.argv[1:4], device='cpu', seconds=99, start_seconds=99)\n"
        "host.complete('', sys.argv[4], [], 8)\n"
        "print(host.process, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, train_python, card.base_model, card.base_digest]
    with subprocess.Popen(
        [*command, card.chat_template], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not alive(child))


def test_merged_weights_answer_as_the_adapter_does(
    home: Settings, artefact: Path, train_python: str, tmp_path: Path
) -> None:
    card = read_card(artefact)
    target = tmp_path / "merged"
    with Database(home.database_path) as database:
        shop = open_pipeline(home, database, clock=lambda: NOW).shop
        assert "version 1" in export(shop, SLUG, target)
        with pytest.raises(ConfigError, match="there already"):
            export(shop, SLUG, target)
        kept = json.loads((target / "config.json").read_text())
        assert "float16" in (kept.get("dtype"), kept.get("torch_dtype"))
        assert {value.dtype.name for value in load_file(target / "model.safetensors").values()} == {
            "float16"
        }
        with pytest.raises(ConfigError, match=r"convert_hf_to_gguf\.py"):
            export(shop, SLUG, tmp_path / "one.gguf", gguf=True)
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from hermes_apprentice.domain.prompt import Message\n"
        "from hermes_apprentice.inference import language_model as lm\n"
        "folder = Path(sys.argv[1])\n"
        "tokenizer, model = lm.open_tokenizer(folder), lm.open_base(folder, device='cpu')\n"
        "prompt = lm.prompt_tokens(tokenizer, [Message('user', sys.argv[2])])\n"
        "print(json.dumps(lm.complete(model, tokenizer, [prompt], 40, 'cpu')[0].text))\n"
    )
    done = subprocess.run(
        [train_python, "-c", script, str(target), card.canary_request],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == card.canary_answer


@pytest.mark.parametrize("on_cpu", [True, False])
def test_a_rejected_classifier_goes_on_as_a_generator_where_one_can_be_trained(
    on_cpu: bool, shop_notes: ModuleType, tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipes.toml").write_text(shop_notes.RECIPE, encoding="utf-8")
    settings = settings_in(tmp_path, tiny_base, "short", on_cpu=on_cpu)
    labels = ("red", "green", "blue")
    rng = np.random.default_rng(1)
    rows = [(text, str(rng.choice(labels))) for text, _ in shop_notes.notes(600, 3)]
    with Database(settings.database_path) as database:
        fill(database, rows, Kind.CLASSIFIER)
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        for _ in range(3):
            pipeline.tick()
        one = pipeline.specialist(SLUG).view.specialist
        told = [row["text"] for row in database.read("SELECT text FROM outbox ORDER BY rowid")]
        if not on_cpu:
            assert (one.step, one.kind) == (Step.REJECTED, Kind.CLASSIFIER)
            assert "No generator was tried: " in one.reason and "No generator" in told[-1]
            return
        assert (one.step, one.kind) == (Step.DATASET_BUILT, Kind.GENERATOR), one.reason
        assert "generator is trained on the same data next" in told[-1]


def test_the_operator_may_choose_the_kind(shop_notes: ModuleType, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, tmp_path / "no-base", "short")
    with Database(settings.database_path) as database:
        fill(database, shop_notes.notes(60, 1), Kind.CLASSIFIER)
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        with pytest.raises(ConfigError, match="--retry"):
            pipeline.tick(kind=Kind.GENERATOR)
        with database.transaction() as connection:
            view = pipeline.specialist(SLUG).view.specialist
            save_specialist(connection, replace(view, step=Step.REJECTED))
        pipeline.tick(SLUG, Kind.GENERATOR)
        report = pipeline.tick()
        assert pipeline.specialist(SLUG).view.specialist.kind is Kind.GENERATOR
    assert "neither a folder nor in the list" in report.failures[0].reason


def until(done: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
