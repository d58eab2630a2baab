from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Abstain, Answer, Envelope, Manifest
from hermes_apprentice.domain.training import Method
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.artefact import Artefact, write_artefact
from hermes_apprentice.inference.classifier import Classifier
from hermes_apprentice.inference.confidence import Calibration, Typicality
from hermes_apprentice.inference.head import SoftmaxHead
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.cpu import load_runtime, open_artefact
from hermes_apprentice.testing import FakeEmbedder

EMBEDDER = FakeEmbedder()
TEXTS = ("the app crashes on start", "refund my last invoice")
SHAPE = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))


@dataclass(frozen=True)
class Version:
    """A registered version without a registry."""

    manifest: Manifest
    """What it is."""

    folder: Path
    """Where its files lie."""

    def checkout(self) -> AbstractContextManager[Path]:
        """Give the files."""
        return nullcontext(self.folder)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A real classifier that knows two texts."""
    vectors = EMBEDDER.embed(TEXTS)
    folder = tmp_path / "run" / "artefact"
    folder.mkdir(parents=True)
    Classifier(
        labels=("bug", "billing"),
        head=SoftmaxHead(
            dense=(20 * vectors.T).astype(np.float32),
            vocabulary={},
            named=np.zeros((0, 2), np.float32),
            bias=np.zeros(2, np.float32),
        ),
        owners=np.array([0, 1], np.int32),
        calibration=Calibration(weights=np.array([1.0, 0.0, 0.0]), bias=0.0),
        typicality=Typicality(exemplars=vectors, usual=0.6, foreign=0.2),
    ).save(folder)
    write_artefact(
        folder, Artefact(kind=Kind.CLASSIFIER, method=Method.HEAD, embedder=EMBEDDER.digest)
    )
    return folder


@pytest.fixture
def version(artefact: Path) -> Version:
    manifest = Manifest(
        format=1,
        slug="tickets",
        version=1,
        pattern_id="pt-1",
        label="tickets",
        kind=Kind.CLASSIFIER,
        base="fake",
        embedder=EMBEDDER.digest,
        dataset="0" * 64,
        redaction="none",
        recipe=(),
        shape=SHAPE,
        envelope=Envelope(max_turn_index=5, min_chars=1, max_chars=500, ascii_only=False),
        verdict=Verdict(outcome=Outcome.PASSED, reasons=("ok",), scores=None, threshold=0.5),
        created_at=1_790_000_000.0,
        files=(),
    )
    return Version(manifest, artefact)


def never() -> Redactor:
    raise AssertionError("no redactor is needed")


def test_a_registered_version_answers_at_its_own_threshold(version: Version) -> None:
    runtime = load_runtime(version, EMBEDDER, never)
    known, unknown = (asyncio.run(runtime.answer(text)) for text in (TEXTS[1], "play some jazz"))
    runtime.close()
    assert isinstance(known, Answer)
    assert known.text == "billing"
    assert known.confidence > 0.9
    assert isinstance(unknown, Abstain)
    assert unknown.reason == "confidence"


def test_an_unregistered_artefact_answers_without_a_threshold(artefact: Path) -> None:
    with open_artefact(artefact, _dataset("none"), EMBEDDER, None) as runtime:
        answers = runtime.answer_many([*TEXTS, "play some jazz"])
    assert [answer.text for answer in answers[:2]] == ["bug", "billing"]
    assert all(isinstance(answer, Answer) for answer in answers)


def test_another_embedder_is_refused_with_a_way_out(version: Version) -> None:
    with pytest.raises(ArtefactError, match=r"train it again, or set models\.embedder back"):
        load_runtime(version, FakeEmbedder(32), never)


def test_other_redaction_rules_are_refused(version: Version) -> None:
    changed = replace(version, manifest=replace(version.manifest, redaction="0" * 64))
    with pytest.raises(ArtefactError, match="redacted by other rules"):
        load_runtime(changed, EMBEDDER, Redactor)


def test_the_same_redaction_rules_are_accepted(version: Version) -> None:
    redactor = Redactor()
    changed = replace(version, manifest=replace(version.manifest, redaction=redactor.fingerprint))
    runtime = load_runtime(changed, EMBEDDER, lambda: redactor)
    assert len(runtime.answer_many(["label this"])) == 1
    runtime.close()


def test_redacted_data_without_a_redactor_is_refused(artefact: Path) -> None:
    opened = open_artefact(artefact, _dataset("0" * 64), EMBEDDER, None)
    with pytest.raises(ArtefactError, match="redaction is switched off"), opened:
        raise AssertionError("it was opened")


def test_a_generator_does_not_run_in_the_sidecar(version: Version) -> None:
    changed = replace(version, manifest=replace(version.manifest, kind=Kind.GENERATOR))
    with pytest.raises(ArtefactError, match="generator"):
        load_runtime(changed, EMBEDDER, never)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _cut(folder: Path) -> None:
    path = folder / "labels.json"
    path.write_bytes(path.read_bytes()[:5])


@pytest.mark.parametrize("spoil", [_empty, _cut])
def test_incomplete_files_are_a_clear_error(
    version: Version, spoil: Callable[[Path], None]
) -> None:
    spoil(version.folder)
    with pytest.raises(ArtefactError, match="train"):
        load_runtime(version, EMBEDDER, never)


def _dataset(redaction: str) -> Dataset:
    return Dataset(
        dataset_id="ds-1",
        digest="0" * 64,
        pattern_id="pt-1",
        shape=SHAPE,
        redacted=redaction != "none",
        redaction=redaction,
        dropped=(),
        examples=(),
    )
