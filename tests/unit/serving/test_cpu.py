from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

import pytest

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.inference.base import CpuModel, Prediction
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.serving.cpu import CpuRuntime
from hermes_apprentice.testing import FakeEmbedder, FakeModel

LABELS = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
TEXTS = Shape(kind=ShapeKind.TEXT, agreement=1.0)


class Recorder:
    """A model that answers by a rule and keeps what it was asked."""

    def __init__(self, text: str = "bug", confidence: float = 0.9, reads: bool = True) -> None:
        self.text = text
        self.confidence = confidence
        self.reads_encodings = reads
        self.requests: list[str] = []
        self.encodings: list[Encoding] = []
        self.threads: set[str] = set()

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        self.requests += requests
        self.encodings += encodings or []
        self.threads.add(threading.current_thread().name)
        return [Prediction(self.text, self.confidence) for _ in requests]


class Broken:
    """A model that fails on some requests, quoting them."""

    reads_encodings = False

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        if any("secret" in request for request in requests):
            raise KeyError(f"cannot read: {requests}")
        return [Prediction("bug", 0.9) for _ in requests]


class CountingEmbedder(FakeEmbedder):
    """Counts the texts it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        self.seen += texts
        return super().encode(texts)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        raise AssertionError("a specialist reads encodings")


def runtime(
    model: CpuModel,
    *,
    shape: Shape = LABELS,
    threshold: float = 0.5,
    embedder: FakeEmbedder | None = None,
    redactor: Redactor | None = None,
) -> CpuRuntime:
    return CpuRuntime(
        model,
        name="tickets version 1",
        shape=shape,
        threshold=threshold,
        embedder=embedder or FakeEmbedder(),
        redactor=redactor,
    )


def ask(model: CpuModel, request: str, **settings: object) -> Answer | Abstain:
    one = runtime(model, **settings)  # type: ignore[arg-type]
    try:
        return asyncio.run(one.answer(request))
    finally:
        one.close()


def test_a_sure_answer_of_the_right_shape_is_given() -> None:
    assert ask(Recorder(), "the app crashes") == Answer(text="bug", confidence=0.9)


def test_below_the_threshold_it_abstains_and_keeps_the_answer_for_comparison() -> None:
    answer = ask(Recorder(confidence=0.49), "the app crashes")
    assert answer == Abstain(reason="confidence", confidence=0.49, text="bug")


def test_exactly_at_the_threshold_it_answers() -> None:
    assert isinstance(ask(Recorder(confidence=0.5), "the app crashes"), Answer)


def test_a_confidence_that_is_no_number_is_never_enough() -> None:
    answer = ask(Recorder(confidence=float("nan")), "the app crashes", threshold=0.0)
    assert isinstance(answer, Abstain)
    assert answer.reason == "confidence"


def test_an_answer_of_the_wrong_shape_is_never_given() -> None:
    answer = ask(Recorder(text="no such label", confidence=1.0), "the app crashes")
    assert answer == Abstain(reason="invalid", confidence=1.0)


def test_personal_data_never_reaches_the_model_and_comes_back_in_the_answer() -> None:
    model = Recorder(text="write to <EMAIL_1>")
    answer = ask(model, "reply to ada@example.test please", shape=TEXTS, redactor=Redactor())
    assert answer == Answer(text="write to ada@example.test", confidence=0.9)
    assert model.requests == ["reply to <EMAIL_1> please"]


def test_a_placeholder_that_stands_for_nothing_is_never_served() -> None:
    answer = ask(
        Recorder(text="write to <EMAIL_2>"),
        "reply to ada@example.test please",
        shape=TEXTS,
        redactor=Redactor(),
    )
    assert answer == Abstain(reason="invalid", confidence=0.9)


def test_an_encoding_that_is_there_is_used_again() -> None:
    embedder, model = CountingEmbedder(), Recorder()
    given = FakeEmbedder().encode(["the app crashes"])[0]
    one = runtime(model, embedder=embedder, redactor=Redactor())
    asyncio.run(one.answer("the app crashes", given))
    one.close()
    assert embedder.seen == []
    assert model.encodings[0] is given


def test_an_encoding_of_the_raw_text_is_not_used_for_the_redacted_one() -> None:
    embedder, model = CountingEmbedder(), Recorder()
    request = "mail ada@example.test: the app crashes"
    given = FakeEmbedder().encode([request])[0]
    one = runtime(model, embedder=embedder, redactor=Redactor())
    asyncio.run(one.answer(request, given))
    one.close()
    assert embedder.seen == ["mail <EMAIL_1>: the app crashes"]
    assert model.encodings[0] is not given


def test_a_model_with_a_network_of_its_own_costs_no_encoding() -> None:
    embedder = CountingEmbedder()
    ask(Recorder(reads=False), "the app crashes", embedder=embedder)
    assert embedder.seen == []


def test_the_model_never_runs_on_the_event_loop() -> None:
    model = Recorder()
    ask(model, "the app crashes")
    assert threading.main_thread().name not in model.threads


def test_a_failing_model_abstains_and_the_log_keeps_the_request_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert ask(Broken(), "my secret is 1234") == Abstain(reason="error")
    assert "KeyError in predict" in caplog.text
    assert "tickets version 1" in caplog.text
    assert "secret is" not in caplog.text


def test_one_bad_request_does_not_take_its_neighbours_along() -> None:
    one = runtime(Broken())
    answers = one.answer_many(["fine", "my secret", "fine too"])
    one.close()
    assert answers == [
        Answer(text="bug", confidence=0.9),
        Abstain(reason="error"),
        Answer(text="bug", confidence=0.9),
    ]


def test_many_requests_are_answered_like_single_ones() -> None:
    model = FakeModel({f"ticket {n}": ("bug", "billing")[n % 2] for n in range(150)}, "bug")
    requests = [f"ticket {n}" for n in range(0, 300, 2)]
    one = runtime(model, redactor=Redactor())

    async def singly() -> list[Answer | Abstain]:
        return [await one.answer(request) for request in requests]

    assert one.answer_many(requests) == asyncio.run(singly())
    assert one.answer_many([]) == []
    one.close()


def test_many_callers_at_once_get_their_own_answers() -> None:
    requests = [f"user{n}@example.test wrote" for n in range(40)]

    class Echo(Recorder):
        def predict(
            self, requests: Sequence[str], encodings: Sequence[Encoding] | None
        ) -> list[Prediction]:
            return [Prediction(request, 0.9) for request in requests]

    one = runtime(Echo(), shape=TEXTS, redactor=Redactor())

    async def all_at_once() -> list[Answer | Abstain]:
        return list(await asyncio.gather(*(one.answer(request) for request in requests)))

    answers = asyncio.run(all_at_once())
    one.close()
    assert [answer.text for answer in answers] == requests


class Gated:
    """A model that waits for a sign, and notes how many requests it gets at once."""

    reads_encodings = False

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Semaphore(0)
        self.sizes: list[int] = []
        self.seen: list[str] = []

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        self.sizes.append(len(requests))
        self.seen += requests
        self.began.release()
        assert self.go.wait(10)
        return [Prediction("bug" if "crash" in one else "billing", 0.9) for one in requests]


async def test_requests_that_wait_at_the_same_time_are_taken_together_and_kept_apart() -> None:
    model = Gated()
    one = runtime(model)
    requests = [f"crash {number}" if number % 3 else f"bill {number}" for number in range(40)]
    tasks = [asyncio.create_task(one.answer(request)) for request in requests]
    assert await asyncio.to_thread(model.began.acquire, True, 10)
    await asyncio.sleep(0)
    model.go.set()
    answers = await asyncio.gather(*tasks)
    for request, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Answer)
        assert answer.text == ("bug" if "crash" in request else "billing")
    assert sum(model.sizes) == 40
    assert max(model.sizes) > 1
    assert len(model.sizes) < 40
    one.close()


async def test_a_request_alone_does_not_wait_for_company() -> None:
    model = Gated()
    model.go.set()
    one = runtime(model)
    assert isinstance(await one.answer("crash"), Answer)
    assert model.sizes == [1]
    one.close()


async def test_who_gave_up_before_its_turn_is_not_computed_for() -> None:
    model = Gated()
    one = runtime(model)
    first = []
    for number in range(2):  # both workers are busy
        first.append(asyncio.create_task(one.answer(f"crash {number}")))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(model.began.acquire, True, 10)
    late = asyncio.create_task(one.answer("crash never"))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.wait({late})
    model.go.set()
    await asyncio.gather(*first)
    one.close()
    assert "crash never" not in model.seen


async def test_a_bad_request_takes_no_neighbour_along_when_they_are_taken_together() -> None:
    one = runtime(Broken())
    requests = [f"request {number}" for number in range(20)]
    requests[7] = "a secret"
    answers = await asyncio.gather(*(one.answer(request) for request in requests))
    assert [isinstance(answer, Answer) for answer in answers] == [n != 7 for n in range(20)]
    assert answers[7] == Abstain(reason="error")
    one.close()


async def test_the_event_loop_goes_on_while_a_model_computes() -> None:
    model = Gated()
    one = runtime(model)
    task = asyncio.create_task(one.answer("crash"))
    assert await asyncio.to_thread(model.began.acquire, True, 10)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    model.go.set()
    assert isinstance(await task, Answer)
    one.close()
