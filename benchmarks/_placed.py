"""A home with a registry: twenty patterns, their classifiers, a matcher and a word filter.

For benchmarks of the sidecar. Real files, really signed; the texts are invented. The first pattern
alone is served unless more are asked for.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.routing import FILTER_FILE, MATCHER_FILE, Rollout
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest, Stage
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.inference.artefact import Artefact, write_artefact
from hermes_apprentice.inference.classifier import Classifier
from hermes_apprentice.inference.confidence import Calibration, Typicality
from hermes_apprentice.inference.head import SoftmaxHead
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.settings import Settings
from hermes_apprentice.statistics.open_set import fit_open_set
from hermes_apprentice.statistics.word_filter import fit_word_filter
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.rollouts import save_rollout

EMBEDDER = "all-MiniLM-L6-v2"
SLUG = "pattern-0"
LABELS = ("bug", "billing")
KNOWN = (
    "Label this ticket: the search shows an error, and the export button does nothing, thanks, "
    "I really cannot work with it at all today, please help"
)
"""A request of the first pattern, of 32 tokens, that was not in the fit; it is a bug."""
ORDER = "Sort this mail: the refund has not arrived, and I was charged twice this month, please"
"""A request of the second pattern; an extractor reads it, and is unsure."""
OTHER = "What is the history of old lighthouses?"
"""A request that the word filter turns away."""

_LEADS = (
    "Label this ticket", "Sort this mail", "Who takes this call", "Rate the mood of this note",
    "Name the language of this line", "Pick a folder for this file", "Is this invoice due",
    "Tag this photo caption", "Which aisle holds this item", "Grade this short essay",
    "Choose an icon for it", "Flag this comment", "Which shift covers this", "Map this symptom",
    "Class of parcel", "Route this parcel slip", "Season of this recipe", "Kind of this contract",
    "Level of this exercise", "Genre of this song line",
)  # fmt: skip
_BUGS = (
    "the app crashes when I open it", "the export button does nothing",
    "I get a white screen after the login", "the search shows an error",
    "the program freezes on start", "uploads stop halfway",
)  # fmt: skip
_BILLS = (
    "I was charged twice this month", "please send the invoice again",
    "the refund has not arrived", "my card was declined",
    "the discount is missing on the bill", "I want to change my payment method",
)  # fmt: skip
_ENDS = ("", ", please", ", thanks, I cannot work with it today")
_THINGS = (
    "lighthouses", "the moon", "old bridges", "green tea", "chess", "whales", "clay pots", "trams",
    "mountain huts", "tulips", "steam engines", "salt mines", "violins", "kites", "glaciers",
)  # fmt: skip
_VERBS = (
    "Tell me about", "Write a poem on", "What is the history of", "Plan a trip to", "Who invented",
    "Draw me a plan for", "Summarise a book about", "How do people paint", "Why do we love",
)  # fmt: skip
_BACKGROUND = tuple(f"{verb} {thing}" for verb in _VERBS for thing in _THINGS)


def place(
    settings: Settings,
    *,
    patterns: int = len(_LEADS),
    served: int = 1,
    redact: bool = False,
    extractor: bool = False,
) -> None:
    """Fill a home: publish ``served`` classifiers and the matcher, and make them live.

    With ``extractor``, the pattern behind theirs gets an extractor that was trained on orders.
    """
    embedder = open_embedder(ModelStore(settings.models_dir), EMBEDDER, threads=1)
    registry = Registry(settings.registry_dir, load_or_create_keys(settings.keys_dir))
    redaction = Redactor().fingerprint if redact else "none"
    for number in range(served):
        artefact = settings.runs_dir / f"run-{number}" / "artefact"
        _write_classifier(artefact, embedder, _LEADS[number])
        registry.publish(artefact, _draft(embedder, number, redaction))
    if extractor:
        artefact = settings.runs_dir / f"run-{served}" / "artefact"
        registry.publish(artefact, _extractor(artefact, embedder, served, redaction))
        served += 1
    publish_matcher(registry, embedder, patterns)
    with Database(settings.database_path) as database, database.transaction() as connection:
        for number in range(served):
            save_rollout(connection, rollout(f"pattern-{number}"), 1.0)


def rollout(slug: str, stage: Stage = Stage.LIVE) -> Rollout:
    """Return a rollout of the first version, at full share."""
    return Rollout(
        slug=slug,
        version=1,
        stage=stage,
        share=1.0,
        held=False,
        step_started_at=time.time(),
        reason="",
    )


def publish_matcher(registry: Registry, embedder: Embedder, patterns: int) -> None:
    """Fit the matcher and the word filter on the invented texts, and publish them."""
    texts, labels = [], []
    for number, lead in enumerate(_LEADS[:patterns]):
        pairs = [f"{one}, and {next}" for kind in (_BUGS, _BILLS) for one, next in pairwise(kind)]
        own = [f"{lead}: {text}{end}" for text in (*_BUGS, *_BILLS, *pairs) for end in _ENDS]
        texts += own
        labels += [number] * len(own)
    texts += _BACKGROUND
    labels += [-1] * len(_BACKGROUND)
    slugs = tuple(f"pattern-{number}" for number in range(patterns))
    vectors = matching_vectors(embedder.encode(texts))
    matcher = fit_open_set(vectors, np.array(labels), slugs, 0.05, 3)
    files = {MATCHER_FILE: matcher.to_bytes()}
    words = fit_word_filter(texts, np.array(labels), len(slugs))
    if words is None:
        raise SystemExit("the word filter could not be fitted on the invented texts")
    files[FILTER_FILE] = words.to_bytes()
    registry.publish_matcher(files, {"embedder": embedder.digest, "vector": RECIPE})


def _write_classifier(folder: Path, embedder: Embedder, lead: str) -> None:
    bugs = embedder.embed([f"{lead}: {text}" for text in _BUGS])
    bills = embedder.embed([f"{lead}: {text}" for text in _BILLS])
    centres = np.stack([bugs.mean(axis=0), bills.mean(axis=0)])
    folder.mkdir(parents=True)
    Classifier(
        labels=LABELS,
        head=SoftmaxHead(
            dense=(40 * (centres - centres.mean(axis=0)).T).astype(np.float32),
            vocabulary={},
            named=np.zeros((0, 2), np.float32),
            bias=np.zeros(2, np.float32),
        ),
        owners=np.array([0] * len(_BUGS) + [1] * len(_BILLS), np.int32),
        calibration=Calibration(weights=np.array([1.0, 0.0, 0.0]), bias=0.0),
        typicality=Typicality(exemplars=np.concatenate([bugs, bills]), usual=0.6, foreign=0.2),
    ).save(folder)
    write_artefact(
        folder, Artefact(kind=Kind.CLASSIFIER, method=Method.HEAD, embedder=embedder.digest)
    )


def _extractor(folder: Path, embedder: Embedder, number: int, redaction: str) -> Manifest:
    """Train an extractor into a folder, and return the draft of its manifest."""
    from specialist_speed import order_shape, trained_extractor

    folder.mkdir(parents=True)
    trained_extractor(embedder).save(folder)
    write_artefact(
        folder, Artefact(kind=Kind.EXTRACTOR, method=Method.CRF, embedder=embedder.digest)
    )
    draft = _draft(embedder, number, redaction)
    return replace(draft, kind=Kind.EXTRACTOR, shape=order_shape())


def _draft(embedder: Embedder, number: int, redaction: str) -> Manifest:
    return Manifest(
        format=1,
        slug=f"pattern-{number}",
        version=0,
        pattern_id=f"pt-{number:012x}",
        label="label, ticket",
        kind=Kind.CLASSIFIER,
        base=embedder.name,
        embedder=embedder.digest,
        dataset="d" * 64,
        redaction=redaction,
        recipe=(),
        shape=Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=LABELS),
        envelope=Envelope(max_turn_index=2, min_chars=5, max_chars=400, ascii_only=True),
        verdict=Verdict(
            outcome=Outcome.PASSED, reasons=("All checks passed.",), scores=None, threshold=0.5
        ),
        created_at=1_790_000_000.0,
        files=(),
    )
