from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.evaluation import Interval, Outcome, Scores, Verdict
from hermes_apprentice.domain.shape import (
    FieldKind,
    FieldShape,
    JsonStyle,
    Kind,
    Missing,
    Shape,
    ShapeKind,
)
from hermes_apprentice.domain.specialist import Envelope, Manifest
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import Keys, load_or_create_keys


def interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.05, high=min(1.0, value + 0.05))


def draft(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "format": 1,
        "slug": "order-mails",
        "version": 0,
        "pattern_id": "pt-0123456789ab",
        "label": "order, quantity, sku",
        "kind": Kind.EXTRACTOR,
        "base": "all-MiniLM-L6-v2",
        "embedder": "e" * 64,
        "dataset": "d" * 64,
        "redaction": "none",
        "recipe": (("c2", "0.1"), ("method", "crf")),
        "shape": Shape(
            kind=ShapeKind.JSON,
            agreement=0.97,
            fields=(
                FieldShape(
                    path="items[].sku",
                    kind=FieldKind.COPIED,
                    missing=Missing.NEVER,
                    presence=1.0,
                    value_type="string",
                    copied_share=1.0,
                ),
                FieldShape(
                    path="priority",
                    kind=FieldKind.CLOSED_SET,
                    missing=Missing.NULL,
                    presence=0.5,
                    value_type="integer",
                    values=(1, 2, 1.5, True, None, "très élevé"),
                ),
            ),
            style=JsonStyle(indent=2),
        ),
        "envelope": Envelope(max_turn_index=3, min_chars=10, max_chars=900, ascii_only=False),
        "verdict": Verdict(
            outcome=Outcome.PASSED,
            reasons=("All checks passed.",),
            scores=Scores(
                test_digest="t" * 64,
                examples=60,
                agreement=interval(0.93),
                f1=0.96,
                baseline_f1=0.3,
                f1_gain=interval(0.66),
                baseline="the best constant answer",
                coverage=0.9,
                selective_agreement=interval(0.97),
                invalid=0.0,
                latency_p50_ms=4.2,
                size_bytes=123,
            ),
            threshold=0.62,
        ),
        "created_at": 1_790_000_000.25,
        "files": (),
    } | changes
    return Manifest(**values)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return load_or_create_keys(tmp_path / "keys")


@pytest.fixture
def registry(tmp_path: Path, keys: Keys) -> Registry:
    return Registry(tmp_path / "registry", keys)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "artefact"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.npz").write_bytes(bytes(range(256)) * 40)
    (folder / "deep" / "plan.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def make_draft() -> Callable[..., Manifest]:
    return draft
