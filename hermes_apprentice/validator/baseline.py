"""What a specialist is compared with: cheaper ways to answer the same requests.

The best answer that is the same for every request must be clearly beaten. Repeating the
answer to the most similar known request must not do better.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import f1, label_key, parse_json
from hermes_apprentice.domain.shape import Shape, ShapeKind

NAME = "the best constant answer"
NEAREST = "the answer to the most similar known request"

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Gives one vector of unit length per text, shape ``(texts, dimension)``."""


class Rival(NamedTuple):
    """Another way to answer the pattern's requests."""

    name: str
    """For reports, such as ``the base model with few-shot examples``."""

    answer: Callable[[Sequence[Example]], Sequence[str | None]]
    """Its answers, in order; it must not look at those of the examples it is given."""


def nearest(known: Sequence[Example], embed: Embed) -> Rival:
    """Return the rival that repeats the answer to the most similar known request.

    An example is never answered by itself or by a near-duplicate, so known examples may be asked.
    """

    def answer(asked: Sequence[Example]) -> list[str | None]:
        if not asked:
            return []
        similar = embed([one.request for one in asked]) @ embed([one.request for one in known]).T
        groups = np.array([one.group for one in known])
        for row, one in enumerate(asked):
            similar[row, groups == one.group] = -np.inf
        best = similar.argmax(axis=1)
        return [
            known[column].answer if np.isfinite(similar[row, column]) else None
            for row, column in enumerate(best)
        ]

    return Rival(NEAREST, answer)


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
