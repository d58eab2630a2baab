"""How fast the embedder is, and how close int8 stays to float.

`ours` is the graph that serves (int8), `float32` the same network unquantised,
both measured in turns in the same run. The last line is one JSON object:
case -> method -> figures. Without ``--data``, a folder with CLINC150, invented
sentences are embedded. Single texts run on one thread, as in the sidecar;
the batch uses ``--threads`` (all cores by default).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import platformdirs

from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, Precision, open_embedder
from hermes_apprentice.embedding.store import ModelStore

METHODS: dict[str, Precision] = {"ours": "int8", "float32": "float32"}
LENGTHS = (32, 128)
SPECIAL_TOKENS = 2

Figures = dict[str, dict[str, dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds clinc150/data_full.json")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--model", default=MINILM.name)
    parser.add_argument("--texts", type=int, default=1000, help="texts in the batch")
    parser.add_argument("--repeats", type=int, default=150, help="passes per single-text figure")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    options = parser.parse_args()

    store = ModelStore(options.models)
    texts = read_texts(options.data, options.texts)

    def report(message: str) -> None:
        print(message, file=sys.stderr)

    def opened(threads: int) -> dict[str, OnnxEmbedder]:
        return {
            method: open_embedder(
                store, options.model, threads=threads, progress=report, precision=precision
            )
            for method, precision in METHODS.items()
        }

    single, parallel = opened(1), opened(options.threads)
    figures: Figures = {"graph": graph_figures(store, single)}
    for length in LENGTHS:
        text = text_of_length(single["ours"], texts, length)
        figures[f"single_{length}_tokens"] = single_figures(single, text, options.repeats)
    figures["batch"] = batch_figures(parallel, texts, options.threads)
    figures["fidelity"] = fidelity_figures(single, texts[:300])

    if not options.json:
        for case, methods in figures.items():
            for method, values in methods.items():
                row = "  ".join(f"{name} {value:g}" for name, value in values.items())
                print(f"{case:20} {method:8} {row}")
    print(json.dumps(figures))


def read_texts(data: Path | None, count: int) -> list[str]:
    """Return ``count`` texts, spread over the intents of CLINC150's test split if it is there."""
    if data is not None:
        rows = json.loads((data / "clinc150" / "data_full.json").read_text())["test"]
        texts = [text for text, _ in rows]
        step = max(1, len(texts) // count)
        return texts[::step][:count]
    parts = (
        ("please", "could you", "I would like you to", "when you can,"),
        ("move", "cancel", "look up", "confirm", "describe", "compare"),
        ("the booking", "my last order", "tomorrow's meeting", "the lease", "both quotes"),
        ("for Anneke", "before Friday", "in one sentence", "in Spanish", "with the total in euros"),
        ("", "and tell me when it is done", "unless it was done already"),
    )
    made = [" ".join(chosen).strip() for chosen in product(*parts)]
    return [made[(place * 7) % len(made)] for place in range(count)]


def text_of_length(embedder: OnnxEmbedder, texts: Sequence[str], tokens: int) -> str:
    """Return the head of the joined texts that has ``tokens`` tokens, special ones included."""
    joined = " ".join(texts[:200])
    (encoding,) = embedder.encode([joined])
    return joined[: int(encoding.offsets[tokens - SPECIAL_TOKENS - 1, 1])]


def graph_figures(
    store: ModelStore, embedders: dict[str, OnnxEmbedder]
) -> dict[str, dict[str, float]]:
    """Return the size of each graph, and how long it takes to open."""
    found = {}
    for method, embedder in embedders.items():
        start = time.perf_counter()
        embedder.load()
        opened = time.perf_counter() - start
        size = (store.root / "graphs" / f"{embedder.digest}.onnx").stat().st_size
        found[method] = {"megabytes": round(size / 1e6, 1), "open_ms": round(opened * 1e3, 1)}
    return found


def single_figures(
    embedders: dict[str, OnnxEmbedder], text: str, repeats: int
) -> dict[str, dict[str, float]]:
    """Return the time of one text, tokenizer included; methods take turns, text by text."""
    times: dict[str, list[float]] = {method: [] for method in embedders}
    for repeat in range(repeats + 10):
        for method, embedder in embedders.items():
            start = time.perf_counter()
            embedder.embed([text])
            if repeat >= 10:
                times[method].append((time.perf_counter() - start) * 1e3)
    return {
        method: {
            "p50_ms": round(statistics.median(values), 3),
            "p95_ms": round(statistics.quantiles(values, n=20)[-1], 3),
        }
        for method, values in times.items()
    }


def batch_figures(
    embedders: dict[str, OnnxEmbedder], texts: Sequence[str], threads: int
) -> dict[str, dict[str, float]]:
    """Return the throughput over all texts, the better of two rounds taken in turns."""
    best = dict.fromkeys(embedders, 0.0)
    for _ in range(2):
        for method, embedder in embedders.items():
            embedder.embed(texts[:20])
            start = time.perf_counter()
            embedder.embed(texts)
            best[method] = max(best[method], len(texts) / (time.perf_counter() - start))
    return {
        method: {"texts_per_s": round(value), "texts": len(texts), "threads": threads}
        for method, value in best.items()
    }


def fidelity_figures(
    embedders: dict[str, OnnxEmbedder], texts: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the cosine of each method's embeddings to the float ones."""
    exact = embedders["float32"].embed(texts)
    found = {}
    for method, embedder in embedders.items():
        cosines = (embedder.embed(texts) * exact).sum(axis=1)
        found[method] = {
            "cosine_mean": round(float(cosines.mean()), 5),
            "cosine_min": round(float(cosines.min()), 5),
        }
    return found


if __name__ == "__main__":
    main()
