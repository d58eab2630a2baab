"""Choose how a specialist is trained, by cross-validation, and train it.

Knows nothing about processes or files of datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Kind, Shape
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Embedder, Encoding
from hermes_apprentice.errors import MissingExtraError, TrainingError
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.classifier import train_classifier
from hermes_apprentice.trainer.extractor import train_extractor
from hermes_apprentice.trainer.finetuning import Finetuner
from hermes_apprentice.trainer.finetuning_labels import finetune_classifier
from hermes_apprentice.trainer.trained import Progress, Trained, part_of

MIN_EXAMPLES = 10
"""Examples below which nothing can be learned and checked."""

ENOUGH = 0.97
"""Agreement from which on a fine-tuned encoder is not worth its minutes."""

_ENCODED_AT_ONCE = 64


def train(
    kind: Kind,
    method: Method,
    shape: Shape,
    examples: Sequence[Example],
    embedder: Embedder,
    seed: int,
    progress: Progress,
    finetune: Finetuner | None = None,
    *,
    drop_doubtful: bool = True,
    budget: Budget,
) -> Trained:
    """Train one specialist of a kind that runs in the sidecar.

    With ``Method.AUTO`` a classifier or an extractor is also given a fine-tuned encoder where
    ``finetune`` can make one and there is something left to gain; see `better`. With
    ``drop_doubtful`` a classifier's head does not learn from answers that are probably wrong.
    Work that does not fit the budget is left out, and the recipe says so.

    Raises:
        TrainingError: These examples cannot be learned this way, and why.
    """
    check_enough(examples)
    if kind is Kind.CLASSIFIER:
        return _train_classifier(
            method, shape, examples, embedder, seed, progress, finetune, drop_doubtful, budget
        )
    if method is Method.HEAD:
        raise TrainingError("an extractor is not trained by 'head'")
    if method is Method.FINETUNED and finetune is None:
        raise MissingExtraError("fine-tuning an encoder", "train")
    heavier = finetune if method in (Method.AUTO, Method.FINETUNED) else None
    end = 0.3 if heavier else 1.0
    encodings = _encode(embedder, examples, part_of(progress, 0.0, 0.1 * end))
    light = train_extractor(
        shape, examples, encodings, seed, part_of(progress, 0.1 * end, end), budget
    )
    insist = method is Method.FINETUNED
    if heavier is None or not light.model.chains:  # nothing is copied, so nothing is tagged
        return light.trained
    if not insist and light.trained.scores["agreement"] >= ENOUGH:
        return light.trained
    heavy = heavier(light, shape, examples, seed, part_of(progress, end, 1.0), budget, insist)
    if heavy is None:
        return light.trained
    return heavy if insist else better(light.trained, heavy)


def check_enough(examples: Sequence[Example]) -> None:
    """Raise `TrainingError` if there are too few examples to learn from."""
    if len(examples) < MIN_EXAMPLES:
        raise TrainingError(
            f"{len(examples)} examples to learn from are too few; {MIN_EXAMPLES} is the least"
        )


def _train_classifier(
    method: Method,
    shape: Shape,
    examples: Sequence[Example],
    embedder: Embedder,
    seed: int,
    progress: Progress,
    finetune: Finetuner | None,
    drop_doubtful: bool,
    budget: Budget,
) -> Trained:
    if method not in (Method.AUTO, Method.HEAD, Method.FINETUNED):
        raise TrainingError(f"a classifier is not trained by {method.value!r}")
    insist = method is Method.FINETUNED
    if insist and finetune is None:
        raise MissingExtraError("fine-tuning an encoder", "train")
    heavier = None if method is Method.HEAD else finetune
    end = 0.3 if heavier else 1.0
    encodings = _encode(embedder, examples, part_of(progress, 0.0, 0.4 * end))
    light = train_classifier(
        shape,
        examples,
        encodings,
        seed,
        part_of(progress, 0.4 * end, end),
        drop_doubtful=drop_doubtful,
    )
    enough = not insist and light.trained.scores["agreement"] >= ENOUGH
    if heavier is None or enough:
        return light.trained
    heavy = finetune_classifier(
        heavier,
        light,
        shape,
        examples,
        encodings,
        seed,
        part_of(progress, end, 1.0),
        budget,
        insist=insist,
    )
    if heavy is None:
        return light.trained
    return heavy if insist else better(light.trained, heavy)


def better(light: Trained, heavy: Trained) -> Trained:
    """Return the one that agrees more often with held-out answers; ``light`` if they tie.

    ``heavy`` is larger and a little slower, yet no bar beyond a win is set: with a hundred examples
    a real gain of several points would not clear one.
    """
    pairs = list(zip(light.right, heavy.right, strict=True))
    won = sum(new and not old for old, new in pairs)
    lost = sum(old and not new for old, new in pairs)
    compared = {
        f"cv.{one.method.value}.{name}": f"{value:.4f}"
        for one in (light, heavy)
        for name, value in one.scores.items()
    }
    best = heavy if won > lost else light
    return replace(best, recipe={**best.recipe, **compared})


def _encode(embedder: Embedder, examples: Sequence[Example], progress: Progress) -> list[Encoding]:
    encodings: list[Encoding] = []
    for start in range(0, len(examples), _ENCODED_AT_ONCE):
        progress(start / len(examples), "reading the requests")
        part = examples[start : start + _ENCODED_AT_ONCE]
        encodings += embedder.encode([example.request for example in part])
    if not all(
        np.isfinite(encoding.embedding).all() and np.isfinite(encoding.states).all()
        for encoding in encodings
    ):
        raise TrainingError(
            "the embedder gives numbers that are not finite; remove it from the model store, so "
            "that it is fetched again"
        )
    return encodings
