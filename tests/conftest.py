"""What tests share: small factories, a temporary home, the real embedder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import platformdirs
import pytest

from hermes_apprentice.domain.approval import Proposal, ProposalState
from hermes_apprentice.domain.exchange import Exchange, exchange_id
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Forecast, Pattern
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.settings import ModelSettings, Settings
from hermes_apprentice.storage.approvals import add_message, add_proposal, mark_delivered
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import save_rollout
from hermes_apprentice.storage.specialists import save_specialist
from hermes_apprentice.trainer.environment import find_train_python
from hermes_apprentice.trainer.hardware import probe

NOW = 1_790_000_000.0
"""A fixed moment for tests, Unix seconds."""

MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"
"""Models are fetched once per machine, not once per test run."""


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The real MiniLM, pulled into the user's cache when it is not there."""
    return open_embedder(ModelStore(MODELS), "all-MiniLM-L6-v2", threads=1, pull=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings for a temporary home, with the shared model store."""
    return Settings(
        home=tmp_path / "apprentice",
        hermes_home=tmp_path / "hermes",
        models=ModelSettings(embedder="all-MiniLM-L6-v2", folder=MODELS),
    )


@pytest.fixture
def database(settings: Settings) -> Any:
    """A migrated, empty database."""
    with Database(settings.database_path) as opened:
        yield opened


@pytest.fixture
def make_exchange() -> Callable[..., Exchange]:
    """A factory of eligible exchanges."""

    def make(
        request: str = "label this: the app crashes", answer: str = "bug", **changes: Any
    ) -> Exchange:
        values: dict[str, Any] = {
            "profile": "default",
            "session_id": "20260901_080000_aaaaaa",
            "source": "cli",
            "turn_index": 0,
            "request": request,
            "answer": answer,
            "model": "anthropic/claude-sonnet-4.6",
            "asked_at": NOW - 3_600,
            "answered_at": NOW - 3_590,
            "context_chars": 0,
            "input_tokens": 12_000,
            "output_tokens": 8,
            "corrected": False,
            "ineligible": None,
        } | changes
        values.setdefault(
            "exchange_id",
            exchange_id(
                values["profile"], values["session_id"], values["asked_at"], values["request"]
            ),
        )
        return Exchange(**values)

    return make


@pytest.fixture
def make_candidate() -> Callable[..., Candidate]:
    """A factory of open candidates."""

    def make(candidate_id: str = "gc-7f3a", **changes: Any) -> Candidate:
        pattern: dict[str, Any] = {
            "pattern_id": f"pt-{candidate_id[3:]:0>12}",
            "slug": f"ticket-label-{candidate_id[3:]}",
            "label": "ticket, label",
            "size": 42,
            "tightness": 0.71,
            "shape": Shape(
                kind=ShapeKind.LABEL, agreement=0.97, labels=("bug", "billing"), median_chars=5
            ),
            "kind": Kind.CLASSIFIER,
            "runs_stable": 2,
            "first_seen": NOW - 20 * 86_400,
            "last_seen": NOW - 60,
            "max_turn_index": 0,
            "forecast": Forecast(
                requests_per_day=2.1,
                cost_per_request=36_120,
                coverage=0.8,
                saved_per_month=1_820_448,
                priced=True,
            ),
        } | changes
        return Candidate(
            candidate_id=candidate_id,
            pattern=Pattern(**pattern),
            state=CandidateState.OPEN,
            created_at=NOW,
        )

    return make


@pytest.fixture
def fill(make_candidate: Callable[..., Candidate]) -> Callable[..., None]:
    """Write a busy week into a database; ``poison`` is put wherever a text can stand."""

    def write(database: Database, now: float, poison: str = "") -> None:
        candidate = make_candidate("gc-7f3a", label=f"refund, order {poison}".strip())
        with database.transaction() as connection:
            patterns = PatternStore(connection)
            for number, (slug, stage, share) in enumerate(
                (
                    ("ticket-label", Stage.LIVE, 1.0),
                    ("mail-triage", Stage.CANARY, 0.05),
                    ("sql-summary", Stage.QUARANTINED, 0.0),
                    (f"new-one{poison}", None, 0.0),
                )
            ):
                one = make_candidate(f"gc-{number:04x}", slug=slug)
                _keep(patterns, one, now)
                patterns.set_candidate_state(one.candidate_id, CandidateState.APPROVED)
                specialist = Specialist(
                    slug=slug,
                    pattern_id=one.pattern.pattern_id,
                    candidate_id=one.candidate_id,
                    kind=one.pattern.kind,
                    step=Step.REGISTERED if stage else Step.FAILED,
                    reason=f"the worker stopped {poison}",
                    run_id=f"run-{number}",
                    version=1 if stage else None,
                    updated_at=now - 600,
                )
                save_specialist(connection, specialist)
                if stage is None:
                    continue
                rollout = Rollout(
                    slug=slug,
                    version=1,
                    stage=stage,
                    share=share,
                    held=False,
                    step_started_at=now - 600,
                    reason=f"registered {poison}",
                )
                save_rollout(connection, rollout, now)
                connection.executemany(
                    "INSERT INTO comparisons (slug, version, at, origin, agreed, answered, reason)"
                    " VALUES (?, 1, ?, 'shadow', ?, ?, ?)",
                    [(slug, now - 300, 1, 1, "")] * 12
                    + [(slug, now - 200, 0, 1, "")] * (9 if stage is Stage.QUARANTINED else 0)
                    + [(slug, now - 100, None, 0, "confidence")] * 3,
                )
            _keep(patterns, candidate, now)
            proposal = Proposal(
                proposal_id="gc-7f3a",
                subject=candidate.pattern.pattern_id,
                nonce="n1",
                shown=poison,
                deciders=(),
                state=ProposalState.OPEN,
                created_at=now - 7_200,
                expires_at=now + 86_400,
            )
            add_proposal(connection, proposal)
            decided = replace(
                proposal,
                proposal_id="gc-0000",
                nonce="n2",
                state=ProposalState.ACCEPTED,
                decided_at=now - 3_600,
                decided_by=f"telegram:4711{poison}",
            )
            add_proposal(connection, decided)
            for number, text in enumerate((f"It is live. {poison}", f"It keeps coming {poison}")):
                add_message(connection, "specialist", f"k{number}", text, now - 60 + number)
            mark_delivered(connection, 1, now - 30)
            connection.executemany(
                """
                INSERT INTO ledger (at, request_id, call_kind, route, slug, version, model, status,
                                    prompt_tokens, cached_tokens, completion_tokens, estimated,
                                    cost, saved, overhead_ms, latency_ms)
                VALUES (?, ?, 'first', ?, ?, 1, ?, 200, 1000, 400, 10, ?, ?, ?, ?, ?)
                """,
                [
                    (now - 3_600 * hour, f"r{hour}", *call)
                    for hour in range(1, 100)
                    for call in (
                        ("specialist", "ticket-label", "big-one", 1, 0, 20_000, 0.4, 12.0),
                        ("upstream", None, f"unknown-one{poison}", 0, None, None, 0.3, 1_500.0),
                        ("fallback", "mail-triage", "big-one", 0, 20_000, None, 0.9, 1_800.0),
                    )
                ],
            )

    return write


def _keep(patterns: PatternStore, candidate: Candidate, now: float) -> None:
    patterns.save(
        StoredPattern(
            pattern=candidate.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
        ),
        now,
    )
    patterns.add_candidate(candidate)


@pytest.fixture(scope="session")
def stage() -> ModuleType:
    """The real gateway between two fake ends; see ``fake_gateway.py`` beside this file."""
    return _beside("fake_gateway")


@pytest.fixture(scope="session")
def shop_notes() -> ModuleType:
    """A small text task and its tiny base model; see ``tiny_notes.py`` beside this file."""
    return _beside("tiny_notes")


@pytest.fixture(scope="session")
def train_python() -> str:
    """The interpreter of a training environment that can train generators."""
    python = find_train_python("")
    if python is None or probe(python).missing:
        pytest.skip("there is no training environment for generators; `make env` makes it")
    return python


@pytest.fixture(scope="session")
def tiny_base(
    shop_notes: ModuleType, train_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A base model of Qwen2's form with random weights, too small to need a hub or a GPU."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    shop_notes.make_base(train_python, folder)
    return folder


@pytest.fixture(scope="session")
def vllm_stage() -> ModuleType:
    """Something that speaks like vLLM; see ``fake_vllm.py`` beside this file."""
    return _beside("fake_vllm")


@pytest.fixture(scope="session")
def generators_stage() -> ModuleType:
    """Generators behind a router; see ``generators_stage.py`` beside this file."""
    return _beside("generators_stage")


@pytest.fixture(scope="session")
def serving() -> Any:
    """Runs the sidecar as a process of its own; see ``serving_process.py`` beside this file."""
    return _beside("serving_process").serving


@pytest.fixture
def fake_vllm(vllm_stage: ModuleType) -> Iterator[Any]:
    """A fake vLLM that listens; ``url`` is its endpoint."""
    fake = vllm_stage.FakeVllm()
    server = fake.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield fake
    fake.go.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[Any]:
    """A tab of a real browser; see ``browser.py`` beside this file."""
    found = _beside("browser")
    if found.executable() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    async with found.browser(tmp_path / "browser") as page:
        yield page


def _beside(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
