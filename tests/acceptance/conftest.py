"""A home with real Hermes sessions, made once and copied for each story."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from hermes_apprentice.demo.sessions import write_sessions
from hermes_apprentice.demo.texts import Corpus, Sizes, make_corpus
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.settings import (
    DetectorSettings,
    GeneratorSettings,
    ModelSettings,
    Settings,
    TrainerSettings,
)
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
MODELS = platformdirs.user_cache_path("hermes-apprentice") / "models"
SIZES = Sizes(order=170, ticket=170, chat=110, multi_turn=20, tool=15)


def settings_for(root: Path) -> Settings:
    """Settings for the homes below ``root``."""
    return Settings(
        home=root / "apprentice",
        hermes_home=root / "hermes",
        detector=DetectorSettings(min_runs_stable=1),
        models=ModelSettings(embedder="all-MiniLM-L6-v2", folder=MODELS),
        trainer=TrainerSettings(method="crf"),
        # A machine with a GPU must not fetch a base model because a test's classifier is rejected.
        generator=GeneratorSettings(fallback=False),
    )


@pytest.fixture(scope="session")
def past() -> Corpus:
    """What the recorded sessions hold."""
    return make_corpus(random.Random(11), SIZES)


@pytest.fixture(scope="session")
def sessions_home(tmp_path_factory: pytest.TempPathFactory, past: Corpus) -> Path:
    """A Hermes home written by Hermes' own SessionDB."""
    root = tmp_path_factory.mktemp("sessions")
    write_sessions(root / "hermes", past, rng=random.Random(12), now=NOW)
    return root


@pytest.fixture(scope="session")
def approved_home(
    sessions_home: Path, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> Path:
    """The same after detection, with both patterns approved and nothing trained."""
    root = tmp_path_factory.mktemp("approved")
    shutil.copytree(sessions_home, root, dirs_exist_ok=True)
    settings = settings_for(root)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        pipeline.observe()
        pipeline.detect()
        for candidate in pipeline.candidates():
            pipeline.reply(f"train {candidate.candidate_id}")
    return root


@pytest.fixture(scope="session")
def trained_home(approved_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after training: two registered specialists in shadow."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(approved_home, root, dirs_exist_ok=True)
    settings = settings_for(root)
    with Database(settings.database_path) as database:
        pipeline = open_pipeline(settings, database, clock=lambda: NOW)
        while pipeline.tick().pending:
            pass
    return root


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Settings]:
    """Copy a prepared home, so that a story may change it."""

    def copy(root: Path) -> Settings:
        shutil.copytree(root, tmp_path, dirs_exist_ok=True)
        return settings_for(tmp_path)

    return copy
