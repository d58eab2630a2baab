"""How many of the tasks behind real requests the detector finds, and how pure its groups are.

Case `clinc150_requests`: the 4,500 test requests of CLINC150, 30 per intent,
without answers. An intent is found if a group of at least 14 has it in at
least 80 % of its requests; purity is over all requests in such groups. `ours` is the
detector's clustering, `linkage_0.78` single linkage at cosine 0.78, and
`hdbscan_pca48` HDBSCAN with leaf selection on 48 principal components.

Case `snips_with_answers` (where DIR/snips is there): four extraction tasks,
250 requests each with their JSON, among out-of-scope requests of CLINC150
answered in prose. A task is found if one group holds at least 80 % of its
requests with purity 0.8. `ours` uses the answers, `requests_only` does not.

The last line is one JSON object: case -> method -> figures.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from hermes_apprentice.detector.clustering import Labels, cluster
from hermes_apprentice.detector.merging import Corpus, settle
from hermes_apprentice.embedding.base import FloatArray
from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore

MATURE = 14
PURE = 0.8
WHOLE = 0.8
PER_TASK = 250
OTHERS = 300

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds clinc150/data_full.json")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    options = parser.parse_args()
    embedder = open_embedder(ModelStore(options.models), MINILM.name, pull=True)
    clinc = json.loads((options.data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    figures = {"clinc150_requests": requests_alone(clinc["test"], embedder.embed)}
    if (options.data / "snips").is_dir():
        figures["snips_with_answers"] = with_answers(
            options.data / "snips", [text for text, _ in clinc["oos_test"]], embedder.embed
        )
    if not options.json:
        for case, methods in figures.items():
            for method, values in methods.items():
                print(case, method, values, file=sys.stderr)
    print(json.dumps(figures))


def requests_alone(
    pairs: Sequence[tuple[str, str]], embed: Callable[[Sequence[str]], FloatArray]
) -> dict[str, Figures]:
    """Compare ways to cluster requests."""
    texts = [text for text, _ in pairs]
    truth = [intent for _, intent in pairs]
    vectors = embed(texts)
    cluster(vectors[:200], texts[:200])  # libraries are loaded and compiled outside of the clock

    def scored(method: Callable[[], Labels]) -> Figures:
        started = time.perf_counter()
        labels = method()
        seconds = time.perf_counter() - started
        return {**intents_found(labels, truth), "seconds": round(seconds, 2)}

    return {
        "ours": scored(lambda: cluster(vectors, texts)),
        "linkage_0.78": scored(lambda: single_linkage(vectors, 0.78)),
        "hdbscan_pca48": scored(lambda: hdbscan_pca(vectors, 48)),
    }


def intents_found(labels: Labels, truth: Sequence[str]) -> Figures:
    found: set[str] = set()
    hits = members = groups = 0
    for label in set(labels.tolist()) - {-1}:
        intents = Counter(truth[row] for row in np.flatnonzero(labels == label).tolist())
        size = intents.total()
        if size < MATURE:
            continue
        intent, count = intents.most_common(1)[0]
        groups, hits, members = groups + 1, hits + count, members + size
        if count >= PURE * size:
            found.add(intent)
    return {
        "intents_found": len(found),
        "purity": round(hits / max(1, members), 3),
        "groups": groups,
        "assigned": round(members / len(truth), 3),
    }


def single_linkage(vectors: FloatArray, cosine: float) -> Labels:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(csr_matrix(vectors @ vectors.T >= cosine), directed=False)
    return np.asarray(labels, dtype=np.int64)


def hdbscan_pca(vectors: FloatArray, dimensions: int) -> Labels:
    import warnings

    from sklearn.decomposition import PCA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN

        reduced = PCA(dimensions, svd_solver="full").fit_transform(vectors)
        labels = HDBSCAN(
            min_cluster_size=10,
            min_samples=1,  # the best of the settings tried for this baseline
            cluster_selection_method="leaf",
            core_dist_n_jobs=1,
        ).fit_predict(reduced.astype(np.float64))
    return np.asarray(labels, dtype=np.int64)


def with_answers(
    folder: Path, others: Sequence[str], embed: Callable[[Sequence[str]], FloatArray]
) -> dict[str, Figures]:
    """Show what the answers add, on tasks that are asked for in many ways."""
    rng = random.Random(0)
    rows = [row for path in sorted(folder.glob("train_*_full.json")) for row in snips(path, rng)]
    words = [word for text in others for word in text.split()]
    rows += [(text, " ".join(rng.choices(words, k=30)), "") for text in others[:OTHERS]]
    rng.shuffle(rows)
    requests, answers, truth = ([row[column] for row in rows] for column in range(3))
    corpus = Corpus(embed(requests), requests, answers)
    figures = {}
    started = time.perf_counter()
    labels = cluster(corpus.embeddings, requests)
    figures["requests_only"] = {
        **tasks_found([np.flatnonzero(labels == label) for label in set(labels) - {-1}], truth),
        "seconds": round(time.perf_counter() - started, 2),
    }
    groups = settle(labels, corpus)
    figures["ours"] = {
        **tasks_found([group.rows for group in groups], truth),
        "seconds": round(time.perf_counter() - started, 2),
    }
    return figures


def snips(path: Path, rng: random.Random) -> list[tuple[str, str, str]]:
    name = path.name.split("_")[1]
    items: list[Any] = json.loads(path.read_text(encoding="utf-8", errors="replace"))[name]
    rows = []
    for item in rng.sample(items, PER_TASK):
        values = {part["entity"]: part["text"].strip() for part in item["data"] if "entity" in part}
        rows.append(("".join(part["text"] for part in item["data"]), json.dumps(values), name))
    return rows


def tasks_found(groups: Sequence[Labels], truth: Sequence[str]) -> Figures:
    sizes = Counter(truth)
    found: set[str] = set()
    pieces = 0
    for rows in groups:
        tasks = Counter(truth[row] for row in rows.tolist())
        task, count = tasks.most_common(1)[0]
        pieces += bool(task) and len(rows) >= MATURE
        if task and count >= PURE * len(rows) and count >= WHOLE * sizes[task]:
            found.add(task)
    return {"tasks_found": len(found), "tasks": len(sizes) - 1, "pieces": pieces}


if __name__ == "__main__":
    main()
