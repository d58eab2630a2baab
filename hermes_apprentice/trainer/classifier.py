"""Train the classifier: a head on what the frozen embedder says of a request.

Whether the head is linear or has a hidden layer, what it reads and its
regularisation are chosen by cross-validation; its confidence is calibrated on
cross-validated predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.evaluation import f1, label_key
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.training import DOUBTFUL, Method
from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.classifier import (
    SIGNALS,
    Classifier,
    familiarity,
    label_signals,
)
from hermes_apprentice.inference.confidence import Calibration, Typicality, nearness
from hermes_apprentice.inference.features import text_inputs
from hermes_apprentice.inference.head import SoftmaxHead, bag_of, softmax
from hermes_apprentice.inference.perceptron import Perceptron
from hermes_apprentice.inference.words import split_words
from hermes_apprentice.trainer.calibrating import (
    choose_exemplars,
    cross_calibrated,
    fit_calibration,
    typicality_of,
)
from hermes_apprentice.trainer.doubtful import doubtful, without
from hermes_apprentice.trainer.folds import Fold, make_folds
from hermes_apprentice.trainer.head_fitting import OPTIONS, choose_head, fit_head
from hermes_apprentice.trainer.perceptron_fitting import PerceptronSettings, fit_perceptron
from hermes_apprentice.trainer.trained import Progress, Trained

MIN_PER_LABEL = 2
"""Examples a label needs to be learned."""

_ODD_SHARE = 0.1
"""Share of the training requests that count as less than fully typical. Higher than for an
extractor, since a label is right or wrong as a whole and nothing else tells a stranger apart."""

_FOLDS = 5
_FOLDS_WHEN_LARGE = 2
_LARGE = 3_000
"""Examples from which on there are fewer folds, and the head is chosen on this many."""

_MANY_LABELS = 30
"""Labels above which heads over words would be large and slow to choose."""

_SOLVED = 0.995
"""Accuracy of a linear head beside which no other is tried."""

_DENSE_OPTIONS = tuple(option for option in OPTIONS if not option.bag)


class ClassifierFit(NamedTuple):
    """A trained classifier and what it was judged with."""

    model: Classifier
    """Fitted on everything."""

    classes: NDArray[np.intp]
    """Number of every example's label."""

    folds: Sequence[Fold]
    """The folds of the cross-validation."""

    exemplars: Sequence[NDArray[np.intp]]
    """Positions of the exemplars of each fold."""

    scores: NDArray[np.float64]
    """Held-out scores of all labels, shape ``(examples, labels)``."""


class JudgedClassifier(NamedTuple):
    """A trained classifier and what cross-validation said about it."""

    fit: ClassifierFit
    """The classifier."""

    trained: Trained
    """For the worker."""


def train_classifier(
    shape: Shape,
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
    seed: int,
    progress: Progress,
    *,
    drop_doubtful: bool = True,
) -> JudgedClassifier:
    """Train on all ``examples``, or on all but those whose answers are probably wrong.

    A second cross-validation without these decides; every answer counts in what it says.

    Raises:
        TrainingError: The answers are no labels, or there are fewer than two labels to tell apart.
    """
    labels, classes = _classes(shape, examples)
    groups = [example.group for example in examples]
    embeddings = np.stack([encoding.embedding for encoding in encodings])
    bags = [bag_of(split_words(example.request)) for example in examples]
    large = len(examples) > _LARGE
    folds = make_folds(groups, classes.tolist(), _FOLDS_WHEN_LARGE if large else _FOLDS, seed)
    if not folds:
        raise TrainingError("all examples are near-duplicates of each other; collect more")

    progress(0.1, "choosing the head")
    some = choose_exemplars(len(examples), seed, classes.astype(np.int32), _LARGE)
    inner = folds
    if large:
        some_groups = [groups[place] for place in some]
        inner = make_folds(some_groups, classes[some].tolist(), 2, seed) or folds
    picked = some if large else np.arange(len(examples))
    settings, accuracy = choose_head(
        embeddings[picked],
        [bags[place] for place in picked],
        classes[picked],
        len(labels),
        inner,
        OPTIONS if len(labels) <= _MANY_LABELS else _DENSE_OPTIONS,
    )
    inputs = np.stack([text_inputs(encoding) for encoding in encodings])
    deep = 0.0
    tried = None
    if accuracy < _SOLVED:
        tried = _network_scores(inputs[picked], classes[picked], len(labels), inner, seed)
        seen = np.concatenate([fold.predict for fold in inner])
        deep = float((tried[seen].argmax(axis=1) == classes[picked][seen]).mean())
    network = deep > accuracy

    def fit(places: NDArray[np.intp]) -> SoftmaxHead | Perceptron:
        if network:
            return fit_perceptron(
                inputs[places], classes[places], len(labels), PerceptronSettings(), seed
            )
        return fit_head(
            embeddings[places],
            [bags[place] for place in places],
            classes[places],
            len(labels),
            settings,
        )

    def cross_fit(parts: Sequence[Fold], start: float) -> NDArray[np.float64]:
        scores = np.zeros((len(examples), len(labels)))
        for number, fold in enumerate(parts):
            progress(
                start + 0.25 * number / len(parts), f"cross-validation {number + 1}/{len(parts)}"
            )
            head = fit(fold.learn)
            for place in fold.predict:
                scores[place] = (
                    head.scores(inputs[place])
                    if isinstance(head, Perceptron)
                    else head.scores(embeddings[place], bags[place])
                )
        return scores

    if network and tried is not None and not large:
        held_out = tried  # these very fits have just been made
    else:
        held_out = cross_fit(folds, 0.3)
    unfit = doubtful(softmax(held_out), classes, MIN_PER_LABEL)
    unfit &= drop_doubtful
    if unfit.any():
        fewer = without(folds, unfit)
        found = cross_fit(fewer, 0.55)
        # Counted on every answer, the doubtful ones as well: they are not learnt from, not denied.
        if (found.argmax(axis=1) == classes).sum() >= (held_out.argmax(axis=1) == classes).sum():
            folds, held_out = fewer, found
        else:
            unfit[:] = False
    exemplars = [
        fold.learn[choose_exemplars(len(fold.learn), seed, classes[fold.learn].astype(np.int32))]
        for fold in folds
    ]

    progress(0.8, "fitting on all examples")
    learnt = np.flatnonzero(~unfit)
    kept = learnt[choose_exemplars(len(learnt), seed, classes[learnt].astype(np.int32))]
    model = Classifier(
        labels=labels,
        head=fit(learnt),
        owners=classes[kept].astype(np.int32),
        calibration=Calibration(weights=np.zeros(SIGNALS), bias=0.0),
        typicality=Typicality(exemplars=embeddings[kept], usual=1.0, foreign=0.0),
    )
    recipe = {
        "head": "network on embedding+states" if network else settings.text,
        "head.linear_accuracy": f"{accuracy:.4f}",
        "head.network_accuracy": f"{deep:.4f}",
        "folds": str(len(folds)),
        "labels": str(len(labels)),
    }
    if unfit.any():
        recipe[DOUBTFUL] = str(int(unfit.sum()))
    bare = ClassifierFit(model, classes, folds, exemplars, held_out)
    return judged(bare, shape, examples, embeddings, held_out, Method.HEAD, recipe)


def judged(
    fit: ClassifierFit,
    shape: Shape,
    examples: Sequence[Example],
    embeddings: FloatArray,
    scores: NDArray[np.float64],
    method: Method,
    recipe: Mapping[str, str],
) -> JudgedClassifier:
    """Return a classifier with a confidence that follows from its held-out scores.

    Args:
        fit: The classifier; its confidence means nothing yet.
        shape: The shape of the answers.
        examples: All examples.
        embeddings: Theirs, shape ``(examples, dimension)``.
        scores: Held-out scores of all labels.
        method: How they came about.
        recipe: Settings, by name.
    """
    classes, labels = fit.classes, fit.model.labels
    given = scores.argmax(axis=1)
    signals = np.zeros((len(examples), SIGNALS))
    for fold, kept in zip(fit.folds, fit.exemplars, strict=True):
        for place in fold.predict:
            same = kept[classes[kept] == given[place]]
            near = nearness(embeddings[same] @ embeddings[place])
            signals[place] = label_signals(scores[place], near)
    right = given == classes
    spread = signals.std(axis=0)
    score_weight = float(spread[2] / spread[1]) if spread[1] > 0 else 0.0
    familiar = np.array([familiarity(row, score_weight) for row in signals])
    typicality = typicality_of(fit.model.typicality.exemplars, familiar, _ODD_SHARE)
    typical = np.array([typicality.from_similarity(value) for value in familiar])
    confidences = cross_calibrated(signals, right, fit.folds) * typical
    texts = [labels[number] for number in given]
    model = replace(
        fit.model,
        calibration=fit_calibration(signals, right),
        typicality=typicality,
        score_weight=score_weight,
    )
    trained = Trained(
        model=model,
        method=method,
        held_out=[
            Prediction(text, float(confidence))
            for text, confidence in zip(texts, confidences, strict=True)
        ],
        right=right.tolist(),
        scores={
            "agreement": float(right.mean()),
            "f1": f1(shape, texts, [example.answer for example in examples]),
        },
        recipe=dict(recipe),
    )
    return JudgedClassifier(fit._replace(model=model, scores=scores), trained)


def _network_scores(
    inputs: FloatArray, classes: NDArray[np.intp], count: int, folds: Sequence[Fold], seed: int
) -> NDArray[np.float64]:
    """Return the cross-validated scores of a head with a hidden layer."""
    scores = np.zeros((len(inputs), count))
    for fold in folds:
        network = fit_perceptron(
            inputs[fold.learn], classes[fold.learn], count, PerceptronSettings(), seed
        )
        scores[fold.predict] = network.scores(inputs[fold.predict])
    return scores


def _classes(shape: Shape, examples: Sequence[Example]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """Return the labels and the number of every example's label."""
    if shape.kind is not ShapeKind.LABEL or not shape.labels:
        raise TrainingError("a classifier needs answers that are labels from a small set")
    known = {label_key(label): label for label in reversed(shape.labels)}
    keys = [label_key(example.answer) for example in examples]
    strange = sorted({key for key in keys if key not in known})
    if strange:
        raise TrainingError(
            f"{len(strange)} answers of the dataset are not among its labels, such as "
            f"{strange[0]!r}; build the dataset again"
        )
    counts = {key: keys.count(key) for key in set(keys)}
    learnable = [key for key in known if counts.get(key, 0) >= MIN_PER_LABEL]
    if len(learnable) < 2:
        raise TrainingError(
            f"a classifier needs two labels with at least {MIN_PER_LABEL} examples each; "
            f"there are {len(learnable)}"
        )
    present = [key for key in map(label_key, shape.labels) if counts.get(key)]
    number = {key: place for place, key in enumerate(dict.fromkeys(present))}
    return tuple(known[key] for key in number), np.array([number[key] for key in keys], np.intp)
