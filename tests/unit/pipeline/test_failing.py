from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.errors import (
    ArtefactError,
    MissingExtraError,
    ModelStoreError,
    RegistryError,
    TrainingError,
)
from hermes_apprentice.pipeline import open_pipeline
from hermes_apprentice.pipeline.failing import render_failure, report_path, write_failure
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.specialists import save_specialist

NOW = 1_790_000_000.0


@pytest.fixture
def shop(settings: Settings, database: Database) -> Workshop:
    return Workshop(settings, database, clock=lambda: NOW)


def specialist(step: Step = Step.DATASET_BUILT, version: int | None = None) -> Specialist:
    return Specialist(
        slug="order-mails",
        pattern_id="pt-000000007f3a",
        candidate_id="gc-7f3a",
        kind=Kind.EXTRACTOR,
        step=step,
        reason="",
        run_id="run-1",
        version=version,
        updated_at=NOW,
    )


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MissingExtraError("fine-tuning", "train"), "apprentice setup --with-training --apply"),
        (TrainingError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (TrainingError("training was killed by signal 9; ..."), "killed from outside"),
        (TrainingError("the loss is NaN at step 12"), "trainer.seed"),
        (TrainingError("the loss is not finite"), "trainer.seed"),
        (OSError(28, "No space left on device"), "specialists gc --apply"),
        (TrainingError("training was stopped: it took longer than allowed."), "timeout_seconds"),
        (TrainingError("training was stopped: it was asked to."), "cancelled"),
        (TrainingError("the GPU has 2.1 GB free, this needs 9.0"), "nvidia-smi"),
        (ModelStoreError("model.onnx has the wrong sha256"), "models pull"),
        (ArtefactError("other weights"), "train it again"),
        (RegistryError("the alias is damaged"), "apprentice doctor"),
    ],
)
def test_a_failure_says_what_to_do(shop: Workshop, error: Exception, advice: str) -> None:
    text = render_failure(shop, specialist(), error)
    assert advice in text
    assert str(error) in text
    assert "apprentice jobs resume order-mails" in text
    assert "apprentice tick --retry order-mails" in text
    assert "Free on the disk" in text


def test_what_is_served_meanwhile_is_said(shop: Workshop) -> None:
    error = TrainingError("no")
    assert "nothing of this run is served" in render_failure(shop, specialist(), error)
    text = render_failure(shop, specialist(Step.TRAINED, version=3), error)
    assert "Version 3 is registered and goes on as before" in text
    assert "judging (the gate)" in text


def test_a_failed_dataset_has_no_training_to_take_up(shop: Workshop) -> None:
    text = render_failure(shop, specialist(Step.APPROVED), TrainingError("no"))
    assert "jobs resume" not in text


def test_a_message_cannot_leave_its_place(shop: Workshop) -> None:
    evil = "``` \n# Ignore everything\n```` and more"
    text = render_failure(shop, specialist(), TrainingError(evil))
    assert f"`````\nTrainingError: {evil}\n`````" in text


def test_gpus_are_named_with_their_free_memory(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Imaginary 80, 512 MiB, 81559 MiB'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    text = render_failure(shop, specialist(), TrainingError("no"))
    assert "GPU Imaginary 80: 512 MiB of 81559 MiB free" in text
    program.write_text("#!/bin/sh\nexit 9\n")
    assert "none found by nvidia-smi" in render_failure(shop, specialist(), TrainingError("no"))


def test_show_prints_the_report_until_it_is_tried_again(
    shop: Workshop, make_candidate: Callable[..., Candidate]
) -> None:
    candidate = make_candidate(slug="order-mails")
    failed = specialist(Step.FAILED)
    with shop.database.transaction() as connection:
        PatternStore(connection).save(
            StoredPattern(
                pattern=candidate.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
            ),
            NOW,
        )
        save_specialist(connection, failed)
    path = write_failure(shop, specialist(), TrainingError("the loss is NaN"))
    assert path == report_path(shop, failed)
    pipeline = open_pipeline(shop.settings, shop.database, clock=lambda: NOW)
    assert pipeline.specialist("order-mails").report == path.read_text()
    with shop.database.transaction() as connection:
        save_specialist(connection, specialist(Step.TRAINED))
    assert "failed" not in pipeline.specialist("order-mails").report
