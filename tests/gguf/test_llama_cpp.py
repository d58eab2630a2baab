"""A generator as a GGUF file: written by llama.cpp's converter, answered from by llama.cpp.

Run by ``make test-gguf``, which makes the environment that this needs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.domain.training import GeneratorOrder, Method, TrainingJob
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ServingError
from hermes_apprentice.inference.generator import read_card
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.pipeline.exports import export
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.serving.local_generator import LocalGenerator
from hermes_apprentice.serving.local_host import LocalHost
from hermes_apprentice.serving.model_server import served_now
from hermes_apprentice.settings import (
    GeneratorSettings,
    Settings,
    TrainerSettings,
    VllmSettings,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.trainer.generator import train_generator

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parents[1] / ".venv-gguf"
PYTHON = ENVIRONMENT / "bin" / "python"
LLAMA_CPP = ENVIRONMENT / "sources" / "vendor" / "llama.cpp"
SLUG = "shop-notes"
SERVED = "notes-in-one-file"
PATIENCE = 540.0
RECIPE = """
[tiny]
like = "cpu"
batch = 16
accumulation = 1
learning_rate = 0.02
epochs = 20
max_steps = 60
max_length = 128
patience = 40
eval_every = 20
warmup_share = 0.02
"""


@dataclass(frozen=True)
class Made:
    """A trained generator, and what it answers in our own child process."""

    artefact: Path
    requests: tuple[str, ...]
    local: dict[str, Any]


def state_in(note: str) -> str:
    return next(f"It is {state}." for state in ("empty", "low", "bad") if state in note)


@pytest.fixture(scope="module")
def made(shop_notes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Made:
    if not (ENVIRONMENT / ".stamp").is_file():
        pytest.skip("llama.cpp and its converter are not here; `make test-gguf` builds them")
    folder = tmp_path_factory.mktemp("made")
    base = folder / "base"
    subprocess.run(
        [str(PYTHON), str(HERE / "make_base.py"), str(LLAMA_CPP), str(base)],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    (folder / "recipes.toml").write_text(RECIPE, encoding="utf-8")
    # Short answers: with a vocabulary of 151,936 every token of one costs.
    rows = [(note, state_in(note)) for note, _ in shop_notes.notes(48, 1)]
    examples = [
        Example(
            example_id=f"e{place}",
            request=request,
            answer=answer,
            split=Split.VALIDATION if place % 8 == 0 else Split.TRAIN,
            group=f"g{place}",
            asked_at=0.0,
        )
        for place, (request, answer) in enumerate(rows)
    ]
    job = TrainingJob(
        run_id="run-1",
        kind=Kind.GENERATOR,
        method=Method.AUTO,
        dataset_dir="",
        output_dir=str(folder / "out"),
        models_dir="",
        embedder="",
        train_python=str(PYTHON),
        seed=1,
        generator=GeneratorOrder(
            base_model=str(base),
            bases_file="",
            recipe="tiny",
            recipes_file=str(folder / "recipes.toml"),
            prompt=PromptTemplate(system="What is wrong?"),
            on_cpu=True,
        ),
    )
    trained = train_generator(job, examples, lambda share, doing: None)
    artefact = folder / "artefact"
    trained.model.save(artefact)
    card = read_card(artefact)
    requests = (card.canary_request, *(one.request for one in examples[:16]))
    host = LocalHost(
        str(PYTHON),
        card.base_model,
        card.base_digest,
        device="cpu",
        seconds=PATIENCE,
        start_seconds=PATIENCE,
    )
    try:
        generator = LocalGenerator(host, "made", card, artefact)
        answers = generator.predict(list(requests), None)
        generator.close()
    finally:
        host.close()
    return Made(artefact, requests, dict(zip(requests, answers, strict=True)))


@pytest.fixture
def place(settings: Settings) -> Settings:
    settings.home.mkdir(parents=True)
    return settings.model_copy(
        update={
            "trainer": TrainerSettings(train_python=str(PYTHON)),
            "generator": GeneratorSettings(on_cpu=True, gguf_converter=str(LLAMA_CPP)),
        }
    )


@pytest.fixture
def url(
    made: Made, place: Settings, embedder: Embedder, generators_stage: ModuleType, tmp_path: Path
) -> Iterator[str]:
    """llama.cpp with a file that was exported from the registry."""
    version = generators_stage.publish(place, embedder, SLUG, made.artefact).version
    registry = Registry(place.registry_dir, load_or_create_keys(place.keys_dir))
    registry.set_alias(SLUG, version)
    file = tmp_path / "notes.gguf"
    with Database(place.database_path) as database:
        assert "version 1" in export(open_pipeline(place, database).shop, SLUG, file, gguf=True)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".merged-")] == []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PYTHON), "-m", "llama_cpp.server", "--model", str(file), "--model_alias", SERVED]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "512", "--n_threads", "1"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}/v1"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                assert served_now((address, "")) == (SERVED,)
                break
            except ServingError:
                said = (tmp_path / "server.log").read_text(errors="replace")[-2_000:]
                assert server.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.timeout(600)
async def test_the_sidecar_answers_from_an_exported_file_as_from_the_adapter(
    made: Made,
    place: Settings,
    url: str,
    embedder: Embedder,
    generators_stage: ModuleType,
) -> None:
    generators_stage.set_stage(place, SLUG, Stage.LIVE)
    generators_stage.publish_matcher(place, embedder, {SLUG: made.requests})
    served = VllmSettings(
        server="url", url=url, served_names={SLUG: SERVED}, deadline_seconds=60, start_seconds=60
    )
    asked = place.model_copy(update={"vllm": served})
    async with (
        generators_stage.with_upstream(asked) as with_upstream,
        running_sidecar(with_upstream) as running,
    ):
        specialists = running.parts.specialists
        await generators_stage.until(
            lambda: not specialists.problems and specialists.now.loading.specialists,
            PATIENCE,
            lambda: specialists.problems,
        )
        runtime = specialists.now.loading.specialists[SLUG].runtime
        surest = []
        for request in made.requests:
            here = made.local[request]
            there = await asyncio.wait_for(runtime.answer(request), 60)
            assert there.text == here.text
            surest.append(abs(there.confidence - here.confidence))
        print(json.dumps({"asked": len(surest), "confidences differ by": max(surest)}))
        # 16 bit in another order of summing: nearly as sure, and surely not 0.
        assert max(surest) < 0.05

        reply = await generators_stage.ask(running.url, made.requests[0])
        assert (reply.text, reply.route) == (made.local[made.requests[0]].text, "specialist")
