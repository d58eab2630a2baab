"""The extractor that needs no network of its own: chains and heads over the embedder's states.

Knows nothing about training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.arrays import Arrays, read_groups, write_groups
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.chain import Chain
from hermes_apprentice.inference.confidence import (
    Calibration,
    Typicality,
    confidence_arrays,
    read_confidence,
)
from hermes_apprentice.inference.decoding import SIGNALS, Decoded, decode
from hermes_apprentice.inference.elements import ElementPlace, element_bag, element_state
from hermes_apprentice.inference.features import (
    neighbourhoods,
    reads_all,
    word_features,
    word_states,
)
from hermes_apprentice.inference.head import SoftmaxHead, bag_of, softmax
from hermes_apprentice.inference.perceptron import Perceptron, log_softmax
from hermes_apprentice.inference.plan import AnswerPlan, FieldPlan, Source, list_name
from hermes_apprentice.inference.words import Word, split_words

PLAN_FILE = "plan.json"
WEIGHTS_FILE = "weights.npz"


class View(NamedTuple):
    """What the parts of an extractor say of one request."""

    request: str
    """The text."""

    words: Sequence[Word]
    """Its words."""

    states: FloatArray
    """Theirs, shape ``(words, state_dimension)``."""

    scores: Sequence[NDArray[np.float64]]
    """The chains' scores of every word's labels, per track."""

    beside: Sequence[NDArray[np.float64]]
    """The networks' log-probabilities of the same, or nothing without networks."""

    choices: Mapping[str, NDArray[np.float64]]
    """Probabilities of each decision about the whole request, by name."""

    cut_off: bool
    """Whether the embedder's window ended before the request."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extractor:
    """A trained extractor."""

    plan: AnswerPlan
    """Where each field comes from."""

    chains: tuple[Chain, ...]
    """One per track of the plan."""

    heads: Mapping[str, SoftmaxHead]
    """One per decision of the plan, by name."""

    calibration: Calibration
    """Turns signals into a probability."""

    typicality: Typicality
    """What the training requests look like."""

    networks: tuple[Perceptron, ...] = ()
    """One per chain, or none: they read a word's state between those of its neighbours."""

    network_weight: float = 0.0
    """How much their log-probabilities count beside the chains' scores."""

    reads_encodings: bool = field(default=True, init=False)
    """It lives on the embedder's states."""

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request.

        Words beyond the embedder's window are tagged by their spelling and
        neighbours alone; what was learned about such requests is in the calibration.
        """
        if encodings is None:
            raise ArtefactError("this extractor needs the embedder's encodings")
        return [
            self.finish(*self.decode(request, encoding), encoding)
            for request, encoding in zip(requests, encodings, strict=True)
        ]

    def finish(self, decoded: Decoded, cut_off: bool, encoding: Encoding) -> Prediction:
        """Return an answer with its confidence."""
        signals = np.append(decoded.signals, float(cut_off))
        typical = self.typicality.of(encoding.embedding)
        return Prediction(decoded.text, self.calibration.probability(signals) * typical)

    def decode(
        self,
        request: str,
        encoding: Encoding,
        extra: Sequence[NDArray[np.float64]] | None = None,
    ) -> tuple[Decoded, bool]:
        """Return the answer with its signals, and whether the window was too short.

        Args:
            request: The text.
            encoding: What the embedder says of it.
            extra: Scores to add to every word's labels, per track.
        """
        return self.put_together(self.view(request, encoding), extra)

    def view(self, request: str, encoding: Encoding) -> View:
        """Return what the chains, the networks and the heads say, before they are weighed."""
        words = split_words(request)
        states = word_states(words, encoding)
        features = word_features(words, request)
        beside = []
        if self.networks:
            around = neighbourhoods(states)
            seen = states.any(axis=1)
            for network in self.networks:
                table = np.zeros((len(words), len(network.output_bias)))
                table[seen] = log_softmax(network.scores(around[seen]))
                beside.append(table)
        bag = bag_of(words) if self.heads else []
        return View(
            request,
            words,
            states,
            [chain.emissions(features, states) for chain in self.chains],
            beside,
            {
                head.name: softmax(self.heads[head.name].scores(encoding.embedding, bag))
                for head in self.plan.heads
                if head.field.source is Source.SET or not list_name(head.field)
            },
            not reads_all(words, encoding),
        )

    def put_together(
        self, view: View, extra: Sequence[NDArray[np.float64]] | None = None
    ) -> tuple[Decoded, bool]:
        """Return the answer of a view; see `decode`."""
        scores = list(view.scores)
        if view.beside:
            scores = [
                own + self.network_weight * more
                for own, more in zip(scores, view.beside, strict=True)
            ]
        if extra is not None:
            scores = [own + more for own, more in zip(scores, extra, strict=True)]
        required = self.plan.required
        taggings = [
            chain.tag(table, required) for chain, table in zip(self.chains, scores, strict=True)
        ]

        def judge(field: FieldPlan, place: ElementPlace) -> NDArray[np.float64]:
            head = self.heads[field.path]
            bag = element_bag(view.words, place)
            return softmax(head.scores(element_state(view.states, place), bag))

        decoded = decode(self.plan, view.request, view.words, taggings, view.choices, judge)
        return decoded, view.cut_off

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``."""
        groups: dict[str, Arrays] = {
            f"chain{track}": chain.to_arrays() for track, chain in enumerate(self.chains)
        }
        for place, head in enumerate(self.plan.heads):
            groups[f"head{place}"] = self.heads[head.name].to_arrays()
        for track, network in enumerate(self.networks):
            groups[f"network{track}"] = network.to_arrays()
        if self.networks:
            groups["mixture"] = {"weight": np.array(self.network_weight)}
        groups["confidence"] = confidence_arrays(self.calibration, self.typicality)
        write_groups(folder / WEIGHTS_FILE, groups)
        (folder / PLAN_FILE).write_text(self.plan.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Extractor:
        """Return the model that `save` wrote.

        Raises:
            ArtefactError: A file is missing, damaged or does not fit the others.
        """
        plan = read_plan(folder)
        groups = read_groups(folder / WEIGHTS_FILE)
        chains = tuple(Chain.from_arrays(_group(groups, f"chain{n}")) for n in range(plan.tracks))
        heads = {
            head.name: SoftmaxHead.from_arrays(_group(groups, f"head{place}"))
            for place, head in enumerate(plan.heads)
        }
        if any(len(heads[head.name].bias) != head.classes for head in plan.heads):
            raise ArtefactError()
        known = {span.path for span in plan.of(Source.SPAN)}
        if any(label[2:] not in known for chain in chains for label in chain.labels[1:]):
            raise ArtefactError()
        networks = tuple(
            Perceptron.from_arrays(groups[f"network{track}"])
            for track in range(plan.tracks)
            if f"network{track}" in groups
        )
        if networks and not _belong_together(networks, chains):
            raise ArtefactError()
        weight = np.array(0.0)
        if networks:
            weight = _group(groups, "mixture").get("weight", np.array(np.nan))
        if weight.shape != () or not np.isfinite(weight):
            raise ArtefactError()
        calibration, typicality = read_confidence(_group(groups, "confidence"), SIGNALS + 1)
        return cls(
            plan=plan,
            chains=chains,
            heads=heads,
            calibration=calibration,
            typicality=typicality,
            networks=networks,
            network_weight=float(weight),
        )


def _belong_together(networks: Sequence[Perceptron], chains: Sequence[Chain]) -> bool:
    return len(networks) == len(chains) and all(
        len(network.output_bias) == len(chain.labels)
        and len(network.hidden) == 3 * len(chain.dense)
        for network, chain in zip(networks, chains, strict=True)
    )


def read_plan(folder: Path) -> AnswerPlan:
    """Return the plan in a model's folder.

    Raises:
        ArtefactError: It is missing or damaged.
    """
    try:
        text = (folder / PLAN_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ArtefactError(f"{PLAN_FILE} cannot be read; train the specialist again") from exc
    return AnswerPlan.from_json(text)


def _group(groups: Mapping[str, dict[str, NDArray[Any]]], name: str) -> dict[str, NDArray[Any]]:
    try:
        return groups[name]
    except KeyError:
        raise ArtefactError() from None
