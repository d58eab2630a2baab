"""A training run: what goes into the child process and what comes out of it.

Both are plain JSON files, so that a run can happen in another environment or on
another machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.domain.shape import Kind

DOUBTFUL = "doubtful"
"""Name in a recipe under which stands how many answers were not learnt from, as likely wrong."""


class Method(StrEnum):
    """How a specialist is trained."""

    AUTO = "auto"
    """The better by cross-validation of what can run here."""

    HEAD = "head"
    """Classifier: a head on what the frozen embedder says."""

    CRF = "crf"
    """Extractor: a linear-chain CRF over frozen token states and lexical features."""

    FINETUNED = "finetuned"
    """Classifier or extractor: the encoder itself, fine-tuned; needs the training environment."""

    LORA = "lora"
    """Generator: an adapter on a language model; needs the generator's environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorOrder:
    """What a training of a generator needs to be told beyond the rest."""

    base_model: str
    """Name of the base model, or the folder it lies in."""

    bases_file: str
    """The operator's own list of base models; may be missing."""

    recipe: str
    """Name of the recipe, or ``auto``."""

    recipes_file: str
    """The operator's own recipes; may be missing."""

    prompt: PromptTemplate
    """How requests are put to it."""

    on_cpu: bool
    """Whether it may be trained without a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What a training child process reads."""

    run_id: str
    """Name of the run."""

    kind: Kind
    """What to train."""

    method: Method
    """How."""

    dataset_dir: str
    """Folder of the built dataset."""

    output_dir: str
    """Where the artefact goes; it appears only when it is complete."""

    models_dir: str
    """Root of the model store."""

    embedder: str
    """Name of the embedder."""

    train_python: str
    """Interpreter of the training environment, or empty when there is none."""

    seed: int
    """For everything random."""

    drop_doubtful: bool = True
    """Whether answers that are probably wrong are not learnt from."""
    budget_seconds: float = 150.0
    """Work that a classifier or an extractor is planned for, in seconds of an idle machine."""

    generator: GeneratorOrder | None = None
    """What a generator needs; ``None`` for the other kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training child process writes."""

    run_id: str
    """Name of the run."""

    kind: Kind
    """What was trained."""

    method: Method
    """How, in the end."""

    embedder: str
    """The embedder's digest."""

    base: str
    """The embedder's name."""

    recipe: tuple[tuple[str, str], ...]
    """Settings and cross-validation scores, sorted by name."""

    seconds: float
    """Wall-clock time."""
