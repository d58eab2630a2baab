"""Score answers against the upstream's on the same requests.

The specialist is a callable that is handed in: what is scored is what will be served. Knows
nothing about thresholds of the gate, nor about where a specialist comes from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict, ValidationError

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import fits
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import EvaluationError

AnswerMany = Callable[[Sequence[str]], Sequence[Answer | Abstain]]
"""Answers requests in order; abstains from nothing but what it cannot answer."""

_TIMED = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request, what the upstream answered and what the specialist would."""

    example: Example
    """The request and the upstream's answer, redacted."""

    text: str | None
    """The specialist's answer, ``None`` where it had none that could be served."""

    confidence: float
    """0 to 1; 0 where there is no answer."""

    agrees: bool
    """Whether both answers are equal under the pattern's metric."""

    cross_fitted: bool = False
    """Whether the answer is that of a model trained without this row, not of the artefact."""


class _Prediction(BaseModel):
    """One line of the out-of-fold file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    example_id: str
    text: str
    confidence: float


def served_rows(
    shape: Shape, examples: Sequence[Example], answer_many: AnswerMany
) -> tuple[Row, ...]:
    """Ask the served artefact, and compare.

    Raises:
        EvaluationError: It did not give one answer per request.
    """
    answers = list(answer_many([example.request for example in examples]))
    if len(answers) != len(examples):
        raise EvaluationError(
            f"the specialist gave {len(answers)} answers to {len(examples)} requests"
        )
    return tuple(
        _row(
            shape,
            example,
            answer.text if isinstance(answer, Answer) or answer.reason == "confidence" else None,
            answer.confidence,
        )
        for example, answer in zip(examples, answers, strict=True)
    )


def cross_fitted_rows(shape: Shape, examples: Sequence[Example], path: Path) -> tuple[Row, ...]:
    """Read the out-of-fold predictions of the training run, and compare.

    Args:
        shape: Of the pattern's answers.
        examples: Those that may be used; predictions for others are left aside.
        path: JSON lines with ``example_id``, ``text`` and ``confidence``; a missing file
            means that there was no cross-fitting.

    Raises:
        EvaluationError: A line is damaged, or an example was predicted twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as exc:
        raise EvaluationError(f"{path} cannot be read: {exc}; train again") from exc
    by_id = {example.example_id: example for example in examples}
    rows: dict[str, Row] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = _Prediction.model_validate_json(line)
        except ValidationError as exc:
            raise EvaluationError(f"{path}: line {number} is no prediction; train again") from exc
        if found.example_id in rows:
            raise EvaluationError(f"{path}: line {number} repeats an example; train again")
        example = by_id.get(found.example_id)
        if example is not None:
            rows[found.example_id] = _row(
                shape, example, found.text, found.confidence, cross_fitted=True
            )
    return tuple(rows.values())


def latency_p50_ms(
    examples: Sequence[Example], answer_many: AnswerMany, clock: Callable[[], float]
) -> float:
    """Return the median time of one answer, in milliseconds, asked one at a time."""
    taken = []
    for example in examples[:_TIMED]:
        started = clock()
        answer_many([example.request])
        taken.append(clock() - started)
    return 1_000 * median(taken) if taken else 0.0


def split_digest(examples: Sequence[Example]) -> str:
    """Return the sha256 of a split: of ids, requests and answers."""
    listed = [[item.example_id, item.request, item.answer] for item in examples]
    text = json.dumps(sorted(listed), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _row(
    shape: Shape,
    example: Example,
    text: str | None,
    confidence: float,
    *,
    cross_fitted: bool = False,
) -> Row:
    usable = text is not None and fits(shape, text)
    return Row(
        example=example,
        text=text if usable else None,
        confidence=confidence if usable and math.isfinite(confidence) else 0.0,
        agrees=usable and text is not None and agrees(shape, text, example.answer),
        cross_fitted=cross_fitted,
    )
