"""How long a specialist on the CPU takes for one answer, on one thread.

    .venv/bin/python benchmarks/specialist_speed.py --json

Trains an extractor and classifiers on invented requests and times single answers: ``ours`` is one
answer beyond the embedding, which the sidecar has made by then, ``with_embedding`` includes it.
``p50_ms`` and ``p95_ms`` are wall-clock time, ``cpu_p50_ms`` is the thread's own time, which other
work on the machine disturbs less.
An extractor is timed at 32 and 128 word pieces, a classifier at 3 and 150 labels with each kind
of head (``linear``, ``network``). The last line is one JSON object: case -> method -> figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import platformdirs
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.inference.base import CpuModel
from hermes_apprentice.inference.classifier import Classifier
from hermes_apprentice.inference.confidence import Calibration, Typicality
from hermes_apprentice.inference.extractor import Extractor
from hermes_apprentice.inference.head import SoftmaxHead
from hermes_apprentice.inference.perceptron import Perceptron
from hermes_apprentice.trainer.extractor import train_extractor
from hermes_apprentice.trainer.perceptron_fitting import PerceptronSettings

TOWNS = ("Aldmere", "Bronnholm", "Castelvar", "Dunwick", "Esterby", "Falkrona")
GOODS = ("steel bolts", "red paint", "copper wire", "oak planks", "nails", "glue")
LENGTHS = (32, 128)
LABELS = (3, 150)
SPECIAL_TOKENS = 2
EXEMPLARS = 1_500
WARM_UP = 10

Figures = dict[str, dict[str, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=300, help="answers per figure")
    parser.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    arguments = parser.parse_args()
    embedder = open_embedder(ModelStore(arguments.models), MINILM.name, threads=1)
    results: dict[str, Figures] = {}
    extractor = trained_extractor(embedder)
    for length in LENGTHS:
        text = text_of(length, embedder)
        results[f"extractor_{length}_tokens"] = timed(extractor, text, embedder, arguments.repeats)
    text = text_of(LENGTHS[0], embedder)
    for count in LABELS:
        for name, make in (("linear", linear), ("network", network)):
            model = classifier(count, make, embedder)
            results[f"classifier_{count}_labels_{name}"] = timed(
                model, text, embedder, arguments.repeats
            )
    for case, figures in results.items():
        print(f"{case}: {json.dumps(figures)}", file=sys.stderr)
    print(json.dumps(results))
    return 0


def order(rng: random.Random) -> tuple[str, str]:
    """Return a request with the JSON of its lines."""
    lines = [
        (rng.choice(GOODS), rng.randint(2, 60), rng.choice(("box", "pallet")))
        for _ in range(rng.randint(1, 3))
    ]
    town = rng.choice(TOWNS)
    opening = rng.choice(("Please send", "We need", "Could you ship", "Order"))
    text = ", ".join(
        f"{count} {pack}{'es' if pack == 'box' else 's'} of {name}" for name, count, pack in lines
    )
    mess = rng.choice(("", " or sth else", " thx", " as last time"))
    answer = {
        "town": town,
        "lines": [{"name": name, "count": count, "pack": pack} for name, count, pack in lines],
    }
    return f"{opening} {text} to {town}{mess}", json.dumps(answer)


def orders() -> list[tuple[str, str]]:
    """Return what the extractor is trained on."""
    rng = random.Random(7)
    rows = [order(rng) for _ in range(120)]
    # A few wrong answers, so that there is something to gain for the networks as well.
    return rows + [(order(rng)[0], rows[place][1]) for place in range(12)]


def order_shape() -> Shape:
    """Return what the answers of orders look like."""
    rows = orders()
    return infer_shape([text for text, _ in rows], [answer for _, answer in rows])


def trained_extractor(embedder: Embedder) -> Extractor:
    """Train an extractor with chains, networks and choices; how well is measured elsewhere."""
    rows, shape = orders(), order_shape()
    examples = [
        Example(
            example_id=f"e{place}",
            group=f"g{place}",
            split=Split.TRAIN,
            request=text,
            answer=answer,
            asked_at=float(place),
        )
        for place, (text, answer) in enumerate(rows)
    ]
    encodings = embedder.encode([example.request for example in examples])
    return train_extractor(shape, examples, encodings, 7, lambda share, doing: None).model


def text_of(length: int, embedder: OnnxEmbedder) -> str:
    """Return a request of so many word pieces, the special ones included."""
    rng = random.Random(9)
    words = " and ".join(order(rng)[0] for _ in range(20)).split()
    for count in range(1, len(words)):
        text = " ".join(words[:count])
        if len(embedder.encode([text])[0].tokens) + SPECIAL_TOKENS >= length:
            return text
    raise SystemExit("the text is too short")


def classifier(
    count: int,
    make: Callable[[int, OnnxEmbedder], SoftmaxHead | Perceptron],
    embedder: OnnxEmbedder,
) -> Classifier:
    """Return a classifier with random weights: how long it takes does not depend on them."""
    rng = np.random.default_rng(7)
    exemplars = rng.normal(size=(EXEMPLARS, embedder.dimension)).astype(np.float32)
    return Classifier(
        labels=tuple(f"label {number}" for number in range(count)),
        head=make(count, embedder),
        owners=(np.arange(EXEMPLARS) % count).astype(np.int32),
        calibration=Calibration(weights=np.ones(3), bias=0.0),
        typicality=Typicality(exemplars=exemplars, usual=0.5, foreign=0.2),
    )


def linear(count: int, embedder: OnnxEmbedder) -> SoftmaxHead:
    """Return a linear head with random weights."""
    rng = np.random.default_rng(8)
    return SoftmaxHead(
        dense=rng.normal(size=(embedder.dimension, count)).astype(np.float32),
        vocabulary={},
        named=np.zeros((0, count), np.float32),
        bias=np.zeros(count, np.float32),
    )


def network(count: int, embedder: OnnxEmbedder) -> Perceptron:
    """Return a head with a hidden layer and random weights."""
    rng = np.random.default_rng(8)
    units, inputs = PerceptronSettings().units, embedder.dimension + embedder.state_dimension
    return Perceptron(
        hidden=rng.normal(size=(inputs, units)).astype(np.float32),
        hidden_bias=np.zeros(units, np.float32),
        output=rng.normal(size=(units, count)).astype(np.float32),
        output_bias=np.zeros(count, np.float32),
    )


def timed(model: CpuModel, text: str, embedder: OnnxEmbedder, repeats: int) -> Figures:
    """Return the times of single answers, in milliseconds."""
    beyond, whole = [], []
    for _ in range(repeats + WARM_UP):
        started = moment()
        encodings = embedder.encode([text])
        embedded = moment()
        model.predict([text], encodings)
        done = moment()
        beyond.append(done - embedded)
        whole.append(done - started)
    return {"ours": summary(beyond[WARM_UP:]), "with_embedding": summary(whole[WARM_UP:])}


def moment() -> NDArray[np.float64]:
    """Return wall-clock time and this thread's own time, in milliseconds."""
    return 1_000 * np.array([time.perf_counter(), time.thread_time()])


def summary(times: list[NDArray[np.float64]]) -> dict[str, float]:
    wall, own = np.array(times).T
    return {
        "p50_ms": round(float(np.median(wall)), 3),
        "p95_ms": round(float(np.quantile(wall, 0.95)), 3),
        "cpu_p50_ms": round(float(np.median(own)), 3),
    }


if __name__ == "__main__":
    raise SystemExit(main())
