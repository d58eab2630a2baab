"""How much of a pattern's traffic is routed to it at a given rate of false routes?

    .venv/bin/python benchmarks/routing_quality.py --data DIR [--file F.csv] --json

CLINC150 (Larson et al., 2019, CC BY 3.0) below DIR: some intents are patterns, half of the
others is seen as other traffic, the other half and the out-of-scope set are never seen. Coverage
is the share of held-out requests of the patterns that go to the right one, with the threshold at
which exactly the stated share of all held-out other requests is routed. ``promise`` is what users
get: the model's own thresholds, asked for 0.5 %, and what came of it. With ``--file`` a CSV with
the header ``text,label`` takes the place of the set (an empty label is other traffic);
``patterns`` says how many of its labels are patterns, which is half of them where they are few.

``bound`` repeats the promise with 100 drawings: 10 patterns of 40 requests, 1,000 other requests
to fit on, and counts in how many of them the held-out share of false routes stayed within what
was promised: on other requests of the same topics, which are like those fitted on (what the bound
is about), and on topics never seen (which no bound covers). ``prefilter`` says how many requests
the word filter turns away before the embedding. ``semantic_router`` is aurelio's package of that
name, given the same vectors, where ``--semantic-router`` names a Python that has it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.statistics.open_set import BACKGROUND, OpenSetModel, fit_open_set
from hermes_apprentice.statistics.word_filter import fit_word_filter

RATES = (0.001, 0.005, 0.01, 0.03)
CASES = ((20, 50), (20, 15), (75, 50))
SEEN_EACH = 50
PROMISED = 0.005
RUNS = 100
BOUND_PATTERNS, BOUND_EACH, BOUND_OTHER = 10, 40, 1_000
BATCH = 256

_SEMANTIC = """
import sys
import numpy as np
from semantic_router import Route
from semantic_router.encoders import DenseEncoder
from semantic_router.routers import IndexedRouter
given = np.load(sys.argv[1])
train, labels, asked = given["train"], given["labels"], given["asked"]
class Given(DenseEncoder):
    name: str = "given"
    def __call__(self, docs):
        return [(train if d[0] == "t" else asked)[int(d[1:])].tolist() for d in docs]
    async def acall(self, docs):
        return self(docs)
routes = [
    Route(name=str(k), utterances=[f"t{row}" for row in np.flatnonzero(labels == k)])
    for k in range(int(labels.max()) + 1)
]
router = IndexedRouter(Given(), routes)
found = [router(f"a{row}") for row in range(len(asked))]
score = np.array([-1.0 if one.name is None else one.confidence for one in found])
label = np.array([-1 if one.name is None else int(one.name) for one in found])
np.savez(sys.argv[2], score=score, label=label)
"""

Vectors = NDArray[np.float32]


class Pool(NamedTuple):
    """Embedded requests with their labels; an empty label is out of scope."""

    vectors: Vectors
    labels: NDArray[np.str_]
    texts: NDArray[np.str_]


class Task(NamedTuple):
    """One drawing of patterns, seen and unseen other traffic."""

    train: Vectors
    labels: NDArray[np.int64]
    own: Vectors
    own_labels: NDArray[np.int64]
    seen: Vectors
    unseen: Vectors
    train_texts: list[str]
    own_texts: list[str]
    other_texts: list[str]

    @property
    def other(self) -> Vectors:
        """All held-out other requests."""
        return np.vstack([self.seen, self.unseen])


class Scored(NamedTuple):
    """The best pattern of every request, and how well it fits."""

    score: NDArray[np.floating]
    label: NDArray[np.int64]


Method = Callable[[Task, Vectors], Scored]


def best(scores: NDArray[np.floating]) -> Scored:
    """Return the best column of each row."""
    return Scored(scores.max(axis=1), scores.argmax(axis=1))


def centroid(task: Task, vectors: Vectors) -> Scored:
    """Cosine to the mean of each pattern."""
    count = int(task.labels.max()) + 1
    centres = np.stack([task.train[task.labels == k].mean(axis=0) for k in range(count)])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return best(vectors @ centres.T)


def nearest(task: Task, vectors: Vectors) -> Scored:
    """Cosine to the nearest request of any pattern."""
    own = task.labels != BACKGROUND
    found = best(vectors @ task.train[own].T)
    return Scored(found.score, task.labels[own][found.label])


def logistic(task: Task) -> Method:
    """Multinomial logistic regression, other traffic being one more class."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10, max_iter=500).fit(task.train, task.labels)
    return lambda _, vectors: best(model.predict_proba(vectors)[:, 1:])


def ours(model: OpenSetModel) -> Method:
    """The product's own matcher."""
    return lambda _, vectors: best(model.scores(vectors))


def semantic_router(python: str) -> Method:
    """Let aurelio's router score the vectors, in its own environment."""

    def score(task: Task, vectors: Vectors) -> Scored:
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
            own = task.labels != BACKGROUND
            np.savez(given, train=task.train[own], labels=task.labels[own], asked=vectors)
            subprocess.run([python, "-c", _SEMANTIC, str(given), str(found)], check=True)
            with np.load(found) as arrays:
                return Scored(arrays["score"], arrays["label"])

    return score


def coverage(task: Task, method: Method) -> dict[str, float | None]:
    """Return the share routed rightly at each false-route rate; none without any to route."""
    if not (len(task.other) and len(task.own)):
        return {str(rate): None for rate in RATES}
    wrong = np.sort(method(task, task.other).score)[::-1]
    mine = method(task, task.own)
    right = mine.label == task.own_labels
    return {
        str(rate): float((right & (mine.score > wrong[int(rate * len(wrong))])).mean())
        for rate in RATES
    }


def mean(values: Sequence[Any], digits: int = 5) -> float | None:
    """Return the mean of what is there; of nothing there is none."""
    known = [float(value) for value in values if value is not None]
    return round(float(np.mean(known)), digits) if known else None


def promise(task: Task, model: OpenSetModel) -> dict[str, float | None]:
    """Return what the model's own thresholds promise and keep."""
    names = {name: index for index, name in enumerate(model.classes)}

    def decided(vectors: Vectors) -> list[int]:
        found = model.decide(vectors) if len(vectors) else []
        return [names.get(decision.label or "", BACKGROUND) for decision in found]

    def taken(vectors: Vectors) -> float | None:
        return mean([label != BACKGROUND for label in decided(vectors)])

    return {
        "asked": PROMISED,
        "proven": float(model.bound.achieved),
        "coverage": mean(np.array(decided(task.own)) == task.own_labels),
        "false_routes": taken(task.other),
        "false_routes_seen_topics": taken(task.seen),
        "false_routes_new_topics": taken(task.unseen),
    }


def draw(train: Pool, test: Pool, patterns: int, each: int, seed: int) -> Task:
    """Draw patterns and split the other labels into seen and unseen ones."""
    generator = np.random.default_rng(seed)
    names = generator.permutation(np.array(sorted(set(train.labels) - {""})))
    chosen, rest = names[:patterns], names[patterns:]
    known, unknown = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    rows, labels = [], []
    for place, name in enumerate([*chosen, *known]):
        found = generator.permutation(np.flatnonzero(train.labels == name))
        found = found[: each if place < patterns else SEEN_EACH]
        rows.append(found)
        labels += [place if place < patterns else BACKGROUND] * len(found)
    index = {name: place for place, name in enumerate(chosen)}
    own = np.isin(test.labels, chosen)
    picked = np.concatenate(rows)
    others = np.isin(test.labels, [*known, *unknown, ""])
    return Task(
        train_texts=train.texts[picked].tolist(),
        own_texts=test.texts[own].tolist(),
        other_texts=test.texts[others].tolist(),
        train=train.vectors[picked],
        labels=np.array(labels),
        own=test.vectors[own],
        own_labels=np.array([index[name] for name in test.labels[own]]),
        seen=test.vectors[np.isin(test.labels, known)],
        unseen=test.vectors[np.isin(test.labels, [*unknown, ""])],
    )


def bound(train: Pool, test: Pool, runs: int) -> dict[str, Any]:
    """Return in how many drawings the promise was kept, for topics seen and not seen.

    All rows of the topics seen are mixed and parted at random, so that those held out are
    exchangeable with those fitted on.
    """
    vectors = np.vstack([train.vectors, test.vectors])
    labels = np.concatenate([train.labels, test.labels])
    names = np.array(sorted(set(train.labels) - {""}))
    patterns = min(BOUND_PATTERNS, len(names) // 3)
    shares: dict[str, list[float]] = {"seen_topics": [], "new_topics": []}
    covered, proven = [], []
    for seed in range(runs):
        generator = np.random.default_rng(1_000 + seed)
        order = generator.permutation(names)
        chosen, rest = order[:patterns], order[patterns:]
        known = generator.permutation(np.flatnonzero(np.isin(labels, rest[: len(rest) // 2])))
        fitting = known[: min(BOUND_OTHER, len(known) // 2)]
        own, held = [], []
        for name in chosen:
            found = generator.permutation(np.flatnonzero(labels == name))
            own.append(found[:BOUND_EACH])
            held.append(found[BOUND_EACH : 2 * BOUND_EACH])
        rows = np.concatenate([*own, fitting])
        marks = [place for place, found in enumerate(own) for _ in found]
        marks += [BACKGROUND] * len(fitting)
        model = fit_open_set(
            vectors[rows], np.array(marks), tuple(map(str, range(patterns))), PROMISED, seed
        )
        new = np.flatnonzero(np.isin(labels, [*rest[len(rest) // 2 :], ""]))
        for key, found in (("seen_topics", known[len(fitting) :]), ("new_topics", new)):
            asked = model.decide(vectors[found]) if len(found) else []
            taken = [decision.label is not None for decision in asked]
            shares[key] += [float(np.mean(taken))] if taken else []
        own_held = np.concatenate(held)
        mine = model.decide(vectors[own_held]) if len(own_held) else []
        right = [str(place) for place, found in enumerate(held) for _ in found]
        covered.append(
            mean([decision.label == want for decision, want in zip(mine, right, strict=True)])
        )
        proven.append(model.bound.achieved)
    return {
        "runs": runs,
        "asked": PROMISED,
        "confidence": 0.95,
        "proven": int(np.sum(proven)),
        "coverage": mean(covered, 4),
        **{
            key: {
                "kept": int(np.sum(np.array(values) <= PROMISED)),
                "false_routes": mean(values),
                "worst": round(max(values), 5) if values else None,
            }
            for key, values in shares.items()
        },
    }


def prefilter(task: Task) -> dict[str, float | None]:
    """Return what the word filter turns away, and what it costs."""
    words = fit_word_filter(task.train_texts, task.labels, int(task.labels.max()) + 1)
    if words is None:
        return {"fitted": 0.0, "lost": 0.0, "lost_at_most": 0.0, "rejected": 0.0, "check_us": 0.0}
    started = time.perf_counter()
    rejected = [words.check(text).rejected for text in task.other_texts]
    each = (time.perf_counter() - started) / max(1, len(rejected))
    return {
        "fitted": 1.0,
        "lost": mean([words.check(text).rejected for text in task.own_texts]),
        "lost_at_most": words.evidence.upper,
        "rejected": mean(rejected),
        "check_us": 1e6 * each,
    }


def measure(
    train: Pool,
    test: Pool,
    patterns: int,
    each: int,
    seeds: int,
    *,
    semantic: str | None,
    with_logistic: bool,
) -> dict[str, Any]:
    """Return the mean figures of every method over the seeds."""
    runs: dict[str, list[Any]] = {}
    for seed in range(seeds):
        task = draw(train, test, patterns, each, seed)
        names = tuple(f"pattern-{place}" for place in range(int(task.labels.max()) + 1))
        started = time.perf_counter()
        model = fit_open_set(task.train, task.labels, names, PROMISED, seed)
        fitted = time.perf_counter() - started
        one = task.train[:1]
        started = time.perf_counter()
        for _ in range(200):
            model.decide(one)
        decided = (time.perf_counter() - started) / 200
        methods: dict[str, Method] = {
            "centroid": centroid,
            "nearest_neighbour": nearest,
            "ours": ours(model),
        }
        if with_logistic:
            methods["logistic"] = logistic(task)
        if semantic is not None:
            methods["semantic_router"] = semantic_router(semantic)
        runs.setdefault("prefilter", []).append(prefilter(task))
        for name, method in methods.items():
            runs.setdefault(name, []).append(coverage(task, method))
        runs.setdefault("promise", []).append(
            {**promise(task, model), "fit_s": fitted, "decide_ms": 1_000 * decided}
        )
    figures: dict[str, Any] = {
        name: {key: mean([run[key] for run in found]) for key in found[0]}
        for name, found in runs.items()
    }
    kept = [(run["false_routes"] or 0.0) <= PROMISED for run in runs["promise"]]
    figures["promise"]["runs_kept"] = mean(kept)
    return figures


def embed(embedder: Embedder, texts: Sequence[str], show: bool, cache: Path | None) -> Vectors:
    """Embed in batches, with a line of progress, or take what was kept for the same texts."""
    said = "\0".join([embedder.digest, RECIPE, *texts])
    kept = cache / f"{hashlib.sha256(said.encode()).hexdigest()}.npy" if cache else None
    if kept is not None and kept.exists():
        return np.asarray(np.load(kept), dtype=np.float32)
    parts = []
    for start in range(0, len(texts), BATCH):
        parts.append(matching_vectors(embedder.encode(texts[start : start + BATCH])))
        if show:
            print(f"\rembedding {start + len(parts[-1])}/{len(texts)}", end="", file=sys.stderr)
    if show:
        print(file=sys.stderr)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, np.vstack(parts))
    return np.vstack(parts)


def read_clinc(folder: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return training and test requests with their intents."""
    paths = sorted(folder.rglob("data_full.json"))
    if not paths:
        raise SystemExit(f"no data_full.json below {folder}; give the folder with CLINC150")
    data = json.loads(paths[0].read_text(encoding="utf-8"))
    test = [(text, label) for text, label in data["test"]]
    return [(text, label) for text, label in data["train"]], [
        *test,
        *((text, "") for text, _ in data["oos_test"]),
    ]


def read_csv(path: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return a file's requests, three of four for training."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [(row["text"], (row["label"] or "").strip()) for row in csv.DictReader(stream)]
    except (OSError, KeyError, UnicodeDecodeError, TypeError) as exc:
        raise SystemExit(f"{path} cannot be read as CSV with the header text,label: {exc}") from exc
    rows = sorted({(text.strip(), label) for text, label in rows if text and text.strip()})
    order = np.random.default_rng(0).permutation(len(rows))
    train = [rows[index] for place, index in enumerate(order) if place % 4]
    test = [rows[index] for place, index in enumerate(order) if place % 4 == 0]
    labels = {label for _, label in train} - {""}
    if len(labels) < 4:
        raise SystemExit(
            f"{path} has {len(labels)} labels among its training rows; at least 4 are needed"
        )
    return train, [row for row in test if row[1] in labels or not row[1]]


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with CLINC150's data_full.json below it")
    parser.add_argument("--file", type=Path, help="a CSV with the header text,label instead")
    parser.add_argument("--models", type=Path, help="model store; default: the user's cache")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--case", action="append", help="only this case; may be given again")
    parser.add_argument("--cache", type=Path, help="folder that keeps vectors between runs")
    parser.add_argument("--skip-logistic", action="store_true", help="spare its minutes")
    parser.add_argument("--runs", type=int, default=RUNS, help="drawings for the bound")
    parser.add_argument("--semantic-router", help="a Python with the package semantic-router")
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    options = parser.parse_args()
    if options.file is None and options.data is None:
        parser.error("give --data DIR or --file F.csv")
    train, test = read_csv(options.file) if options.file else read_clinc(options.data)
    models = options.models or platformdirs.user_cache_path("hermes-apprentice") / "models"
    embedder = open_embedder(ModelStore(models), "all-MiniLM-L6-v2", threads=2, pull=True)
    pools = [
        Pool(
            embed(embedder, [text for text, _ in rows], not options.json, options.cache),
            np.array([label for _, label in rows]),
            np.array([text for text, _ in rows]),
        )
        for rows in (train, test)
    ]
    available = len(set(pools[0].labels) - {""})
    semantic = options.semantic_router
    result: dict[str, Any] = {"patterns": {}}
    if semantic is None:
        result["semantic_router"] = "skipped: --semantic-router names no Python that has it"
    if options.runs:
        result["bound"] = bound(*pools, options.runs)
        if not options.json:
            print(f"bound: {result['bound']}", file=sys.stderr)
    for patterns, each in CASES:
        if options.case and f"{patterns}x{each}" not in options.case:
            continue
        # Of few labels, half are patterns, so that there is other traffic as well.
        fitting = patterns if patterns + 2 <= available else max(2, available // 2)
        result["patterns"][f"{patterns}x{each}"] = fitting
        result[f"{patterns}x{each}"] = figures = measure(
            *pools,
            fitting,
            each,
            options.seeds,
            semantic=semantic,
            with_logistic=not options.skip_logistic,
        )
        if not options.json:
            for name, values in figures.items():
                print(f"{patterns}x{each} {name}: {values}", file=sys.stderr)
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main()
