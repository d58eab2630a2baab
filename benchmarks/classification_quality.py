"""How well the product's own trainer tells 150 intents apart, and knows what is none (CLINC150).

    .venv/bin/python benchmarks/classification_quality.py --data DIR --json

Reads ``clinc150/data_full.json`` below DIR. ``ours`` trains through the child process of the
product on 10, 50 or 100 requests per intent; ``centroid`` answers with the
intent whose mean embedding is nearest, with the cosine as confidence.

``accuracy`` is over the in-scope test requests; ``oos_recall`` is the share of
out-of-scope test requests below the confidence that 95 % of the in-scope test
requests reach. ``train_s`` includes cross-validation, ``p50_ms`` is one answer beyond the
embedding.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from threadpoolctl import threadpool_limits

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.training import Method, TrainingJob
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.trainer.examples import write_dataset
from hermes_apprentice.trainer.jobs import run_training

TIMEOUT = 3_600.0
KEPT = 0.95

Row = tuple[str, str]
Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds clinc150/")
    parser.add_argument("--sizes", default="10,50,100", help="requests per intent")
    parser.add_argument("--seed", type=int, default=7, help="for subsets and training")
    parser.add_argument("--embedder", default=MINILM.name, help="name of the embedder")
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    parser.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    arguments = parser.parse_args()
    threadpool_limits(1)  # answers are timed on one thread, and the child decides for itself
    embedder = open_embedder(ModelStore(arguments.models), arguments.embedder, threads=2)
    rows = json.loads((arguments.data / "clinc150" / "data_full.json").read_text("utf-8"))
    train = [(text, intent) for text, intent in rows["train"]]
    random.Random(arguments.seed).shuffle(train)
    test = [(text, intent) for text, intent in rows["test"]]
    inside = embedder.encode([text for text, _ in test])
    outside_texts = [text for text, _ in rows["oos_test"]]
    outside = embedder.encode(outside_texts)
    results: dict[str, dict[str, Figures]] = {}
    for size in map(int, arguments.sizes.split(",")):
        chosen = first_of_each(train, size)
        case = f"clinc150@{size}"
        results[case] = {
            "ours": ours(chosen, test, inside, outside_texts, outside, embedder, arguments),
            "centroid": centroid(chosen, test, inside, outside, embedder),
        }
        print(f"{case}: {json.dumps(results[case])}", file=sys.stderr, flush=True)
    print(json.dumps(results))
    return 0


def first_of_each(rows: Sequence[Row], count: int) -> list[Row]:
    """Return the first ``count`` rows of every intent."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if len(found[row[1]]) < count:
            found[row[1]].append(row)
    return [row for part in found.values() for row in part]


def ours(
    train: Sequence[Row],
    test: Sequence[Row],
    inside: Sequence[Encoding],
    outside_texts: Sequence[str],
    outside: Sequence[Encoding],
    embedder: OnnxEmbedder,
    arguments: Any,
) -> Figures:
    """Train in a child process, load the artefact, and score it."""
    labels = tuple(sorted({intent for _, intent in train}))
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=labels)
    examples = [
        Example(
            example_id=f"e{place}",
            group=f"g{place}",
            split=Split.TRAIN,
            request=text,
            answer=intent,
            asked_at=float(place),
        )
        for place, (text, intent) in enumerate(train)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "dataset", shape, examples)
        job = TrainingJob(
            run_id="benchmark",
            kind=Kind.CLASSIFIER,
            method=Method.AUTO,
            dataset_dir=f"{folder}/dataset",
            output_dir=f"{folder}/output",
            models_dir=str(arguments.models),
            embedder=embedder.name,
            train_python="",
            seed=arguments.seed,
        )
        before = os.times()
        result = run_training(job, lambda share, doing: None, TIMEOUT)
        after = os.times()
        artefact = Path(folder) / "output" / "artefact"
        size = sum(path.stat().st_size for path in artefact.iterdir())
        model = load_model(artefact, embedder)
    seconds, texts, sure = [], [], []
    for (text, _), encoding in zip(test, inside, strict=True):
        started = time.perf_counter()
        (answer,) = model.predict([text], [encoding])
        seconds.append(time.perf_counter() - started)
        texts.append(answer.text)
        sure.append(answer.confidence)
    unsure = [answer.confidence for answer in model.predict(outside_texts, outside)]
    return {
        **figures(texts, sure, unsure, test),
        "train_s": round(result.seconds, 1),
        "train_cpu_s": round(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system,
            1,
        ),
        "p50_ms": round(1_000 * statistics.median(seconds), 3),
        "size_mb": round(size / 1e6, 1),
    }


def centroid(
    train: Sequence[Row],
    test: Sequence[Row],
    inside: Sequence[Encoding],
    outside: Sequence[Encoding],
    embedder: OnnxEmbedder,
) -> Figures:
    """Answer with the intent whose mean embedding is nearest."""
    started = time.perf_counter()
    embeddings = embedder.embed([text for text, _ in train])
    intents = sorted({intent for _, intent in train})
    owners = np.array([intents.index(intent) for _, intent in train])
    centres = np.stack([embeddings[owners == n].mean(axis=0) for n in range(len(intents))])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    seconds = time.perf_counter() - started
    near = np.stack([encoding.embedding for encoding in inside]) @ centres.T
    far = np.stack([encoding.embedding for encoding in outside]) @ centres.T
    texts = [intents[number] for number in near.argmax(axis=1)]
    return {
        **figures(texts, near.max(axis=1).tolist(), far.max(axis=1).tolist(), test),
        "train_s": round(seconds, 1),
    }


def figures(
    texts: Sequence[str], sure: Sequence[float], unsure: Sequence[float], test: Sequence[Row]
) -> Figures:
    """Return accuracy in scope, and recall of what is out of scope."""
    threshold = float(np.quantile(sure, 1 - KEPT))
    right = [text == wanted for text, (_, wanted) in zip(texts, test, strict=True)]
    return {
        "accuracy": round(sum(right) / len(right), 4),
        "oos_recall": round(float((np.array(unsure) < threshold).mean()), 4),
    }


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ApprenticeError as error:
        raise SystemExit(f"error: {error}") from error
