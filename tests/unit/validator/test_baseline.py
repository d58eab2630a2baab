from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.evaluation import Outcome
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.validator.baseline import NEAREST, Rival, nearest
from hermes_apprentice.validator.validation import examine

WORDS = ("red", "green", "blue", "one", "two")


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    counts = np.array([[text.split().count(word) + 1e-3 for word in WORDS] for text in texts])
    return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


def example(name: str, request: str, answer: str, group: str = "") -> Example:
    return Example(
        example_id=name,
        group=group or name,
        split=Split.TRAIN,
        request=request,
        answer=answer,
        asked_at=0.0,
    )


def test_the_most_similar_known_request_lends_its_answer() -> None:
    known = [example("a", "red one", "R"), example("b", "green two", "G")]
    asked = [example("x", "green green two", "?"), example("y", "red", "?")]
    assert nearest(known, embed).answer(asked) == ["G", "R"]
    assert nearest(known, embed).answer([]) == []


def test_neither_an_example_nor_its_near_duplicate_lends_its_own_answer() -> None:
    known = [
        example("a", "red one", "R", group="g"),
        example("b", "red one one", "R again", group="g"),
        example("c", "blue", "B"),
    ]
    assert nearest(known, embed).answer(known) == ["B", "B", "R"]
    assert nearest(known[:2], embed).answer(known[:1]) == [None]


def by_truth(case: Any) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Vectors that give the upstream's answer away: no training is needed to repeat it."""
    answers = sorted(set(case.truth.values()))

    def vectors(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.eye(len(answers), dtype=np.float32)[
            [answers.index(case.truth[text]) for text in texts]
        ]

    return vectors


def test_what_repeating_a_known_answer_does_better_is_rejected(
    make_case: Callable[..., Any],
) -> None:
    case = make_case(skill=0.9)
    verdict, _ = examine(
        case.dataset,
        case.answer_many,
        case.out_of_fold,
        GateSettings(),
        seed=1,
        embed=by_truth(case),
    )
    assert verdict.outcome is Outcome.REJECTED
    assert "does better without any training" in verdict.reasons[0]
    assert verdict.scores is not None
    assert verdict.scores.others == ((NEAREST, 1.0),)


def test_a_specialist_that_keeps_up_passes(make_case: Callable[..., Any]) -> None:
    case = make_case(skill=1.0)
    verdict, _ = examine(
        case.dataset,
        case.answer_many,
        case.out_of_fold,
        GateSettings(),
        seed=1,
        embed=by_truth(case),
    )
    assert verdict.passed, verdict.reasons


def test_another_baseline_takes_the_place_of_the_constant(make_case: Callable[..., Any]) -> None:
    case = make_case(skill=0.97)
    rival = Rival("the base model", lambda asked: [case.truth[one.request] for one in asked])
    verdict, _ = examine(
        case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1, rival=rival
    )
    assert verdict.scores is not None
    assert (verdict.scores.baseline, verdict.scores.baseline_f1) == ("the base model", 1.0)
    assert verdict.outcome is Outcome.REJECTED
