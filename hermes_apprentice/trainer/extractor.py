"""Train the extractor that lives on the frozen embedder: a chain per track, a head per choice.

Where cross-validation says so, small networks on the words' states speak beside the chains.

Every figure it reports, and its confidence, come from cross-validation by
groups of near-duplicates; the model itself is then fitted on everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.errors import TrainingError
from hermes_apprentice.inference.chain import Chain
from hermes_apprentice.inference.confidence import Calibration, Typicality
from hermes_apprentice.inference.decoding import SIGNALS
from hermes_apprentice.inference.elements import element_bag, element_state
from hermes_apprentice.inference.extractor import Extractor, View
from hermes_apprentice.inference.features import neighbourhoods, word_features, word_states
from hermes_apprentice.inference.head import SoftmaxHead, bag_of
from hermes_apprentice.inference.perceptron import Perceptron
from hermes_apprentice.inference.plan import HeadPlan, Source, list_name
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.calibrating import (
    choose_exemplars,
    fit_calibration,
    fit_typicality,
    held_out_typicality,
)
from hermes_apprentice.trainer.chain_fitting import ChainSettings, Features, fit_chain
from hermes_apprentice.trainer.folds import Fold, make_folds
from hermes_apprentice.trainer.head_fitting import HeadSettings, choose_head, fit_head
from hermes_apprentice.trainer.held_out import FLAGS, held_out_views, predict_held_out
from hermes_apprentice.trainer.perceptron_fitting import PerceptronSettings, fit_perceptron
from hermes_apprentice.trainer.planning import Lesson, Supervision, plan_answers
from hermes_apprentice.trainer.trained import Progress, Trained

NETWORK_WEIGHTS = (0.3, 0.6, 1.0)
"""How much networks may count beside the chains; 0 is tried as well."""

ENOUGH = 0.99
"""Agreement of the chains from which on no networks are tried."""

_NETWORK = PerceptronSettings(units=128)
_NETWORKS_SHARE = 0.6
"""Share of the time that is left which the networks may take."""

_FOLDS = 5
_FOLDS_WHEN_LARGE = 3
_LARGE = 15_000
"""Words from which on there are fewer folds."""


class _Prepared(NamedTuple):
    """Everything that is computed once per example."""

    features: Sequence[Features]
    states: Sequence[FloatArray]
    bags: Sequence[Sequence[str]]
    embeddings: FloatArray


class ExtractorFit(NamedTuple):
    """A trained extractor and what it was judged with."""

    lesson: Lesson
    """What the examples teach."""

    folds: Sequence[Fold]
    """The folds of the cross-validation."""

    fold_models: Sequence[Extractor]
    """The model of each fold; its confidence means nothing."""

    views: Sequence[View]
    """What the fold's model says of each example that it has not seen."""

    model: Extractor
    """Fitted on everything."""

    typical: NDArray[np.float64]
    """How typical each request is, by the others."""

    trained: Trained
    """For the worker."""


def train_extractor(
    shape: Shape,
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
    seed: int,
    progress: Progress,
    budget: Budget | None = None,
) -> ExtractorFit:
    """Train on all ``examples``.

    Args:
        shape: The shape of the answers.
        examples: What to learn from.
        encodings: What the embedder says of each.
        seed: For everything random.
        progress: Told how far the work is.
        budget: Where given, networks that would take more than the larger part of what is
            left are not made.

    Raises:
        TrainingError: An extractor cannot give such answers, or there are too few examples.
    """
    progress(0.0, "finding the answers' values in the requests")
    lesson = plan_answers(shape, examples)
    folds = lesson_folds(lesson, examples, seed)
    prepared = _prepare(lesson.supervision, examples, encodings)
    learner = _Learner(lesson, prepared, ChainSettings())
    settings = learner.choose_heads(folds)
    fold_models = []
    for number, fold in enumerate(folds):
        progress(0.1 + 0.4 * number / len(folds), f"cross-validation {number + 1}/{len(folds)}")
        fold_models.append(learner.model(fold.learn, settings))
    views = held_out_views(examples, encodings, folds, fold_models)
    held_out = predict_held_out(shape, examples, views, folds, fold_models)
    weight = 0.0
    networks: list[tuple[Perceptron, ...]] = []
    cut = "nothing"
    if fold_models[0].chains and held_out.right.mean() < ENOUGH:
        for number, fold in enumerate(folds):
            progress(0.5 + 0.3 * number / len(folds), f"networks {number + 1}/{len(folds)}")
            began = budget.used if budget else 0.0
            networks.append(learner.networks(fold.learn, seed))
            # One fit per fold and the last one on everything.
            if budget and (budget.used - began) * len(folds) > budget.left * _NETWORKS_SHARE:
                cut, networks = "networks", []
                break
    if networks:
        mixed = [
            replace(model, networks=own) for model, own in zip(fold_models, networks, strict=True)
        ]
        views = held_out_views(examples, encodings, folds, mixed)
        for tried in NETWORK_WEIGHTS:
            models = [replace(model, network_weight=tried) for model in mixed]
            found = predict_held_out(shape, examples, views, folds, models)
            if found.right.sum() > held_out.right.sum():
                weight, held_out, fold_models = tried, found, models
    progress(0.8, "fitting on all examples")
    groups = [example.group for example in examples]
    kept = choose_exemplars(len(examples), seed)
    typicality = fit_typicality(prepared.embeddings[kept], [groups[place] for place in kept])
    everything = np.arange(len(examples))
    model = replace(
        learner.model(everything, settings),
        networks=learner.networks(everything, seed) if weight else (),
        network_weight=weight,
        calibration=fit_calibration(held_out.signals, held_out.right, FLAGS),
        typicality=typicality,
    )
    typical = held_out_typicality(typicality, prepared.embeddings, groups, kept)
    trained = Trained(
        model=model,
        method=Method.CRF,
        held_out=held_out.predictions(folds, typical),
        right=held_out.right.tolist(),
        scores=held_out.scores(shape, examples),
        recipe={
            **learner.recipe(settings),
            "network.weight": f"{weight:g}",
            "network.cut": cut,
            "folds": str(len(folds)),
            "rebuilt": f"{lesson.rebuilt:.4f}",
        },
    )
    if not weight:
        views = [view._replace(beside=()) for view in views]
    return ExtractorFit(lesson, folds, fold_models, views, model, typical, trained)


def lesson_folds(lesson: Lesson, examples: Sequence[Example], seed: int) -> list[Fold]:
    """Return the folds that every extractor of these examples is judged on.

    Raises:
        TrainingError: All examples are near-duplicates of each other.
    """
    words = sum(len(item.words) for item in lesson.supervision)
    kinds = [tuple(sorted(item.choices.items())) for item in lesson.supervision]
    folds = make_folds(
        [example.group for example in examples],
        kinds,
        _FOLDS if words < _LARGE else _FOLDS_WHEN_LARGE,
        seed,
    )
    if not folds:
        raise TrainingError("all examples are near-duplicates of each other; collect more")
    return folds


class _Learner:
    """Fits chains and heads on any part of the examples."""

    def __init__(self, lesson: Lesson, prepared: _Prepared, settings: ChainSettings) -> None:
        self._plan = lesson.plan
        self._supervision = lesson.supervision
        self._prepared = prepared
        self._settings = settings
        self._names = [lesson.label_names(track) for track in range(self._plan.tracks)]

    def choose_heads(self, folds: Sequence[Fold]) -> dict[str, HeadSettings]:
        chosen = {}
        for head in self._plan.heads:
            data = self._data(head, np.arange(len(self._supervision)))
            inner = [
                Fold(*(np.flatnonzero(np.isin(data.owners, part)) for part in fold))
                for fold in folds
            ]
            chosen[head.name], _ = choose_head(
                data.embeddings,
                data.bags,
                data.classes,
                head.classes,
                [fold for fold in inner if len(fold.learn) and len(fold.predict)],
            )
        return chosen

    def model(self, places: NDArray[np.intp], settings: dict[str, HeadSettings]) -> Extractor:
        """Return an extractor fitted on some examples, not calibrated yet."""
        chains, heads = self._fit(places, settings)
        return Extractor(
            plan=self._plan,
            chains=chains,
            heads=heads,
            calibration=Calibration(weights=np.zeros(SIGNALS + 1), bias=0.0),
            typicality=Typicality(exemplars=self._prepared.embeddings[:0], usual=1, foreign=0),
        )

    def _fit(
        self, places: NDArray[np.intp], settings: dict[str, HeadSettings]
    ) -> tuple[tuple[Chain, ...], dict[str, SoftmaxHead]]:
        prepared = self._prepared
        placed = [n for n in places if self._supervision[n].labels is not None]
        chains = tuple(
            fit_chain(
                [prepared.features[n] for n in placed],
                [prepared.states[n] for n in placed],
                [_labels(self._supervision[n], track) for n in placed],
                names,
                self._settings,
            )
            for track, names in enumerate(self._names)
        )
        heads = {}
        for head in self._plan.heads:
            data = self._data(head, places)
            heads[head.name] = fit_head(
                data.embeddings, data.bags, data.classes, head.classes, settings[head.name]
            )
        return chains, heads

    def networks(self, places: NDArray[np.intp], seed: int) -> tuple[Perceptron, ...]:
        """Return a network per chain, fitted on some examples."""
        prepared = self._prepared
        placed = [n for n in places if self._supervision[n].labels is not None]
        inputs = np.concatenate([neighbourhoods(prepared.states[n]) for n in placed])
        seen = np.concatenate([prepared.states[n].any(axis=1) for n in placed])
        seen = seen if seen.any() else ~seen  # no embedder read any of them: nothing to tell
        found = []
        for track, names in enumerate(self._names):
            number = {name: place for place, name in enumerate(names)}
            classes = np.array(
                [number[label] for n in placed for label in _labels(self._supervision[n], track)],
                np.intp,
            )
            found.append(fit_perceptron(inputs[seen], classes[seen], len(names), _NETWORK, seed))
        return tuple(found)

    def recipe(self, settings: dict[str, HeadSettings]) -> dict[str, str]:
        used = self._settings
        chosen = {f"head.{path}": one.text for path, one in settings.items()}
        return {
            "chain.named_prior": f"{used.named_prior:g}",
            "chain.dense_prior": f"{used.dense_prior:g}",
            "chain.iterations": str(used.iterations),
            "tracks": str(self._plan.tracks),
            **chosen,
        }

    def _data(self, head: HeadPlan, places: NDArray[np.intp]) -> _HeadData:
        """Return what a decision is learned from: requests, or the elements of their lists."""
        prepared = self._prepared
        if head.field.source is Source.CHOICE and list_name(head.field):
            return _element_data(
                head.field.path, [(n, self._supervision[n]) for n in places], prepared.states
            )
        known = [n for n in places if head.name in self._supervision[n].choices]
        return _HeadData(
            np.array(known, np.intp),
            prepared.embeddings[known],
            [prepared.bags[n] for n in known],
            np.array([self._supervision[n].choices[head.name] for n in known], np.intp),
        )


class _HeadData(NamedTuple):
    owners: NDArray[np.intp]
    embeddings: FloatArray
    bags: Sequence[Sequence[str]]
    classes: NDArray[np.intp]


def _element_data(
    path: str, lessons: Sequence[tuple[int, Supervision]], states: Sequence[FloatArray]
) -> _HeadData:
    found = [
        (owner, lesson.words, one)
        for owner, lesson in lessons
        for one in lesson.elements.get(path, ())
    ]
    if not found:
        raise TrainingError(
            f"the elements that {path!r} belongs to could not be found in the requests"
        )
    return _HeadData(
        np.array([owner for owner, _, _ in found], np.intp),
        np.stack([element_state(states[owner], one.place) for owner, _, one in found]),
        [element_bag(words, one.place) for _, words, one in found],
        np.array([one.number for _, _, one in found], np.intp),
    )


def _labels(lesson: Supervision, track: int) -> Sequence[str]:
    return lesson.labels[track] if lesson.labels is not None else ()


def _prepare(
    supervision: Sequence[Supervision],
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
) -> _Prepared:
    words = [lesson.words for lesson in supervision]
    return _Prepared(
        features=[
            word_features(row, example.request)
            for row, example in zip(words, examples, strict=True)
        ],
        states=[word_states(row, encoding) for row, encoding in zip(words, encodings, strict=True)],
        bags=[bag_of(row) for row in words],
        embeddings=np.stack([encoding.embedding for encoding in encodings]),
    )
