from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Split
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import EvaluationError
from hermes_apprentice.settings import GateSettings
from hermes_apprentice.validator.validation import examine, validate

Make = Callable[..., Any]


def verdict_of(case: Any, answer_many: Any = None, **limits: float) -> Verdict:
    return validate(
        case.dataset,
        answer_many or case.answer_many,
        case.out_of_fold,
        GateSettings(**limits),
        seed=1,
        size_bytes=1_000,
    )


@pytest.mark.parametrize("json_answers", [False, True])
def test_a_good_specialist_passes(make_case: Make, json_answers: bool) -> None:
    verdict = verdict_of(make_case(json_answers=json_answers))
    assert verdict.outcome is Outcome.PASSED, verdict.reasons
    assert verdict.scores is not None
    assert verdict.scores.examples == 60
    assert verdict.scores.f1_gain.low > 0
    assert verdict.scores.selective_agreement.value >= 0.9
    assert verdict.scores.coverage > 0.8
    assert verdict.scores.size_bytes == 1_000
    assert re.match(r"It answers \d+% of the requests by itself", verdict.reasons[0])


def test_a_good_specialist_passes_in_most_runs(make_case: Make) -> None:
    passed = sum(verdict_of(make_case(seed=seed)).passed for seed in range(20))
    assert passed >= 19


@pytest.mark.parametrize("json_answers", [False, True])
@pytest.mark.parametrize(("train", "validation", "test"), [(300, 40, 60), (60, 8, 8), (34, 3, 4)])
def test_random_answers_never_pass(
    make_case: Make, json_answers: bool, train: int, validation: int, test: int
) -> None:
    for seed in range(25):
        case = make_case(
            train=train,
            validation=validation,
            test=test,
            json_answers=json_answers,
            skill=0.25,
            informative=False,
            seed=seed,
        )
        assert not verdict_of(case).passed


def test_a_specialist_just_below_the_floor_passes_hardly_ever(make_case: Make) -> None:
    """Its true agreement is 0.78 where 0.80 is the floor, and its confidence says nothing."""
    passed = 0
    for seed in range(40):
        case = make_case(
            train=300,
            validation=40,
            test=30 + 20 * (seed % 4),
            skill=0.78,
            informative=False,
            seed=seed,
        )
        passed += verdict_of(case).passed
    assert passed <= 2


def test_a_constant_answer_never_passes(make_case: Make) -> None:
    for seed in range(20):
        case = make_case(seed=seed, skill=1.0)
        lines = case.out_of_fold.read_text(encoding="utf-8").splitlines()
        flat = [
            json.dumps({**json.loads(line), "text": "bug", "confidence": 1.0}) for line in lines
        ]
        case.out_of_fold.write_text("\n".join(flat), encoding="utf-8")

        def constant(requests: Sequence[str]) -> list[Answer]:
            return [Answer(text="bug", confidence=1.0) for _ in requests]

        verdict = verdict_of(case, constant)
        assert verdict.outcome is Outcome.REJECTED


def test_a_pattern_that_always_has_the_same_answer_is_not_worth_a_specialist(
    make_case: Make,
) -> None:
    case = make_case(skill=1.0)
    examples = tuple(replace(example, answer="bug") for example in case.dataset.examples)
    case.dataset = replace(case.dataset, examples=examples)
    lines = [
        json.dumps({"example_id": example.example_id, "text": "bug", "confidence": 1.0})
        for example in examples
        if example.split is not Split.TEST
    ]
    case.out_of_fold.write_text("\n".join(lines), encoding="utf-8")

    def constant(requests: Sequence[str]) -> list[Answer]:
        return [Answer(text="bug", confidence=1.0) for _ in requests]

    verdict = verdict_of(case, constant)
    assert verdict.outcome is Outcome.REJECTED
    assert "gain +0.00" in verdict.reasons[0]


@pytest.mark.parametrize(("train", "test"), [(160, 60), (160, 10), (60, 4)])
@pytest.mark.parametrize("field", ["sku", "quantity", "colour"])
def test_one_wrong_field_never_passes(make_case: Make, field: str, train: int, test: int) -> None:
    """What was cross-fitted was right; what is served mixes up one field."""
    for seed in range(10):
        case = make_case(json_answers=True, skill=1.0, train=train, test=test, seed=seed)

        def served(requests: Sequence[str], case: Any = case) -> list[Answer]:
            answers = []
            for request in requests:
                value = json.loads(case.truth[request])
                value[field] = {"sku": "SKU-0000", "quantity": 0, "colour": "red"}[field]
                answers.append(Answer(text=json.dumps(value), confidence=0.99))
            return answers

        verdict = verdict_of(case, served)
        if field != "colour":
            assert verdict.outcome is Outcome.REJECTED, verdict.reasons
        assert not verdict.passed


@pytest.mark.parametrize("train", [20, 60, 400])
def test_two_test_rows_never_pass(make_case: Make, train: int) -> None:
    for seed in range(10):
        case = make_case(train=train, validation=4, test=2, skill=1.0, seed=seed)
        verdict = verdict_of(case)
        assert verdict.outcome is not Outcome.PASSED
        assert any("Only 2 held-out examples" in reason for reason in verdict.reasons)


def test_a_perfect_specialist_with_little_data_is_inconclusive_and_says_what_is_missing(
    make_case: Make,
) -> None:
    verdict = verdict_of(make_case(train=10, validation=2, test=4, skill=1.0))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert re.search(r"\d+ more examples needed", " ".join(verdict.reasons))


def test_a_small_set_is_judged_together_with_its_cross_fitted_predictions(make_case: Make) -> None:
    verdict = verdict_of(make_case(train=80, validation=10, test=10, skill=1.0))
    assert verdict.outcome is Outcome.PASSED, verdict.reasons
    assert verdict.scores is not None
    assert verdict.scores.examples == 100
    assert any("only 10 examples" in reason for reason in verdict.reasons)


def test_a_small_set_without_cross_fitting_is_inconclusive(make_case: Make) -> None:
    case = make_case(train=80, validation=10, test=10, skill=1.0, cross_fitted=False)
    assert verdict_of(case).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("train", "test"), [(160, 60), (160, 10), (60, 4)])
def test_an_artefact_that_is_not_what_was_trained_is_rejected(
    make_case: Make, train: int, test: int
) -> None:
    for seed in range(10):
        case = make_case(train=train, test=test, skill=1.0, served_skill=0.25, seed=seed)
        verdict = verdict_of(case)
        assert verdict.outcome is Outcome.REJECTED
        assert re.search(
            "worse than the models|agrees on only|not sure about", " ".join(verdict.reasons)
        )


def test_invalid_answers_beyond_the_limit_are_rejected(make_case: Make) -> None:
    case = make_case(skill=1.0)

    def sometimes(requests: Sequence[str]) -> list[Answer | Abstain]:
        answers = case.answer_many(requests)
        return [
            Abstain(reason="invalid", confidence=0.9) if index % 10 == 3 else answer
            for index, answer in enumerate(answers)
        ]

    verdict = verdict_of(case, sometimes)
    assert verdict.outcome is Outcome.REJECTED
    assert "not of the pattern's shape" in verdict.reasons[0]


def test_an_answer_of_the_wrong_shape_counts_as_invalid_even_if_nobody_noticed(
    make_case: Make,
) -> None:
    case = make_case(skill=1.0)

    def prose(requests: Sequence[str]) -> list[Answer]:
        return [Answer(text="I think it is a bug", confidence=1.0) for _ in requests]

    verdict = verdict_of(case, prose)
    assert verdict.outcome is Outcome.REJECTED
    assert verdict.scores is not None
    assert verdict.scores.invalid == 1


def test_a_specialist_that_is_rarely_sure_is_not_worth_serving(make_case: Make) -> None:
    """Right on a fifth and knows it; wrong on the rest."""
    verdict = verdict_of(make_case(train=400, test=200, skill=0.2), agreement_floor=0.8)
    assert verdict.outcome is Outcome.REJECTED


def test_the_verdict_is_the_same_every_time(make_case: Make) -> None:
    first, second = (verdict_of(make_case(), **{}) for _ in range(2))
    assert first.scores is not None
    assert second.scores is not None
    assert replace(first.scores, latency_p50_ms=0) == replace(second.scores, latency_p50_ms=0)
    assert first.reasons == second.reasons


def test_the_threshold_never_looks_at_the_test_split(make_case: Make) -> None:
    case = make_case()
    asked = verdict_of(case).threshold

    def hopeless_on_test(requests: Sequence[str]) -> list[Answer]:
        return [Answer(text="bug", confidence=0.1) for _ in requests]

    assert verdict_of(case, hopeless_on_test).threshold == asked


def test_latency_is_measured_one_request_at_a_time(make_case: Make) -> None:
    case = make_case()
    ticks = iter(np.arange(0, 100, 0.004))
    verdict = validate(
        case.dataset,
        case.answer_many,
        case.out_of_fold,
        GateSettings(),
        seed=1,
        clock=lambda: float(next(ticks)),
    )
    assert verdict.scores is not None
    assert verdict.scores.latency_p50_ms == pytest.approx(4)


def test_every_judged_row_is_kept_for_the_report(make_case: Make) -> None:
    case = make_case(train=80, validation=10, test=10)
    rows = examine(case.dataset, case.answer_many, case.out_of_fold, GateSettings(), seed=1).rows
    assert [row.cross_fitted for row in rows] == [False] * 10 + [True] * 90


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "line 1 is no prediction"),
        ('{"example_id": "ex-0", "text": "bug"}', "line 1 is no prediction"),
        ('{"example_id": "ex-0", "text": "bug", "confidence": 1}\n' * 2, "line 2 repeats"),
    ],
)
def test_damaged_predictions_are_a_clear_error(make_case: Make, content: str, message: str) -> None:
    case = make_case()
    case.out_of_fold.write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        verdict_of(case)


def test_predictions_for_test_examples_are_left_aside(make_case: Make) -> None:
    case = make_case(train=80, validation=10, test=10)
    extra = [
        json.dumps({"example_id": example.example_id, "text": example.answer, "confidence": 1.0})
        for example in case.dataset.of(Split.TEST)
    ]
    with case.out_of_fold.open("a", encoding="utf-8") as stream:
        stream.write("\n" + "\n".join(extra))
    verdict = verdict_of(case)
    assert verdict.scores is not None
    assert verdict.scores.examples == 100


def test_a_specialist_that_loses_answers_is_a_clear_error(make_case: Make) -> None:
    case = make_case()
    with pytest.raises(EvaluationError, match="answers to"):
        verdict_of(case, lambda requests: case.answer_many(requests)[:-1])


def test_a_dataset_without_training_examples_is_a_clear_error(make_case: Make) -> None:
    case = make_case()
    case.dataset = replace(case.dataset, examples=case.dataset.of(Split.TEST))
    with pytest.raises(EvaluationError, match="no training example"):
        verdict_of(case)


def test_a_dataset_without_test_split_never_passes(make_case: Make) -> None:
    verdict = verdict_of(make_case(test=0, skill=1.0))
    assert not verdict.passed


def test_missing_predictions_fall_back_to_the_validation_split(
    make_case: Make, tmp_path: Path
) -> None:
    case = make_case(cross_fitted=False, validation=60, skill=1.0)
    verdict = verdict_of(case)
    assert verdict.outcome is Outcome.PASSED, verdict.reasons
    assert any("on 60 predictions" in reason for reason in verdict.reasons)
