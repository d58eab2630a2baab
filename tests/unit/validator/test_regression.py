"""A specialist that takes another's place must not be worse on what that one was tested on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.validator.gate import Check
from hermes_apprentice.validator.regression import Contender, pair, regress, with_checks

SETTINGS = GateSettings(regression_margin=0.1)
Make = Callable[..., Any]


def contender(
    dataset: Dataset,
    truth: dict[str, str],
    name: str,
    tmp_path: Path,
    *,
    wrong: int = 0,
    unsure: int = 0,
) -> Contender:
    """A specialist that is wrong on the first requests, unsure on the next, and else right."""
    order = {one.request: index for index, one in enumerate(dataset.examples[::-1])}
    labels = sorted(set(truth.values()))

    def one(request: str) -> Answer:
        index = order[request]
        text = truth[request]
        if index < wrong:
            text = labels[(labels.index(text) + 1) % len(labels)]
        return Answer(text=text, confidence=0.2 if wrong <= index < wrong + unsure else 0.9)

    def answer_many(requests: Sequence[str]) -> list[Answer | Abstain]:
        return [one(request) for request in requests]

    path = tmp_path / f"{name}.jsonl"
    known = [example for example in dataset.examples if example.split is not Split.TEST]
    path.write_text(
        "".join(
            json.dumps(
                {
                    "example_id": example.example_id,
                    "text": one(example.request).text,
                    "confidence": one(example.request).confidence,
                }
            )
            + "\n"
            for example in known
        )
    )
    return Contender(
        name=name, dataset=dataset, answer_many=answer_many, out_of_fold=path, threshold=0.5
    )


@pytest.mark.parametrize(
    ("wrong", "unsure", "expected"),
    [
        (0, 0, (Outcome.PASSED, Outcome.PASSED)),
        (0, 40, (Outcome.REJECTED, Outcome.PASSED)),
        (40, 0, (Outcome.REJECTED, Outcome.REJECTED)),
        (5, 0, (Outcome.INCONCLUSIVE, Outcome.REJECTED)),
        (0, 5, (Outcome.INCONCLUSIVE, Outcome.PASSED)),
    ],
)
def test_worse_is_refused_and_doubtful_is_not_passed(
    make_case: Make,
    tmp_path: Path,
    wrong: int,
    unsure: int,
    expected: tuple[Outcome, Outcome],
) -> None:
    case = make_case(train=30, validation=5, test=60)
    old = contender(case.dataset, case.truth, "old", tmp_path)
    new = contender(case.dataset, case.truth, "new", tmp_path, wrong=wrong, unsure=unsure)
    right, bad = regress(new, old, SETTINGS)
    assert (right.outcome, bad.outcome) == expected
    assert "of 'old'" in right.reason


def test_a_small_test_is_judged_with_what_neither_had_seen(make_case: Make, tmp_path: Path) -> None:
    case = make_case(train=80, validation=10, test=10)
    old = contender(case.dataset, case.truth, "old", tmp_path)
    new = contender(case.dataset, case.truth, "new", tmp_path)
    assert (pair(new, old).rows, pair(new, old).tested) == (100, 10)
    missing = replace(new, out_of_fold=tmp_path / "none")
    assert pair(missing, old).rows == 10
    assert [one.outcome for one in regress(missing, old, SETTINGS)] == [
        Outcome.INCONCLUSIVE,
        Outcome.INCONCLUSIVE,
    ]


def test_a_large_test_is_judged_alone(make_case: Make, tmp_path: Path) -> None:
    case = make_case(train=80, validation=10, test=60)
    old = contender(case.dataset, case.truth, "old", tmp_path)
    assert pair(old, old).rows == 60


def test_being_better_is_no_regression(make_case: Make, tmp_path: Path) -> None:
    case = make_case(train=30, validation=5, test=60)
    old = contender(case.dataset, case.truth, "old", tmp_path, wrong=20)
    new = contender(case.dataset, case.truth, "new", tmp_path)
    assert {one.outcome for one in regress(new, old, SETTINGS)} == {Outcome.PASSED}


@pytest.mark.parametrize(
    ("own", "checked", "expected"),
    [
        (Outcome.PASSED, Outcome.PASSED, Outcome.PASSED),
        (Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (Outcome.PASSED, Outcome.REJECTED, Outcome.REJECTED),
        (Outcome.INCONCLUSIVE, Outcome.PASSED, Outcome.INCONCLUSIVE),
        (Outcome.REJECTED, Outcome.INCONCLUSIVE, Outcome.REJECTED),
    ],
)
def test_the_worst_of_gate_and_regression_counts(
    own: Outcome, checked: Outcome, expected: Outcome
) -> None:
    verdict = Verdict(outcome=own, reasons=("Own.", "More."), scores=None, threshold=0.5)
    joined = with_checks(verdict, [Check(checked, "Added.")])
    assert joined.outcome is expected
    assert set(joined.reasons) == {"Own.", "More.", "Added."}
    if own is not expected:
        assert joined.reasons[0] == "Added."
    assert with_checks(verdict, []) == verdict
