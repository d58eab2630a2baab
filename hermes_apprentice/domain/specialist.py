"""The model of one pattern: its versions, its envelope, its stage.

Values only. What is signed is the ``Manifest``; where it lies is the registry's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hermes_apprentice.domain.evaluation import Verdict
from hermes_apprentice.domain.shape import Kind, Shape


class Step(StrEnum):
    """Where a specialist stands in the learning half; each tick moves it by one."""

    APPROVED = "approved"
    """The operator said train; the dataset is built next."""

    DATASET_BUILT = "dataset_built"
    """The dataset lies on disk; training is next."""

    TRAINED = "trained"
    """The artefact lies on disk; the gate is next."""

    VALIDATED = "validated"
    """The gate passed it; it is signed and registered next."""

    REGISTERED = "registered"
    """Signed and in the registry; serving has taken over."""

    REJECTED = "rejected"
    """The gate said no, for every kind that was tried."""

    WAITING = "waiting"
    """The gate was inconclusive, or the dataset too small: more examples are needed."""

    FAILED = "failed"
    """A step failed; the reason says why, and ``apprentice tick --retry`` tries again."""


class Stage(StrEnum):
    """How much traffic a registered specialist gets."""

    SHADOW = "shadow"
    """None; it runs beside the upstream and is compared."""

    CANARY = "canary"
    """A growing share."""

    LIVE = "live"
    """All of it, with audits."""

    QUARANTINED = "quarantined"
    """None: it drifted or failed."""

    RETIRED = "retired"
    """None: the operator took it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The limits inside which a specialist may answer: what its training data looked like."""

    max_turn_index: int
    """Latest user turn of a session."""

    min_chars: int
    """Shortest request."""

    max_chars: int
    """Longest request."""

    ascii_only: bool
    """Whether all training requests were ASCII, so that other scripts go to the upstream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """One file of a version."""

    path: str
    """Relative to the version's folder, with forward slashes."""

    sha256: str
    """Of its bytes."""

    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that makes a model version what it is. Signed, never changed."""

    format: int
    """Version of this layout."""

    slug: str
    """The specialist."""

    version: int
    """Counts up from 1."""

    pattern_id: str
    """The pattern it answers."""

    label: str
    """Keywords for people."""

    kind: Kind
    """What kind of model."""

    base: str
    """What it was trained on top of, such as the embedder's name."""

    embedder: str
    """The embedder's digest; another embedder cannot run it."""

    dataset: str
    """The dataset's digest."""

    redaction: str
    """Fingerprint of the redactor to apply when serving, or ``none``."""

    recipe: tuple[tuple[str, str], ...]
    """The trainer's settings and what it chose, sorted by name."""

    shape: Shape
    """What its answers look like."""

    envelope: Envelope
    """When it may answer."""

    verdict: Verdict
    """The gate's answer, with scores."""

    created_at: float
    """Unix time."""

    files: tuple[FileDigest, ...]
    """Every file of the artefact, sorted by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A specialist's answer."""

    text: str
    """Ready to send."""

    confidence: float
    """0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abstain:
    """The specialist is not sure, or cannot do it: the upstream answers."""

    reason: str
    """A fixed word for metrics: ``confidence``, ``invalid``, ``deadline`` or ``error``."""

    confidence: float = 0.0
    """0 to 1, where one was computed."""

    text: str | None = None
    """What it would have said below its threshold; for comparison only, never served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialist:
    """One pattern's specialist, as the pipeline sees it."""

    slug: str
    """Its name: unique, ``[a-z0-9-]``."""

    pattern_id: str
    """The pattern it is for."""

    candidate_id: str
    """The candidate that the operator approved."""

    kind: Kind
    """The kind being tried, or the kind that passed."""

    step: Step
    """Where it stands in the learning half."""

    reason: str
    """Why it stands there, one sentence."""

    run_id: str
    """Name of the current run; a new run starts when it is trained again."""

    version: int | None
    """The registered version, if any."""

    updated_at: float
    """Unix time of the last change."""
