"""What wrong answers among the examples cost, with and without our dataset's cleaning.

    .venv/bin/python benchmarks/label_noise.py --data DIR --json

Reads ``clinc150/`` and ``snips/`` below DIR. A share of the training answers is spoilt, the
test answers never are. Three cases:

- ``labels``: 20 intents of CLINC150 with 50 requests each; the label becomes another one.
- ``values``: 300 weather requests of Snips; one slot gets another request's value, moves to
  another key, or is left out.
- ``drift``: the same 300; the oldest answers have two keys of other names and lack the empty ones.

``raw`` trains on everything as it is, ``ours`` on what the dataset's cleaning and the trainer's
filter leave. Both go through the product's own code and child process. ``accuracy`` is the share
of test requests whose whole answer is right; ``left`` how many examples were learnt from.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import platformdirs
from extraction_quality import answer_of, read_intent
from threadpoolctl import threadpool_limits

from hermes_apprentice.dataset.cleaning import clean
from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.evaluation import agrees
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.shape_inference import fits, infer_shape
from hermes_apprentice.domain.training import Method, TrainingJob
from hermes_apprentice.embedding.catalogue import MINILM
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.inference.artefact import load_model
from hermes_apprentice.trainer.examples import write_dataset
from hermes_apprentice.trainer.jobs import run_training

TIMEOUT = 3_600.0
INTENTS, EACH = 20, 50
WEATHER = "GetWeather"
REQUESTS = 300
RENAMED = {"city": "place", "timeRange": "when"}

Row = tuple[str, str]
Spoil = Callable[[list[Row], float, random.Random], list[Row]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds clinc150/ and snips/")
    parser.add_argument("--shares", default="0,10,20,30", help="per cent of answers spoilt")
    parser.add_argument("--cases", default="labels,values,drift", help="which")
    parser.add_argument("--seeds", default="7", help="drawings, separated by commas")
    parser.add_argument(
        "--models",
        type=Path,
        default=platformdirs.user_cache_path("hermes-apprentice") / "models",
        help="the model store",
    )
    parser.add_argument("--json", action="store_true", help="JSON is what it prints anyway")
    arguments = parser.parse_args()
    threadpool_limits(1)
    embedder = open_embedder(ModelStore(arguments.models), MINILM.name, threads=1)
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.cases.split(","):
        for share in map(int, arguments.shares.split(",")):
            drawn = [
                run_case(name, share / 100, int(seed), embedder, arguments)
                for seed in arguments.seeds.split(",")
            ]
            case = f"{name}@{share}%"
            results[case] = {way: mean([one[way] for one in drawn]) for way in ("raw", "ours")}
            print(f"{case:<14} {json.dumps(results[case])}", file=sys.stderr, flush=True)
    show(results)
    print(json.dumps(results))
    return 0


def run_case(
    name: str, share: float, seed: int, embedder: OnnxEmbedder, arguments: Any
) -> dict[str, dict[str, float]]:
    """Spoil a share of the answers, and train both ways."""
    rng = random.Random(seed)
    train, test = (clinc if name == "labels" else snips)(arguments.data, rng)
    gold = infer_shape([text for text, _ in train], [answer for _, answer in train])
    spoil: Spoil = {
        "labels": other_labels,
        "values": other_values,
        "drift": other_keys,
    }[name]
    exchanges = [
        exchange(place, text, answer)
        for place, (text, answer) in enumerate(spoil(train, share, rng))
    ]
    kept = list(clean(exchanges).kept)
    return {
        "raw": train_and_score(exchanges, False, gold, test, embedder, arguments.models, seed),
        "ours": train_and_score(kept, True, gold, test, embedder, arguments.models, seed),
    }


def clinc(data: Path, rng: random.Random) -> tuple[list[Row], list[Row]]:
    rows = json.loads((data / "clinc150" / "data_full.json").read_text("utf-8"))
    chosen = rng.sample(sorted({intent for _, intent in rows["train"]}), INTENTS)
    train = [
        (text, intent)
        for wanted in chosen
        for text, intent in [row for row in rows["train"] if row[1] == wanted][:EACH]
    ]
    rng.shuffle(train)
    return train, [(text, intent) for text, intent in rows["test"] if intent in chosen]


def snips(data: Path, rng: random.Random) -> tuple[list[Row], list[Row]]:
    train = read_intent(data / "snips" / f"train_{WEATHER}_full.json", WEATHER)
    test = read_intent(data / "snips" / f"validate_{WEATHER}.json", WEATHER)
    slots = sorted({slot for _, found in train for slot in found})
    single = [row for row in train if all(len(values) == 1 for values in row[1].values())]
    rng.shuffle(single)
    return (
        [(text, answer_of(found, slots)) for text, found in single[:REQUESTS]],
        [(text, answer_of(found, slots)) for text, found in test],
    )


# --- what is spoilt -----------------------------------------------------------------------


def other_labels(rows: list[Row], share: float, rng: random.Random) -> list[Row]:
    labels = sorted({answer for _, answer in rows})
    return [
        (text, rng.choice([one for one in labels if one != answer]) if hit else answer)
        for (text, answer), hit in zip(rows, hits(len(rows), share, rng), strict=True)
    ]


def other_values(rows: list[Row], share: float, rng: random.Random) -> list[Row]:
    answers = [json.loads(answer) for _, answer in rows]
    spoilt = []
    for (text, answer), hit in zip(rows, hits(len(rows), share, rng), strict=True):
        values = json.loads(answer)
        present = [key for key, value in values.items() if value is not None]
        if hit and present:
            key = rng.choice(present)
            how = rng.randrange(3)
            if how == 0:
                others = [one[key] for one in answers if one[key] not in (None, values[key])]
                values[key] = rng.choice(others) if others else None
            else:
                moved, values[key] = values[key], None
                empty = [name for name, value in values.items() if value is None and name != key]
                if how == 1 and empty:
                    values[rng.choice(empty)] = moved
        spoilt.append((text, json.dumps(values, ensure_ascii=False)))
    return spoilt


def other_keys(rows: list[Row], share: float, rng: random.Random) -> list[Row]:
    old = round(share * len(rows))
    renamed = []
    for text, answer in rows[:old]:
        values = {RENAMED.get(key, key): value for key, value in json.loads(answer).items()}
        present = {key: value for key, value in values.items() if value is not None}
        renamed.append((text, json.dumps(present, ensure_ascii=False)))
    return renamed + rows[old:]


def hits(count: int, share: float, rng: random.Random) -> list[bool]:
    chosen = set(rng.sample(range(count), round(share * count)))
    return [place in chosen for place in range(count)]


# --- training and scoring -----------------------------------------------------------------


def exchange(place: int, request: str, answer: str) -> Exchange:
    return Exchange(
        exchange_id=f"ex-{place}",
        profile="default",
        session_id=f"s{place}",
        source="cli",
        turn_index=0,
        request=request,
        answer=answer,
        model="upstream",
        asked_at=float(place),
        answered_at=float(place),
        context_chars=0,
        input_tokens=0,
        output_tokens=0,
        corrected=False,
        ineligible=None,
    )


def train_and_score(
    exchanges: Sequence[Exchange],
    filtered: bool,
    gold: Shape,
    test: list[Row],
    embedder: OnnxEmbedder,
    models: Path,
    seed: int,
) -> dict[str, float]:
    """Train on these, and answer the test; what cannot be trained at all answers nothing."""
    shape = infer_shape([one.request for one in exchanges], [one.answer for one in exchanges])
    newest = {one.request: one for one in exchanges} if filtered else {}
    examples = [
        Example(
            example_id=one.exchange_id,
            group=one.request.lower(),
            split=Split.TRAIN,
            request=one.request,
            answer=one.answer,
            asked_at=one.asked_at,
        )
        for one in exchanges
        # A trainer refuses answers of another shape, so these cannot be learnt either way.
        if fits(shape, one.answer) and (not filtered or newest[one.request] is one)
    ]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "dataset", shape, examples)
        kind = Kind.CLASSIFIER if gold.kind is ShapeKind.LABEL else Kind.EXTRACTOR
        job = TrainingJob(
            run_id="benchmark",
            kind=kind,
            method=Method.AUTO if kind is Kind.CLASSIFIER else Method.CRF,
            dataset_dir=f"{folder}/dataset",
            output_dir=f"{folder}/output",
            models_dir=str(models),
            embedder=embedder.name,
            train_python="",
            seed=seed,
            drop_doubtful=filtered,
        )
        try:
            result = run_training(job, lambda share, doing: None, TIMEOUT)
        except ApprenticeError as error:
            print(f"not trained: {error}", file=sys.stderr, flush=True)
            return {"accuracy": 0.0, "left": 0}
        model = load_model(Path(folder) / "output" / "artefact", embedder)
        recipe = dict(result.recipe)
    requests = [text for text, _ in test]
    answers = model.predict(requests, embedder.encode(requests))
    right = [
        given.text is not None and agrees(gold, given.text, wanted)
        for given, (_, wanted) in zip(answers, test, strict=True)
    ]
    return {
        "accuracy": round(sum(right) / len(right), 4),
        "left": len(examples) - int(recipe.get("doubtful", "0")),
        "train_s": round(time.monotonic() - started, 1),
    }


def mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(sum(one.get(name, 0.0) for one in found) / len(found), 4) for name in found[0]
    }


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print a table for people beside the JSON."""
    print(f"{'case':<14} {'raw':>8} {'ours':>8} {'left of raw':>12}", file=sys.stderr)
    for case, ways in results.items():
        raw, ours = ways["raw"], ways["ours"]
        left = f"{ours['left']:.0f}/{raw['left']:.0f}"
        print(
            f"{case:<14} {raw['accuracy']:8.3f} {ours['accuracy']:8.3f} {left:>12}", file=sys.stderr
        )


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ApprenticeError as error:
        raise SystemExit(f"error: {error}") from error
