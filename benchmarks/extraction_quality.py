"""How well the product's own trainers extract, on public requests with gold slots (Snips).

    .venv/bin/python benchmarks/extraction_quality.py --data DIR --json

Reads ``train_X_full.json`` and ``validate_X.json``, wherever they lie below DIR. A request's
slots become the JSON answer an upstream would give: every slot of the intent as a key,
``null`` where the request has none, a list where it has several. Training goes through the child
process of the product: the CRF alone, with the fine-tuned encoder, and as the product chooses
(``ours``). Without a training environment one is made, unless ``--no-finetuned`` is given.

``slot_f1`` is micro F1 over slots and values, ``exact`` the share of answers that
are right as a whole, both on the validation file. ``train_s`` includes all of
cross-validation, ``p50_ms`` is one answer beyond the embedding.
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
from pathlib import Path
from typing import Any

import platformdirs
from threadpoolctl import threadpool_limits

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.evaluation import agrees, f1
from hermes_apprentice.domain.shape import Kind, Shape
from hermes_apprentice.domain.shape_inference import fits, infer_shape
from hermes_apprentice.domain.training import Method, TrainingJob
from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.trainer.environment import (
    ENVIRONMENT_DIR,
    find_train_python,
    make_environment,
)
from hermes_apprentice.trainer.examples import write_dataset
from hermes_apprentice.trainer.jobs import run_training

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 3_600.0

Row = tuple[str, str]


def main() -> int:
    threadpool_limits(1)  # answers are timed on one thread, and the child decides for itself
    arguments = _arguments()
    store = ModelStore(arguments.models)
    embedder = open_embedder(store, arguments.embedder, threads=1)
    notes = []
    train_python = ""
    if arguments.finetuned:
        train_python = find_train_python("") or make_environment(ROOT / ENVIRONMENT_DIR, _say)
    else:
        notes.append("the fine-tuned encoder was left out")
    results: dict[str, Any] = {}
    for intent in arguments.intents.split(","):
        train = read_intent(arguments.data, f"train_{intent}_full.json", intent)
        test = read_intent(arguments.data, f"validate_{intent}.json", intent)
        slots = sorted({slot for _, found in train for slot in found})
        random.Random(arguments.seed).shuffle(train)
        for size in arguments.sizes.split(","):
            count = len(train) if size == "all" else int(size)
            case = f"{intent}@{size}"
            rows = [(text, answer_of(found, slots)) for text, found in train[:count]]
            held_out = [(text, answer_of(found, slots)) for text, found in test]
            results[case] = run_case(
                case, rows, held_out, embedder, arguments.models, train_python, arguments.seed
            )
            _say(f"{case}: {json.dumps(results[case])}")
    if notes:
        results["notes"] = notes
    print(json.dumps(results))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the files")
    parser.add_argument("--intents", default="GetWeather", help="names, separated by commas")
    parser.add_argument("--sizes", default="100,500,all", help="training requests")
    parser.add_argument("--seed", type=int, default=7, help="for subsets and training")
    parser.add_argument("--embedder", default=MINILM.name, help="name of the embedder")
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    parser.add_argument("--no-finetuned", dest="finetuned", action="store_false")
    parser.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    return parser.parse_args()


def read_intent(folder: Path, name: str, intent: str) -> list[tuple[str, dict[str, list[str]]]]:
    """Return each request of a file anywhere below a folder, with the values of its slots."""
    path = next(iter(sorted(folder.rglob(name))), None)
    if path is None:
        raise SystemExit(f"error: there is no {name} below {folder}")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    rows = []
    items = json.loads(text)
    if intent not in items:
        raise SystemExit(f"error: {path} holds {', '.join(items)}, not {intent}")
    for item in items[intent]:
        request = "".join(part["text"] for part in item["data"])
        found: dict[str, list[str]] = {}
        for part in item["data"]:
            value = part["text"].strip()
            if "entity" in part and value:
                found.setdefault(part["entity"], []).append(value)
        rows.append((request, found))
    return rows


def answer_of(found: dict[str, list[str]], slots: list[str]) -> str:
    """Return the answer that an upstream would give."""
    answer: dict[str, Any] = {}
    for slot in slots:
        values = found.get(slot, [])
        answer[slot] = values if len(values) > 1 else values[0] if values else None
    return json.dumps(answer, ensure_ascii=False)


def run_case(
    case: str,
    train: list[Row],
    test: list[Row],
    embedder: OnnxEmbedder,
    models: Path,
    train_python: str,
    seed: int,
) -> dict[str, dict[str, float | str]]:
    """Train by every method and score each on the test requests."""
    # Where the few answers with a list among texts are of another shape, they teach nothing.
    shape = infer_shape([text for text, _ in train], [answer for _, answer in train])
    examples = [
        Example(
            example_id=f"e{place}",
            group=text.lower(),
            split=Split.TRAIN,
            request=text,
            answer=answer,
            asked_at=float(place),
        )
        for place, (text, answer) in enumerate(train)
        if fits(shape, answer)
    ]
    figures: dict[str, dict[str, float | str]] = {}

    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        write_dataset(dataset, shape, examples)

        def figures_of(name: str, method: Method) -> dict[str, float | str]:
            output = Path(folder) / name
            job = TrainingJob(
                run_id=f"{case}-{name}",
                kind=Kind.EXTRACTOR,
                method=method,
                dataset_dir=str(dataset),
                output_dir=str(output),
                models_dir=str(models),
                embedder=embedder.name,
                train_python=train_python,
                seed=seed,
            )
            before = children_seconds()
            result = run_training(job, _progress(case, name), TIMEOUT)
            return {
                **score(output / "artefact", shape, test, embedder),
                "train_s": round(result.seconds, 1),
                "train_cpu_s": round(children_seconds() - before, 1),
                "method": result.method.value,
            }

        figures["crf"] = figures_of("crf", Method.CRF)
        # Without a training environment there is one way, so it is the one chosen.
        figures["ours"] = figures_of("ours", Method.AUTO) if train_python else figures["crf"]
        if train_python:
            # The same seed gives the same model, so what was chosen is not trained again.
            chosen = figures["ours"]["method"] == Method.FINETUNED.value
            figures["finetuned"] = (
                figures["ours"] if chosen else figures_of("finetuned", Method.FINETUNED)
            )
    return figures


def children_seconds() -> float:
    """Return the processor time of all finished children, which other work does not stretch."""
    times = os.times()
    return times.children_user + times.children_system


def score(
    artefact: Path, shape: Shape, test: list[Row], embedder: OnnxEmbedder
) -> dict[str, float | str]:
    """Return the figures of a trained model, loaded from its files."""
    model = load_model(artefact, embedder)
    texts, sure, seconds = [], [], []
    for request, _ in test:
        encodings = embedder.encode([request])
        started = time.perf_counter()
        (prediction,) = model.predict([request], encodings)
        seconds.append(time.perf_counter() - started)
        texts.append(prediction.text)
        sure.append(prediction.confidence)
    wanted = [answer for _, answer in test]
    right = [agrees(shape, text, answer) for text, answer in zip(texts, wanted, strict=True)]
    ranked = [hit for _, hit in sorted(zip(sure, right, strict=True), key=lambda pair: -pair[0])]
    kept = ranked[: round(0.95 * len(ranked))]
    return {
        "slot_f1": round(f1(shape, texts, wanted), 4),
        "exact": round(sum(right) / len(right), 4),
        "exact_at_95_coverage": round(sum(kept) / len(kept), 4),
        "p50_ms": round(1_000 * statistics.median(seconds), 2),
    }


def _progress(case: str, name: str) -> Any:
    if not sys.stderr.isatty():
        return lambda share, doing: None
    return lambda share, doing: print(
        f"\r{case} {name} {share:4.0%} {doing:<60.60}", end="", file=sys.stderr, flush=True
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ApprenticeError as error:
        raise SystemExit(f"error: {error}") from error
