"""Generators on a server, behind the same guard as every kind."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import ConfigError, ServingError
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.adapter import open_adapter
from hermes_apprentice.serving.local_generator import shots
from hermes_apprentice.serving.remote_generator import RemoteGenerator
from hermes_apprentice.serving.remote_host import RemoteHost
from hermes_apprentice.settings import Settings, VllmSettings

TEXTS = Shape(kind=ShapeKind.TEXT, agreement=1.0)
LABELS = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
ANSWERS = {"Label: canary": "the canary", "Label: the app crashes": "bug", "": "no such label"}
SURE = math.exp(-0.01)

Make = Callable[..., RemoteGenerator]


@pytest.fixture
def make(
    settings: Settings, fake_vllm: Any, tmp_path: Path, vllm_stage: ModuleType
) -> Iterator[Make]:
    """A factory of loaded runtimes on the fake server."""
    hosts = []

    def build(
        answers: dict[str, str] | None = None, wait: bool = True, **changes: Any
    ) -> RemoteGenerator:
        chosen = VllmSettings(server="url", url=fake_vllm.url)
        host = RemoteHost(settings.model_copy(update={"vllm": chosen}))
        hosts.append(host)
        folder = tmp_path / str(len(hosts))
        vllm_stage.write_generator(folder, answers or ANSWERS)
        adapter = open_adapter(folder, slug="tickets", version="1")
        host.add(adapter, lambda: None)
        if wait:
            host.wait_ready(adapter, 20)
        values: dict[str, Any] = {"shape": LABELS, "threshold": 0.5, "redactor": None, **changes}
        return RemoteGenerator(host, adapter, **values)

    yield build
    for host in hosts:
        host.close()


def test_the_bare_base_is_asked_with_examples_and_by_the_name_that_is_set(
    make: Make, fake_vllm: Any, settings: Settings, vllm_stage: ModuleType, tmp_path: Path
) -> None:
    shown = [example("the app crashes", "bug")]
    asked = shots("Label: {request}", "Be brief.", shown, [example("refund", "billing")])
    with pytest.raises(ServingError, match=r"vllm\.base_model"):
        make().bare(asked)
    chosen = VllmSettings(server="url", url=fake_vllm.url, base_model="base")
    host = RemoteHost(settings.model_copy(update={"vllm": chosen}))
    try:
        vllm_stage.write_generator(tmp_path / "bare", ANSWERS)
        adapter = open_adapter(tmp_path / "bare", slug="bare", version="1")
        host.add(adapter, lambda: None)
        host.wait_ready(adapter, 20)
        one = RemoteGenerator(host, adapter, shape=LABELS, threshold=0.0, redactor=None)
        assert one.bare(asked) == ["unknown"]
    finally:
        host.close()
    sent = fake_vllm.asked[-1]
    assert sent["model"] == "base"
    assert [(row["role"], row["content"]) for row in sent["messages"]] == [
        ("system", "Be brief."),
        ("user", "Label: the app crashes"),
        ("assistant", "bug"),
        ("user", "Label: refund"),
    ]


def example(request: str, answer: str) -> Example:
    return Example(
        example_id=request,
        group=request,
        split=Split.TRAIN,
        request=request,
        answer=answer,
        asked_at=0.0,
    )


def test_a_sure_answer_of_the_right_shape_is_given(make: Make) -> None:
    given = asyncio.run(make().answer("the app crashes"))
    assert isinstance(given, Answer)
    assert given.text == "bug"
    assert given.confidence == pytest.approx(SURE)


def test_below_the_threshold_it_abstains(make: Make) -> None:
    given = asyncio.run(make(threshold=0.999).answer("the app crashes"))
    assert given == Abstain(reason="confidence", confidence=pytest.approx(SURE), text="bug")


def test_an_answer_of_the_wrong_shape_is_never_given(make: Make) -> None:
    given = asyncio.run(make().answer("anything else"))
    assert given == Abstain(reason="invalid", confidence=pytest.approx(SURE))


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "length"), ("tool_calls", "invalid"), ("abort", "invalid")]
)
def test_an_answer_that_did_not_end_by_itself_is_never_given(
    make: Make, fake_vllm: Any, finish: str, reason: str
) -> None:
    one = make()
    fake_vllm.finish = finish
    given = asyncio.run(one.answer("the app crashes"))
    assert isinstance(given, Abstain)
    assert given.reason == reason


def test_personal_data_never_reaches_the_server_and_comes_back(make: Make, fake_vllm: Any) -> None:
    answers = {"Label: canary": "x", "": "write to <EMAIL_1>"}
    one = make(answers, shape=TEXTS, redactor=Redactor())
    given = asyncio.run(one.answer("reply to ada@example.test please"))
    assert isinstance(given, Answer)
    assert given.text == "write to ada@example.test"
    asked = fake_vllm.asked[-1]["messages"][-1]["content"]
    assert asked == "Label: reply to <EMAIL_1> please"


def test_a_placeholder_that_stands_for_nothing_is_never_served(make: Make) -> None:
    one = make({"Label: canary": "x", "": "write to <EMAIL_2>"}, shape=TEXTS, redactor=Redactor())
    given = asyncio.run(one.answer("reply to ada@example.test please"))
    assert isinstance(given, Abstain)
    assert given.reason == "invalid"


def test_without_probabilities_nobody_is_sure_unless_the_gate_needed_no_threshold(
    make: Make, fake_vllm: Any
) -> None:
    fake_vllm.log_probability = None
    doubtful = make(threshold=0.01)
    given = asyncio.run(doubtful.answer("the app crashes"))
    assert given == Abstain(reason="confidence", confidence=0.0, text="bug")
    assert "no log probabilities" in doubtful._host.problems["vllm"]
    judged_so = make(threshold=0.0)
    assert asyncio.run(judged_so.answer("the app crashes")) == Answer(text="bug", confidence=0.0)


def test_the_gate_gets_its_answers_in_order_and_one_failure_takes_no_neighbour_along(
    make: Make, fake_vllm: Any
) -> None:
    one = make({"Label: canary": "x", "Label: bad": "", "": "bug"})
    requests = ["the app crashes", "bad", *(f"request {number}" for number in range(20))]
    answers = one.answer_many(requests)
    assert len(answers) == 22
    assert [isinstance(answer, Answer) for answer in answers] == [True, False, *[True] * 20]


def test_a_server_that_is_away_costs_no_time(
    settings: Settings, tmp_path: Path, vllm_stage: ModuleType
) -> None:
    chosen = VllmSettings(server="url", url="http://127.0.0.1:9/v1")
    host = RemoteHost(settings.model_copy(update={"vllm": chosen}))
    vllm_stage.write_generator(tmp_path / "a", ANSWERS)
    adapter = open_adapter(tmp_path / "a", slug="tickets", version="1")
    host.add(adapter, lambda: None)
    one = RemoteGenerator(host, adapter, shape=LABELS, threshold=0.5, redactor=None)
    try:
        began = time.monotonic()
        assert asyncio.run(one.answer("the app crashes")) == Abstain(reason="unavailable")
        assert time.monotonic() - began < 5
        assert set(host.problems) == {"vllm"}
    finally:
        host.close()
    assert asyncio.run(one.answer("the app crashes")) == Abstain(reason="unavailable")


def test_a_deadline_ends_the_generation(make: Make, fake_vllm: Any) -> None:
    one = make(deadline=0.1)
    assert asyncio.run(one.answer("hold on")) == Abstain(reason="deadline")


def test_a_caller_that_gives_up_is_not_waited_for(make: Make, fake_vllm: Any) -> None:
    one = make()

    async def impatient() -> None:
        async with asyncio.timeout(0.1):
            await one.answer("hold on")

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())


def test_closing_unloads_and_gives_the_files_back(
    settings: Settings, fake_vllm: Any, tmp_path: Path, vllm_stage: ModuleType
) -> None:
    chosen = VllmSettings(server="url", url=fake_vllm.url)
    host = RemoteHost(settings.model_copy(update={"vllm": chosen}))
    vllm_stage.write_generator(tmp_path / "a", ANSWERS)
    adapter = open_adapter(tmp_path / "a", slug="tickets", version="1")
    given_back: list[bool] = []
    host.add(adapter, lambda: given_back.append(True))
    host.wait_ready(adapter, 20)
    assert list(fake_vllm.adapters) == [adapter.name]
    host.take_out(adapter)
    assert fake_vllm.adapters == {}
    assert given_back == [True]
    host.close()


def test_without_a_server_it_says_which_setting_is_missing(
    settings: Settings, tmp_path: Path, vllm_stage: ModuleType
) -> None:
    vllm_stage.write_generator(tmp_path / "a", ANSWERS)
    adapter = open_adapter(tmp_path / "a", slug="tickets", version="1")
    with pytest.raises(ConfigError, match=r"vllm\.server is off"):
        RemoteHost(settings).add(adapter, lambda: None)
    chosen = settings.model_copy(update={"vllm": VllmSettings(server="url")})
    with pytest.raises(ConfigError, match=r"vllm\.url"):
        RemoteHost(chosen).add(adapter, lambda: None)
