"""What tests share: small factories, a temporary home, the real embedder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import platformdirs
import pytest

from hermes_apprentice.domain.exchange import Exchange, exchange_id
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Forecast, Pattern
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.settings import ModelSettings, Settings
from hermes_apprentice.storage.database import Database

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


@pytest.fixture(scope="session")
def stage() -> ModuleType:
    """The real gateway between two fake ends; see ``fake_gateway.py`` beside this file."""
    path = Path(__file__).with_name("fake_gateway.py")
    spec = importlib.util.spec_from_file_location("fake_gateway", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
