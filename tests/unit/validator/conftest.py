from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.domain.specialist import Abstain, Answer

LABELS = ("bug", "billing", "how-to", "feature")
COLOURS = ("red", "green", "blue", "black", "white")


@dataclass
class Case:
    """A dataset and a specialist that answers it with a chosen skill."""

    dataset: Dataset
    """With its splits."""

    truth: dict[str, str]
    """The upstream's answer to every request."""

    out_of_fold: Path
    """The specialist's cross-fitted predictions."""

    answer_many: Callable[[Sequence[str]], list[Answer | Abstain]]
    """The served specialist."""


def labelled(index: int, generator: np.random.Generator) -> tuple[str, str]:
    return f"ticket {index}", LABELS[int(generator.integers(4))]


def ordered(index: int, generator: np.random.Generator) -> tuple[str, str]:
    sku = f"SKU-{generator.integers(1000, 9999)}"
    colour, count = COLOURS[int(generator.integers(5))], int(generator.integers(1, 90))
    answer = {"sku": sku, "colour": colour, "quantity": count}
    return f"mail {index}: {count} of {sku} in {colour}", json.dumps(answer)


def wrong(shape: Shape, answer: str, generator: np.random.Generator) -> str:
    """An answer of the right shape that is not the upstream's."""
    if answer in LABELS:
        return LABELS[(LABELS.index(answer) + int(generator.integers(1, 4))) % 4]
    value = json.loads(answer)
    value["quantity"] += 1
    return json.dumps(value)


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., Case]:
    def make(
        *,
        train: int = 160,
        validation: int = 20,
        test: int = 60,
        skill: float = 0.97,
        served_skill: float | None = None,
        json_answers: bool = False,
        informative: bool = True,
        cross_fitted: bool = True,
        seed: int = 1,
    ) -> Case:
        """Make a specialist that is right with the chance ``skill``, and knows when it is not."""
        generator = np.random.default_rng(seed)
        make_one = ordered if json_answers else labelled
        splits = [Split.TRAIN] * train + [Split.VALIDATION] * validation + [Split.TEST] * test
        pairs = [make_one(index, generator) for index in range(len(splits))]
        examples = tuple(
            Example(
                example_id=f"ex-{index}",
                group=f"g-{index}",
                split=split,
                request=request,
                answer=answer,
                asked_at=float(index),
            )
            for index, (split, (request, answer)) in enumerate(zip(splits, pairs, strict=True))
        )
        shape = infer_shape(*zip(*pairs, strict=True))
        truth = dict(pairs)

        def respond(request: str, level: float) -> tuple[str, float]:
            right = generator.random() < level
            text = truth[request] if right else wrong(shape, truth[request], generator)
            spread = generator.random()
            sure = 0.6 + 0.4 * spread if right or not informative else 0.7 * spread
            return text, float(sure)

        def answer_many(requests: Sequence[str]) -> list[Answer | Abstain]:
            level = skill if served_skill is None else served_skill
            given = [respond(request, level) for request in requests]
            return [Answer(text=text, confidence=confidence) for text, confidence in given]

        path = tmp_path / f"out_of_fold_{seed}.jsonl"
        if cross_fitted:
            lines = []
            for example in examples[: train + validation]:
                text, confidence = respond(example.request, skill)
                line = {"example_id": example.example_id, "text": text, "confidence": confidence}
                lines.append(json.dumps(line))
            path.write_text("\n".join(lines), encoding="utf-8")
        dataset = Dataset(
            dataset_id="ds-0011",
            digest="0" * 64,
            pattern_id="pt-0011",
            shape=shape,
            redacted=False,
            redaction="none",
            dropped=(),
            examples=examples,
        )
        return Case(dataset=dataset, truth=truth, out_of_fold=path, answer_many=answer_many)

    return make
