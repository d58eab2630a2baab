import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Kind, Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.domain.training import Method
from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import MissingExtraError, TrainingError
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.testing import FakeEmbedder
from hermes_apprentice.trainer.budget import Budget
from hermes_apprentice.trainer.selection import better, train
from hermes_apprentice.trainer.trained import Trained, part_of

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]
Rows = Sequence[tuple[str, str]]

AMPLE = Budget(1_000.0, lambda: 0.0)


def shape_of(rows: Rows) -> Shape:
    return infer_shape([text for text, _ in rows], [answer for _, answer in rows])


def run(make: Make, rows: Rows, kind: Kind, method: Method = Method.AUTO) -> Trained:
    return train(
        kind,
        method,
        shape_of(rows),
        make(rows),
        FakeEmbedder(),
        7,
        lambda share, doing: None,
        budget=AMPLE,
    )


def trained(method: Method, right: str) -> Trained:
    class Nothing:
        def save(self, folder: object) -> None:
            """Write nothing."""

    return Trained(
        model=Nothing(),
        method=method,
        held_out=[Prediction("x", 0.5) for _ in right],
        right=[mark == "+" for mark in right],
        scores={"agreement": right.count("+") / len(right)},
        recipe={},
    )


@pytest.mark.parametrize(
    ("light", "heavy", "chosen"),
    [
        ("+++++-----", "++++++++--", Method.FINETUNED),
        ("++++++++--", "+++++-----", Method.CRF),
        ("++++++----", "++++++----", Method.CRF),
        ("++++++----", "+++++++---", Method.FINETUNED),
        ("++++++----", "----++++++", Method.CRF),
        ("-+++++++++", "++++++++++", Method.FINETUNED),
    ],
)
def test_the_one_that_agrees_more_often_is_chosen_and_the_lighter_if_they_tie(
    light: str, heavy: str, chosen: Method
) -> None:
    best = better(trained(Method.CRF, light), trained(Method.FINETUNED, heavy))
    assert best.method is chosen
    assert dict(best.recipe) == {
        "cv.crf.agreement": f"{light.count('+') / 10:.4f}",
        "cv.finetuned.agreement": f"{heavy.count('+') / 10:.4f}",
    }


def test_without_a_training_environment_the_chain_is_chosen(
    make_examples: Make, bookings: list[tuple[str, str]]
) -> None:
    assert run(make_examples, bookings, Kind.EXTRACTOR).method is Method.CRF


def test_labels_are_learned_by_a_head(make_examples: Make, tickets: list[tuple[str, str]]) -> None:
    assert run(make_examples, tickets, Kind.CLASSIFIER).method is Method.HEAD


@pytest.mark.parametrize("kind", [Kind.CLASSIFIER, Kind.EXTRACTOR])
def test_fine_tuning_without_its_environment_names_the_extra(
    make_examples: Make,
    tickets: list[tuple[str, str]],
    bookings: list[tuple[str, str]],
    kind: Kind,
) -> None:
    rows = tickets if kind is Kind.CLASSIFIER else bookings
    with pytest.raises(MissingExtraError, match=r"hermes-apprentice\[train\]"):
        run(make_examples, rows, kind, Method.FINETUNED)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_examples_are_refused(
    make_examples: Make, tickets: list[tuple[str, str]], count: int
) -> None:
    with pytest.raises(TrainingError, match="too few"):
        train(
            Kind.CLASSIFIER,
            Method.AUTO,
            shape_of(tickets),
            make_examples(tickets[:count]),
            FakeEmbedder(),
            7,
            lambda share, doing: None,
            budget=AMPLE,
        )


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Kind.GENERATOR, Method.AUTO),
        (Kind.CLASSIFIER, Method.CRF),
        (Kind.EXTRACTOR, Method.HEAD),
        (Kind.CLASSIFIER, Method.LORA),
    ],
)
def test_a_way_that_does_not_fit_the_kind_is_refused(
    make_examples: Make, tickets: list[tuple[str, str]], kind: Kind, method: Method
) -> None:
    with pytest.raises(TrainingError):
        run(make_examples, tickets, kind, method)


def test_empty_requests_do_not_stop_training(
    make_examples: Make, bookings: list[tuple[str, str]]
) -> None:
    answer = json.loads(bookings[0][1]) | {"guest": None, "late": False}
    rows = [*bookings, ("", json.dumps(answer, indent=1))]
    assert len(run(make_examples, rows, Kind.EXTRACTOR).held_out) == len(rows)


class SickEmbedder(FakeEmbedder):
    """Gives one number that is none."""

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Spoil the first embedding."""
        first, *others = super().encode(texts)
        return [replace(first, embedding=first.embedding * np.float32("nan")), *others]


@pytest.mark.parametrize("kind", [Kind.CLASSIFIER, Kind.EXTRACTOR])
def test_an_embedder_that_gives_no_numbers_is_named(
    make_examples: Make,
    tickets: list[tuple[str, str]],
    bookings: list[tuple[str, str]],
    kind: Kind,
) -> None:
    rows = tickets if kind is Kind.CLASSIFIER else bookings
    with pytest.raises(TrainingError, match="not finite"):
        train(
            kind,
            Method.AUTO,
            shape_of(rows),
            make_examples(rows),
            SickEmbedder(),
            7,
            lambda share, doing: None,
            budget=AMPLE,
        )


def test_answers_that_contradict_each_other_get_no_confidence(make_examples: Make) -> None:
    rows = [
        (f"remark {number // 2}", "praise" if number % 2 else "complaint") for number in range(60)
    ]
    trained = run(make_examples, rows, Kind.CLASSIFIER)
    assert trained.scores["agreement"] <= 0.7
    assert max(one.confidence for one in trained.held_out) < 0.9


def test_progress_never_goes_back(make_examples: Make, bookings: list[tuple[str, str]]) -> None:
    seen: list[float] = []
    train(
        Kind.EXTRACTOR,
        Method.AUTO,
        shape_of(bookings),
        make_examples(bookings),
        FakeEmbedder(),
        7,
        lambda share, doing: seen.append(share),
        budget=AMPLE,
    )
    assert seen == sorted(seen) and 0.0 <= seen[0] and seen[-1] <= 1.0
    part_of(lambda share, doing: seen.append(share), 0.2, 0.6)(0.5, "")
    assert seen[-1] == pytest.approx(0.4)
