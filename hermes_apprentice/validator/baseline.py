"""The best answer that is the same for every request: what a specialist must clearly beat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hermes_apprentice.domain.evaluation import f1, label_key, parse_json
from hermes_apprentice.domain.shape import Shape, ShapeKind

NAME = "the best constant answer"


def best_constant(shape: Shape, answers: Sequence[str]) -> str:
    """Return the constant answer with the highest F1 on the answers given.

    Candidates are the most frequent answer and, for JSON, the object made of the most frequent
    value under each key.

    Args:
        shape: Of the answers.
        answers: The upstream's, of the training data.
    """
    if not answers:
        return ""
    if shape.kind is ShapeKind.LABEL:
        common = Counter(label_key(answer) for answer in answers).most_common(1)[0][0]
        return next(answer for answer in answers if label_key(answer) == common)
    candidates = [Counter(answers).most_common(1)[0][0]]
    if shape.kind is ShapeKind.JSON:
        objects = [value for answer in answers if (value := parse_json(answer)) is not None]
        if objects:
            candidates.append(json.dumps(_most_frequent(objects), ensure_ascii=False))
    return max(candidates, key=lambda text: f1(shape, [text] * len(answers), answers))


def _most_frequent(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the object made of the most frequent value under each frequent key."""
    keys = Counter(key for value in objects for key in value)
    chosen: dict[str, Any] = {}
    for key, count in keys.items():
        if 2 * count < len(objects):
            continue
        values = [value[key] for value in objects if key in value]
        nested = [value for value in values if isinstance(value, dict)]
        if 2 * len(nested) > len(values):
            chosen[key] = _most_frequent(nested)
        else:
            texts = Counter(json.dumps(value, sort_keys=True) for value in values)
            chosen[key] = json.loads(texts.most_common(1)[0][0])
    return chosen
