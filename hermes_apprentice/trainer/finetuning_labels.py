"""Train the classifier with a fine-tuned encoder, with the training environment's help.

As `finetuning` does for extractors: the encoder's held-out log-probabilities are mixed with those
of the head, and the weight of the mixture is chosen. Torch is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.inference.finetuned_classifier import FinetunedClassifier, mixed
from hermes_apprentice.inference.network import GRAPH_FILE, TOKENIZER_FILE, Network
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.classifier import JudgedClassifier, judged
from hermes_apprentice.trainer.finetuning import MIN_GAIN, Finetuner
from hermes_apprentice.trainer.folds import make_folds
from hermes_apprentice.trainer.outcome import cut_of, seconds_for, share_of_first
from hermes_apprentice.trainer.trained import Progress, Trained, part_of

WEIGHTS_TRIED = (0.5, 1.0, 2.0)
"""Weights of the encoder's log-probabilities that are tried."""

_FOLDS = 3
_FOLDS_WHEN_LARGE = 2
_LARGE = 600
_COMPARED = 200


def finetune_classifier(
    finetuner: Finetuner,
    light: JudgedClassifier,
    shape: Shape,
    examples: Sequence[Example],
    encodings: Sequence[Encoding],
    seed: int,
    progress: Progress,
    budget: Budget,
    *,
    insist: bool,
) -> Trained | None:
    """Return the improved classifier, or ``None`` if the first fold shows no gain.

    Args:
        finetuner: What fine-tunes.
        light: The classifier without a fine-tuned encoder.
        shape: The shape of the answers.
        examples: What it was trained on.
        encodings: Theirs.
        seed: For everything random.
        progress: Told how far the work is.
        budget: What is left of the time.
        insist: Carry on whatever the first fold says.
    """
    fit = light.fit
    classes, labels = fit.classes, fit.model.labels
    groups = [example.group for example in examples]
    count = _FOLDS if len(examples) <= _LARGE else _FOLDS_WHEN_LARGE
    parts = [fold.predict.tolist() for fold in make_folds(groups, classes.tolist(), count, seed)]
    texts = [
        {"text": example.request, "labels": [[int(number)]]}
        for example, number in zip(examples, classes, strict=True)
    ]
    task = finetuner.task([len(labels)], texts, seed, whole=True)
    share = share_of_first(len(examples), parts)
    first = finetuner.run_task(
        {**task, "folds": parts[:1], "seconds": seconds_for(budget, share)},
        part_of(progress, 0.0, 0.3),
    )
    budget.spend(first.seconds)
    extra = np.zeros((len(examples), len(labels)))
    _fill(extra, first.held_out)
    part = parts[0]
    plain = fit.scores[part].argmax(axis=1) == classes[part]
    weight = _best_weight(fit.scores[part], extra[part], classes[part])
    tuned = mixed(fit.scores[part], extra[part], weight).argmax(axis=1) == classes[part]
    if not insist and tuned.mean() - plain.mean() < MIN_GAIN:
        return None
    rest = {
        **task,
        "folds": parts[1:],
        "epochs": first.epochs,
        "final": True,
        "seconds": seconds_for(budget, 1.0),
    }
    second = finetuner.run_task(rest, part_of(progress, 0.3, 0.95))
    budget.spend(second.seconds)
    _fill(extra, second.held_out)
    weight = _best_weight(fit.scores, extra, classes)
    progress(0.96, "writing the network")
    precision = finetuner.write_network(1, lambda left, right: _changed(left, right, examples))
    folder = finetuner.folder
    heavy = judged(
        fit,
        shape,
        examples,
        np.stack([encoding.embedding for encoding in encodings]),
        mixed(fit.scores, extra, weight),
        Method.FINETUNED,
        {
            **light.trained.recipe,
            "finetuned.epochs": str(first.epochs),
            "finetuned.weight": f"{weight:g}",
            "finetuned.precision": precision,
            "finetuned.folds": str(len(parts)),
            "finetuned.cut": cut_of(first, second),
        },
    )
    model = FinetunedClassifier(
        classifier=heavy.fit.model,
        network=Network(folder / GRAPH_FILE, folder / TOKENIZER_FILE, 1),
        weight=weight,
        folder=folder,
    )
    return Trained(
        model=model,
        method=Method.FINETUNED,
        held_out=heavy.trained.held_out,
        right=heavy.trained.right,
        scores=heavy.trained.scores,
        recipe=heavy.trained.recipe,
    )


def _fill(
    extra: NDArray[np.float64], held_out: Mapping[tuple[int, int], NDArray[np.float64]]
) -> None:
    for (place, _), table in held_out.items():
        extra[place] = table[0]


def _best_weight(
    own: NDArray[np.float64], network: NDArray[np.float64], classes: NDArray[np.intp]
) -> float:
    """Return the weight that is right most often, the one nearest to 1 where several are."""

    def hits(weight: float) -> tuple[int, float]:
        right = mixed(own, network, weight).argmax(axis=1) == classes
        return int(right.sum()), -abs(float(np.log(weight)))

    return max(WEIGHTS_TRIED, key=hits)


def _changed(plain: Network, small: Network, examples: Sequence[Example]) -> float:
    """Return the share of texts whose best label differs between two networks."""
    texts = [example.request for example in examples[:_COMPARED]]
    differing = sum(
        int(plain.text_log_probabilities(text).argmax())
        != int(small.text_log_probabilities(text).argmax())
        for text in texts
    )
    return differing / max(1, len(texts))
