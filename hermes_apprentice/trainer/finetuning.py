"""Train the extractor with a fine-tuned encoder, with the training environment's help.

The encoder is fine-tuned in another interpreter (`trainer/finetuned.py`); here
its held-out scores are mixed with those of the chains, the weight of the mixture
is chosen, and the network is written as an ONNX graph. Torch is not needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.training import Method, TrainingJob
from hermes_apprentice.embedding.catalogue import TOKENIZER, WEIGHTS
from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.embedding.graph import Head, write_encoder
from hermes_apprentice.embedding.quantisation import quantize
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import MissingExtraError, TrainingError
from hermes_apprentice.inference.finetuned import FinetunedExtractor
from hermes_apprentice.inference.network import (
    GRAPH_FILE,
    TOKENIZER_FILE,
    Network,
    head_name,
)
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.calibrating import fit_calibration
from hermes_apprentice.trainer.extractor import ExtractorFit
from hermes_apprentice.trainer.finetuned import HEAD, HELD_OUT_FILE, REPORT_FILE, WEIGHTS_FILE
from hermes_apprentice.trainer.folds import make_folds
from hermes_apprentice.trainer.held_out import FLAGS, HeldOut, predict_held_out
from hermes_apprentice.trainer.outcome import (
    LEAST_SECONDS,
    Outcome,
    cut_of,
    pass_on,
    seconds_for,
    share_of_first,
)
from hermes_apprentice.trainer.trained import Progress, Trained, part_of

WEIGHTS_TRIED = (0.1, 0.2, 0.35, 0.6, 1.0)
"""Weights of the encoder's scores that are tried; small, for it is far surer than it should be."""

MIN_GAIN = 0.01
"""Gain in agreement on the first fold below which fine-tuning is not carried on with."""

MAX_INT8_CHANGE = 0.005
"""Share of words whose label may change in int8 before the graph is kept in float."""

SCRATCH_PREFIX = ".finetuning-"
"""Start of the name of the folder that texts and weights are exchanged in."""

_USUAL_WEIGHT = 0.3
_FOLDS = 3
_FOLDS_WHEN_LARGE = 2
_LARGE = 600
_THREADS = 2


class Source(NamedTuple):
    """What is fine-tuned."""

    python: str
    """Interpreter of the training environment."""

    weights: Path
    """Weights of the embedder."""

    tokenizer: Path
    """Its tokenizer."""

    config: EncoderConfig
    """Its form."""


def finetuner(job: TrainingJob, store: ModelStore, name: str) -> Finetuner | None:
    """Return what fine-tunes for this job, or ``None`` where nothing can.

    Raises:
        MissingExtraError: The job insists on fine-tuning, without a training environment.
    """
    if not job.train_python:
        if job.method is Method.FINETUNED:
            raise MissingExtraError("fine-tuning an encoder", "train")
        return None
    source = Source(
        job.train_python,
        store.file(name, WEIGHTS),
        store.file(name, TOKENIZER),
        store.catalogue[name].encoder,
    )
    return Finetuner(source, Path(job.output_dir))


class Finetuner:
    """Improves a trained extractor by a fine-tuned encoder."""

    def __init__(self, source: Source, scratch: Path) -> None:
        """Work in a folder below ``scratch``, which ends with this object."""
        self._source = source
        # The network's files must outlive the training until they are saved.
        self._folder = tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=scratch)

    def __call__(
        self,
        light: ExtractorFit,
        shape: Shape,
        examples: Sequence[Example],
        seed: int,
        progress: Progress,
        budget: Budget,
        insist: bool,
    ) -> Trained | None:
        """Return the improved extractor, or ``None`` if the first fold shows no gain.

        Args:
            light: The extractor without a fine-tuned encoder.
            shape: The shape of the answers.
            examples: What it was trained on.
            seed: For everything random.
            progress: Told how far the work is.
            budget: What is left of the time.
            insist: Carry on whatever the first fold says.
        """
        groups = [example.group for example in examples]
        count = _FOLDS if len(examples) <= _LARGE else _FOLDS_WHEN_LARGE
        parts = [
            fold.predict.tolist() for fold in make_folds(groups, [0] * len(groups), count, seed)
        ]
        task = self._task(light, examples, seed)
        shares = share_of_first(len(examples), parts)
        first = self.run_task(
            {**task, "folds": parts[:1], "seconds": seconds_for(budget, shares)},
            part_of(progress, 0.0, 0.25),
        )
        budget.spend(first.seconds)
        extra = _blank(light)
        _fill(extra, first.held_out)
        if not insist and _gain(light, shape, examples, extra, parts[0]) < MIN_GAIN:
            return None
        rest = {
            **task,
            "folds": parts[1:],
            "epochs": first.epochs,
            "final": True,
            "seconds": seconds_for(budget, 1.0),
        }
        second = self.run_task(rest, part_of(progress, 0.25, 0.95))
        budget.spend(second.seconds)
        _fill(extra, second.held_out)
        weight, held_out = _best_mixture(light, shape, examples, extra)
        progress(0.96, "writing the network")
        precision = self.write_network(
            len(light.model.chains), lambda left, right: _changed(left, right, light, examples)
        )
        folder = Path(self._folder.name)
        model = FinetunedExtractor(
            extractor=replace(
                light.model, calibration=fit_calibration(held_out.signals, held_out.right, FLAGS)
            ),
            network=Network(folder / GRAPH_FILE, folder / TOKENIZER_FILE, len(light.model.chains)),
            weight=weight,
            folder=folder,
        )
        return Trained(
            model=model,
            method=Method.FINETUNED,
            held_out=held_out.predictions(light.folds, light.typical),
            right=held_out.right.tolist(),
            scores=held_out.scores(shape, examples),
            recipe={
                **light.trained.recipe,
                "finetuned.epochs": str(first.epochs),
                "finetuned.weight": f"{weight:g}",
                "finetuned.precision": precision,
                "finetuned.folds": str(len(parts)),
                "finetuned.cut": cut_of(first, second),
            },
        )

    def _task(self, light: ExtractorFit, examples: Sequence[Example], seed: int) -> dict[str, Any]:
        names = [chain.labels for chain in light.model.chains]
        numbers = [{label: place for place, label in enumerate(row)} for row in names]
        texts = [
            {
                "text": example.request,
                "labels": None
                if lesson.labels is None
                else [
                    [number[label] for label in row]
                    for number, row in zip(numbers, lesson.labels, strict=True)
                ],
            }
            for example, lesson in zip(examples, light.lesson.supervision, strict=True)
        ]
        return self.task([len(row) for row in names], texts, seed, whole=False)

    @property
    def folder(self) -> Path:
        """Where the network's files are; it ends with this object."""
        return Path(self._folder.name)

    def task(
        self, tracks: Sequence[int], texts: Sequence[dict[str, Any]], seed: int, *, whole: bool
    ) -> dict[str, Any]:
        """Return a task for the training environment, without folds.

        Args:
            tracks: How many labels there are, per track.
            texts: Each text with the labels of its words, or of the whole, per track.
            seed: For everything random.
            whole: Whether texts are labelled as a whole.
        """
        config = self._source.config
        return {
            "weights": str(self._source.weights),
            "tokenizer": str(self._source.tokenizer),
            "output": self._folder.name,
            "prefix": config.prefix,
            "layers": config.layers,
            "heads": config.heads,
            "layer_norm_eps": config.layer_norm_eps,
            "tracks": list(tracks),
            "whole": whole,
            "texts": list(texts),
            "seed": seed,
            "threads": _THREADS,
            "epochs": 0,
            "final": False,
            "seconds": LEAST_SECONDS,
        }

    def run_task(self, task: dict[str, Any], progress: Progress) -> Outcome:
        """Run one task in the training environment.

        Raises:
            TrainingError: It failed; its last words are in the message.
        """
        from hermes_apprentice.settings import child_environment

        folder = Path(self._folder.name)
        (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
        command = [
            self._source.python,
            "-m",
            "hermes_apprentice.trainer.finetuned",
            str(folder / "task.json"),
            str(os.getpid()),
        ]
        environment = child_environment(
            OMP_NUM_THREADS=str(_THREADS),
            # Threads that wait must not spin: on a busy machine that takes the work's own cores.
            OMP_WAIT_POLICY="PASSIVE",
            GOMP_SPINCOUNT="0",
            TOKENIZERS_PARALLELISM="false",
            HF_HUB_OFFLINE="1",
        )
        errors = folder / "errors.txt"
        with errors.open("wb") as error_stream:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=error_stream,
                env=environment,
                text=True,
            )
            try:
                for line in child.stdout or ():
                    pass_on(line, progress)
            finally:
                status = child.wait()
        if status != 0:
            lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise TrainingError(f"fine-tuning ended with status {status}: {' | '.join(lines[-5:])}")
        report = json.loads((folder / REPORT_FILE).read_bytes())
        held_out: dict[tuple[int, int], NDArray[np.float64]] = {}
        if task["folds"]:
            with np.load(folder / HELD_OUT_FILE, allow_pickle=False) as stored:
                for name in stored.files:
                    place, _, track = name.partition("/")
                    held_out[int(place), int(track)] = stored[name].astype(np.float64)
        return Outcome(
            int(report["epochs"]),
            held_out,
            int(report["planned"]),
            int(report["wanted"]),
            float(report["seconds"]),
            float(report["share"]),
        )

    def write_network(self, count: int, changed_by: Callable[[Network, Network], float]) -> str:
        """Write graph and tokenizer; return the precision that was kept.

        Args:
            count: How many outputs the graph has.
            changed_by: Tells the share of decisions that differ between two networks.
        """
        from safetensors.numpy import load_file

        folder = Path(self._folder.name)
        tensors = load_file(folder / WEIGHTS_FILE)
        tracks = range(count)
        heads = [
            Head(
                name=head_name(track),
                weight=tensors[f"{HEAD}{track}.weight"],
                bias=tensors[f"{HEAD}{track}.bias"],
                input="tokens",
            )
            for track in tracks
        ]
        config = replace(self._source.config, prefix="")
        plain, small = folder / "float32.onnx", folder / "int8.onnx"
        tokenizer = folder / TOKENIZER_FILE
        tokenizer.write_bytes(self._source.tokenizer.read_bytes())
        write_encoder(tensors, config, plain, heads=heads, outputs=())
        quantize(plain, small)
        networks = [Network(graph, tokenizer, len(heads)) for graph in (plain, small)]
        changed = changed_by(networks[0], networks[1])
        chosen = small if changed <= MAX_INT8_CHANGE else plain
        chosen.replace(folder / GRAPH_FILE)
        return f"{'int8' if chosen is small else 'float32'} ({changed:.2%} of labels differ)"


Extra = list[list[NDArray[np.float64]]]


def _blank(light: ExtractorFit) -> Extra:
    sizes = [len(chain.labels) for chain in light.model.chains]
    return [
        [np.zeros((len(lesson.words), size)) for size in sizes]
        for lesson in light.lesson.supervision
    ]


def _fill(extra: Extra, held_out: dict[tuple[int, int], NDArray[np.float64]]) -> None:
    for (place, track), table in held_out.items():
        extra[place][track] = table


def _gain(
    light: ExtractorFit,
    shape: Shape,
    examples: Sequence[Example],
    extra: Extra,
    part: Sequence[int],
) -> float:
    """Return how much more often the best mixture agrees, on one part of the examples."""
    plain = predict_held_out(shape, examples, light.views, light.folds, light.fold_models).right
    _, mixed = _best_mixture(light, shape, examples, extra)
    return float(mixed.right[part].mean() - plain[part].mean())


def _best_mixture(
    light: ExtractorFit,
    shape: Shape,
    examples: Sequence[Example],
    extra: Extra,
) -> tuple[float, HeldOut]:
    """Return the weight that agrees most often, the most usual one where several do."""
    tried = []
    for weight in WEIGHTS_TRIED:
        scaled = [[weight * table for table in tables] for tables in extra]
        found = predict_held_out(
            shape, examples, light.views, light.folds, light.fold_models, scaled
        )
        tried.append(
            (float(found.right.mean()), -abs(np.log(weight / _USUAL_WEIGHT)), weight, found)
        )
    _, _, weight, found = max(tried, key=lambda item: item[:2])
    return weight, found


def _changed(
    plain: Network, small: Network, light: ExtractorFit, examples: Sequence[Example]
) -> float:
    """Return the share of words whose best label differs between two networks."""
    differing = total = 0
    for example, lesson in list(zip(examples, light.lesson.supervision, strict=True))[:200]:
        left = plain.log_probabilities(example.request, lesson.words)
        right = small.log_probabilities(example.request, lesson.words)
        for one, other in zip(left, right, strict=True):
            differing += int((one.argmax(axis=1) != other.argmax(axis=1)).sum())
            total += len(one)
    return differing / max(1, total)
