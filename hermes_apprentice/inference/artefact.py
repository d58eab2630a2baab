"""The folder that a training run leaves behind, and the way back to a model.

``artefact.json`` says what lies beside it. Knows nothing about signatures:
whoever loads an artefact for serving has verified its files before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import ArtefactError

if TYPE_CHECKING:
    from hermes_apprentice.inference.base import CpuModel

ARTEFACT_FILE = "artefact.json"
FORMAT = "hermes-apprentice/cpu-model/1"


class Artefact(BaseModel):
    """What ``artefact.json`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: str = FORMAT
    """Layout of the folder."""

    kind: Kind
    """What the model is."""

    method: Method
    """How it was trained, and so which files there are."""

    embedder: str
    """Digest of the embedder it was trained on."""


def write_artefact(folder: Path, artefact: Artefact) -> None:
    """Write ``artefact.json``."""
    text = json.dumps(artefact.model_dump(mode="json"), indent=1, sort_keys=True)
    (folder / ARTEFACT_FILE).write_text(text + "\n", encoding="utf-8")


def read_artefact(folder: Path) -> Artefact:
    """Return what ``artefact.json`` says.

    Raises:
        ArtefactError: It is missing, damaged, or of a format this release does not know.
    """
    try:
        artefact = Artefact.model_validate_json((folder / ARTEFACT_FILE).read_bytes())
    except OSError as exc:
        raise ArtefactError(f"{folder.name} has no {ARTEFACT_FILE}; train again") from exc
    except ValidationError as exc:
        raise ArtefactError(f"{ARTEFACT_FILE} is damaged; train the specialist again") from exc
    if artefact.format != FORMAT:
        raise ArtefactError(
            f"the artefact has the format {artefact.format!r}, this release reads {FORMAT!r}; "
            "train the specialist again"
        )
    return artefact


def load_model(folder: Path, embedder: Embedder) -> CpuModel:
    """Return the model in ``folder``, ready to predict; torch is never needed.

    Raises:
        ArtefactError: The folder is incomplete, foreign, or belongs to another embedder.
    """
    artefact = read_artefact(folder)
    if artefact.embedder != embedder.digest:
        raise ArtefactError(
            f"the specialist was trained on the embedder {artefact.embedder[:12]}, "
            f"this is {embedder.name} {embedder.digest[:12]}; train the specialist again"
        )
    if artefact.kind is Kind.CLASSIFIER and artefact.method is Method.HEAD:
        from hermes_apprentice.inference.classifier import Classifier

        return Classifier.load(folder)
    if artefact.kind is Kind.CLASSIFIER and artefact.method is Method.FINETUNED:
        from hermes_apprentice.inference.finetuned_classifier import FinetunedClassifier

        return FinetunedClassifier.load(folder)
    if artefact.kind is Kind.EXTRACTOR and artefact.method is Method.CRF:
        from hermes_apprentice.inference.extractor import Extractor

        return Extractor.load(folder)
    if artefact.kind is Kind.EXTRACTOR and artefact.method is Method.FINETUNED:
        from hermes_apprentice.inference.finetuned import FinetunedExtractor

        return FinetunedExtractor.load(folder)
    raise ArtefactError(f"no {artefact.kind} is trained by {artefact.method}")
