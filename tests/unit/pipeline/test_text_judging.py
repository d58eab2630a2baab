"""A judge at the upstream: priced, within the budget, booked, remembered, and no pillar."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.pipeline.text_judging import PURPOSE, UpstreamAsker, open_judging
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import (
    BudgetSettings,
    GateSettings,
    Settings,
    UpstreamSettings,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.validator.evaluate import Row
from hermes_apprentice.validator.text_judge import question

NOW = 1_790_000_000.0
MODEL = "judge-1"
PRICES = """
[models."judge-1"]
input = 10.0
cached_input = 1.0
output = 100.0
source = "invented"
as_of = "2026-11-01"
"""
PAIR = question("Write.", "one way", "another way")


@pytest.fixture
def shop(settings: Settings, database: Database) -> Workshop:
    return make_shop(settings, database)


def make_shop(settings: Settings, database: Database, dollars: float = 5.0) -> Workshop:
    settings.prices_path.write_text(PRICES)
    changed = settings.model_copy(
        update={
            "gate": GateSettings(judge_model=MODEL),
            "budget": BudgetSettings(monthly_dollars=dollars),
        }
    )
    return Workshop(changed, database, lambda: NOW)


class Upstream:
    """What answers, and what it was asked."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer = answer

    def client(self) -> httpx.Client:
        def handle(request: httpx.Request) -> httpx.Response:
            self.asked.append(json.loads(request.content))
            return self._answer()

        return httpx.Client(base_url="http://up/v1/", transport=httpx.MockTransport(handle))


def says(content: object, **usage: int) -> Callable[[], httpx.Response]:
    body: dict[str, Any] = {"choices": [{"message": {"content": content}}]}
    if usage:
        body["usage"] = usage
    return lambda: httpx.Response(200, json=body)


def booked(database: Database) -> list[tuple[str, str, int]]:
    rows = database.read("SELECT slug, purpose, amount FROM spending ORDER BY at")
    return [tuple(row) for row in rows]


def test_an_answer_is_booked_once_and_remembered(shop: Workshop) -> None:
    upstream = Upstream(says('{"same": true}', prompt_tokens=100, completion_tokens=7))
    asker = UpstreamAsker(shop, "letters", upstream.client())
    assert asker(PAIR) == '{"same": true}'
    assert booked(shop.database) == [("letters", PURPOSE, 100 * 10 + 7 * 100)]
    # Another run, another process: the same question costs nothing.
    again = UpstreamAsker(shop, "letters", upstream.client())
    assert again(PAIR) == '{"same": true}'
    assert len(upstream.asked) == 1 and len(booked(shop.database)) == 1
    assert (upstream.asked[0]["model"], upstream.asked[0]["temperature"]) == (MODEL, 0)
    again(question("Write.", "another way", "one way"))
    assert len(upstream.asked) == 2
    kept = shop.database.read("SELECT * FROM judgements")
    assert not any("one way" in str(value) for row in kept for value in tuple(row))


def test_without_usage_the_worst_case_is_booked(shop: Workshop) -> None:
    asker = UpstreamAsker(shop, "letters", Upstream(says('{"same": false}')).client())
    asker(PAIR)
    ((_, _, amount),) = booked(shop.database)
    assert amount > 64 * 100


@pytest.mark.parametrize("dollars", [0.0, 0.001])
def test_beyond_the_budget_nobody_is_asked(
    dollars: float, settings: Settings, database: Database
) -> None:
    shop = make_shop(settings, database, dollars)
    upstream = Upstream(says('{"same": true}'))
    asker = UpstreamAsker(shop, "letters", upstream.client())
    assert asker(PAIR) is None
    assert upstream.asked == [] and booked(database) == []
    assert "$0.00" in asker.problem


def test_a_model_without_a_price_is_not_asked(shop: Workshop) -> None:
    shop.settings.prices_path.write_text("")
    upstream = Upstream(says('{"same": true}'))
    asker = UpstreamAsker(shop, "letters", upstream.client())
    assert asker(PAIR) is None
    assert upstream.asked == [] and "no price of judge-1" in asker.problem


@pytest.mark.parametrize(
    ("answer", "paid"),
    [
        (lambda: httpx.Response(500, text="broken"), False),
        (lambda: httpx.Response(200, text="<html>"), False),
        (lambda: httpx.Response(200, json={"choices": []}), False),
        (lambda: httpx.Response(200, json=[1]), False),
        (says(None), True),
        (says("I cannot tell."), True),
    ],
)
def test_a_failure_is_missing_and_three_end_it(
    shop: Workshop, answer: Callable[[], httpx.Response], paid: bool
) -> None:
    upstream = Upstream(answer)
    asker = UpstreamAsker(shop, "letters", upstream.client())
    for number in range(5):
        assert asker(question("Write.", f"{number}", "x")) is None
    assert len(upstream.asked) == 3, "a dead judge is left alone"
    assert "failed 3 times in a row" in asker.problem
    assert len(booked(shop.database)) == (3 if paid else 0)
    assert shop.database.read("SELECT * FROM judgements") == []


def dataset_of(kind: ShapeKind) -> Dataset:
    return Dataset(
        dataset_id="ds-1",
        digest="0" * 64,
        pattern_id="pt-1",
        shape=Shape(kind=kind, agreement=1.0),
        redacted=False,
        redaction="none",
        dropped=(),
        examples=(),
    )


def test_a_judge_is_asked_over_http_for_texts_only_and_only_if_wanted(
    shop: Workshop, fake_vllm: Any
) -> None:
    fake_vllm.adapters[MODEL] = {"": '{"same": true}'}
    at = UpstreamSettings(base_url=fake_vllm.url, api_key_env="")
    shop.settings = shop.settings.model_copy(update={"upstream": at})
    example = Example(
        example_id="e1",
        group="g1",
        split=Split.TEST,
        request="Write.",
        answer="another way",
        asked_at=1.0,
    )
    rows = [Row(example=example, text="one way", confidence=0.9, agrees=False)]
    with open_judging(shop, "letters", dataset_of(ShapeKind.TEXT)) as judging:
        assert judging is not None
        (one,) = judging.judge.review(rows)
        assert one.agrees
        assert "compared by judge-1: it agreed with itself on 1 of 1" in judging.in_words()
    assert [body["model"] for body in fake_vllm.asked] == [MODEL, MODEL]
    with open_judging(shop, "letters", dataset_of(ShapeKind.LABEL)) as judging:
        assert judging is None
    shop.settings = shop.settings.model_copy(update={"gate": GateSettings()})
    with open_judging(shop, "letters", dataset_of(ShapeKind.TEXT)) as judging:
        assert judging is None
