from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio

from hermes_apprentice.demo.texts import Corpus, DemoRequest, Sizes, make_corpus
from hermes_apprentice.demo.upstream import CONTEXT_LENGTH, Pace, SimulatedUpstream, text_of
from hermes_apprentice.errors import UpstreamError

AT_ONCE = Pace(first_token_s=0.0, per_token_s=0.0)
TERMINAL: Any = {
    "type": "function",
    "function": {"name": "terminal", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    sizes = Sizes(order=10, ticket=14, chat=10, multi_turn=4, tool=4)
    return make_corpus(random.Random(1), sizes)


@pytest_asyncio.fixture
async def upstream(corpus: Corpus) -> AsyncIterator[SimulatedUpstream]:
    server = SimulatedUpstream(corpus, "vendor/large", random.Random(2), pace=AT_ONCE)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def client(upstream: SimulatedUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=upstream.base_url, api_key="none", max_retries=0
    ) as opened:
        yield opened


def _messages(text: str, *, system: str = "You are Hermes Agent.") -> list[Any]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


async def _streamed(client: openai.AsyncOpenAI, text: str, **options: Any) -> list[Any]:
    stream = await client.chat.completions.create(
        model="vendor/large", messages=_messages(text), stream=True, **options
    )
    return [chunk async for chunk in stream]


def _content(chunks: Iterable[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_orders_and_labels_are_answered_with_the_truth(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    for item in (*corpus.of("order"), *corpus.of("ticket")):
        answer = await client.chat.completions.create(
            model="vendor/large", messages=_messages(item.request)
        )
        assert answer.choices[0].message.content == item.answer
        assert answer.choices[0].finish_reason == "stop"


async def test_a_streamed_answer_is_the_truth_piece_by_piece(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    order = corpus.of("order")[0]
    chunks = await _streamed(client, order.request, stream_options={"include_usage": True})
    assert _content(chunks) == order.answer
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks) > 10
    *_, end, usage = chunks
    assert end.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage.completion_tokens == (len(order.answer) + 3) // 4
    assert {chunk.system_fingerprint for chunk in chunks} == {"simulated"}


async def test_usage_is_streamed_only_when_asked_for(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    chunks = await _streamed(client, corpus.of("ticket")[0].request)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_a_request_is_known_by_what_hermes_makes_of_it(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    ticket = corpus.of("ticket")[0]
    chunks = await _streamed(client, f"{ticket.request}\n\n[System note: first message.]")
    assert _content(chunks) == ticket.answer


async def test_free_talk_varies_and_keeps_the_answer(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    chat = corpus.of("chat")[0]
    answers = {_content(await _streamed(client, chat.request)) for _ in range(20)}
    assert len(answers) > 1
    assert all(answer.endswith(chat.answer) for answer in answers)


async def test_a_tool_is_called_first_and_the_answer_comes_after_its_result(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    item = corpus.of("tool")[0]
    assert item.tool is not None
    first = await client.chat.completions.create(
        model="vendor/large", messages=_messages(item.request), tools=[TERMINAL]
    )
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("terminal", item.tool.arguments)

    result = {"role": "tool", "tool_call_id": call.id, "content": item.tool.output}
    after: list[Any] = [
        *_messages(item.request),
        first.choices[0].message.model_dump(exclude_none=True),
        result,
    ]
    second = await client.chat.completions.create(
        model="vendor/large", messages=after, tools=[TERMINAL]
    )
    assert second.choices[0].message.content == item.answer


async def test_a_streamed_tool_call_adds_up(corpus: Corpus, client: openai.AsyncOpenAI) -> None:
    item = corpus.of("tool")[1]
    assert item.tool is not None
    chunks = await _streamed(client, item.request, tools=[TERMINAL])
    calls = [
        call
        for chunk in chunks
        for choice in chunk.choices
        for call in choice.delta.tool_calls or ()
    ]
    assert calls[0].function.name == "terminal"
    assert "".join(call.function.arguments for call in calls) == item.tool.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_tool_that_is_not_offered_is_not_called(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    item = corpus.of("tool")[0]
    assert _content(await _streamed(client, item.request)) == item.answer


async def test_calls_are_counted_per_task(
    corpus: Corpus, upstream: SimulatedUpstream, client: openai.AsyncOpenAI
) -> None:
    known: list[DemoRequest] = [corpus.of("order")[0], corpus.of("order")[1], corpus.of("chat")[0]]
    for item in known:
        await _streamed(client, item.request)
    await _streamed(client, "Something that nobody foresaw")
    assert upstream.calls == {"order": 2, "chat": 1, "other": 1}


async def test_titles_are_not_mistaken_for_the_request(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    order = corpus.of("order")[0]
    answer = await client.chat.completions.create(
        model="vendor/large",
        messages=_messages(
            f"User: {order.request}\n\nAssistant: {order.answer}",
            system="Generate a short, descriptive title (3-7 words) for a conversation.",
        ),
    )
    assert answer.choices[0].message.content != order.answer


async def test_prompt_tokens_grow_with_messages_and_tools(
    corpus: Corpus, client: openai.AsyncOpenAI
) -> None:
    text = corpus.of("order")[0].request

    async def prompt_tokens(**options: Any) -> int:
        answer = await client.chat.completions.create(
            model="vendor/large", messages=_messages(text), **options
        )
        assert answer.usage is not None
        return int(answer.usage.prompt_tokens)

    plain = await prompt_tokens()
    assert len(text) // 4 < plain < len(text)
    assert await prompt_tokens(tools=[TERMINAL] * 20) > plain + 100


async def test_the_model_is_listed_with_a_context_that_hermes_accepts(
    upstream: SimulatedUpstream, client: openai.AsyncOpenAI
) -> None:
    (card,) = (await client.models.list()).data
    assert card.id == "vendor/large"
    assert card.model_dump()["context_length"] == CONTEXT_LENGTH >= 64_000
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{upstream.base_url}/models/vendor/large") as response,
    ):
        assert (await response.json())["id"] == "vendor/large"


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"messages": "hello"}'])
async def test_a_malformed_body_gets_a_clear_error(
    upstream: SimulatedUpstream, body: bytes
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{upstream.base_url}/chat/completions", data=body) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_an_answer_takes_the_time_of_its_tokens(corpus: Corpus) -> None:
    pace = Pace(first_token_s=0.05, per_token_s=0.002, jitter=0.0)
    server = SimulatedUpstream(corpus, "vendor/large", random.Random(3), pace=pace)
    await server.start()
    order = corpus.of("order")[0]
    tokens = (len(order.answer) + 3) // 4
    try:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
            for stream in (False, True):
                started = time.perf_counter()
                if stream:
                    await _streamed(client, order.request)
                else:
                    await client.chat.completions.create(
                        model="vendor/large", messages=_messages(order.request)
                    )
                assert time.perf_counter() - started >= 0.05 + 0.002 * (tokens - 1)
    finally:
        await server.stop()


async def test_a_client_that_hangs_up_disturbs_nobody(
    corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    pace = Pace(first_token_s=0.0, per_token_s=0.005)
    server = SimulatedUpstream(corpus, "vendor/large", random.Random(5), pace=pace)
    await server.start()
    order = corpus.of("order")[0]
    try:
        body = {"messages": _messages(order.request), "stream": True}
        async with aiohttp.ClientSession() as session:
            address = f"{server.base_url}/chat/completions"
            async with session.post(address, json=body) as response:
                await response.content.readline()
                response.close()
            async with session.post(address, json=body) as response:
                assert b"[DONE]" in await response.read()
    finally:
        await server.stop()
    assert not caplog.records


async def test_it_listens_on_the_loopback_interface_only_while_it_runs(corpus: Corpus) -> None:
    server = SimulatedUpstream(corpus, "vendor/large", random.Random(4), pace=AT_ONCE)
    with pytest.raises(UpstreamError, match="start it first"):
        _ = server.base_url
    await server.start()
    address = server.base_url
    assert address.startswith("http://127.0.0.1:")
    await server.stop()
    await server.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{address}/models")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "one"}, {"type": "image_url"}, {"text": "two"}], "one\ntwo"),
        (None, ""),
    ],
)
def test_the_text_of_a_message_is_found_in_any_form(content: object, text: str) -> None:
    assert text_of({"role": "user", "content": content}) == text
