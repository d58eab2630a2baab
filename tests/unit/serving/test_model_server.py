"""What a server says is checked before it is believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hermes_apprentice.domain.prompt import Message
from hermes_apprentice.errors import AdapterError, NotReadyError, ServingError, UnknownModelError
from hermes_apprentice.serving.model_server import Completion, ModelServer

ASKED = (Message("user", "hello"),)


@asynccontextmanager
async def answering(body: bytes, status: int = 200) -> AsyncIterator[ModelServer]:
    """A server that gives one answer to everything."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with ModelServer(f"http://{host}:{port}/v1") as server:
            yield server
    finally:
        await runner.cleanup()


def choice(**changes: Any) -> bytes:
    values = {"message": {"content": "hi"}, "finish_reason": "stop", **changes}
    return json.dumps({"model": "m", "choices": [values]}).encode()


async def test_text_end_and_probabilities_are_read() -> None:
    tokens = {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}
    async with answering(choice(logprobs=tokens)) as server:
        given = await server.complete("m", ASKED, max_tokens=4)
    assert given == Completion("hi", "stop", (-0.5, -0.25))


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
async def test_no_probabilities_are_none_and_never_invented(logprobs: object) -> None:
    async with answering(choice(logprobs=logprobs)) as server:
        given = await server.complete("m", ASKED, max_tokens=4)
    assert given.log_probabilities is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome</html>",
        b"[]",
        b"{}",
        b'{"model": "m", "choices": []}',
        choice(message=None),
        choice(message={"content": None}),
        choice(finish_reason=None),
        choice(logprobs={"content": [{"token": "x"}]}),
    ],
)
async def test_a_page_that_is_no_answer_is_an_error_whatever_its_status(body: bytes) -> None:
    async with answering(body) as server:
        with pytest.raises(ServingError):
            await server.complete("m", ASKED, max_tokens=4)


async def test_an_answer_of_another_model_is_an_error() -> None:
    async with answering(choice()) as server:
        with pytest.raises(ServingError, match="other was asked, and m answered"):
            await server.complete("other", ASKED, max_tokens=4)
        assert (await server.complete("other", ASKED, max_tokens=4, strict=False)).text == "hi"


async def test_an_error_does_not_repeat_what_was_asked() -> None:
    async with answering(b'{"error": {"message": "cannot read: hello"}}', 400) as server:
        with pytest.raises(ServingError) as caught:
            await server.complete("m", ASKED, max_tokens=4)
    assert "hello" not in str(caught.value)


async def test_an_endless_answer_is_cut_off() -> None:
    async with answering(b"x" * 5_000_000) as server:
        with pytest.raises(ServingError, match="too long"):
            await server.complete("m", ASKED, max_tokens=4)


async def test_a_server_that_is_not_there_is_not_ready() -> None:
    async with ModelServer("http://127.0.0.1:9/v1") as server:
        with pytest.raises(NotReadyError):
            await server.names()


async def test_an_address_without_the_endpoint_is_told(fake_vllm: Any) -> None:
    async with ModelServer(fake_vllm.url.removesuffix("/v1")) as server:
        with pytest.raises(ServingError, match="ends in /v1"):
            await server.names()


async def test_a_key_is_sent_and_needed(fake_vllm: Any) -> None:
    fake_vllm.key = "let-me-in"
    async with ModelServer(fake_vllm.url, "let-me-in") as server:
        assert await server.names() == ("base",)
    async with ModelServer(fake_vllm.url) as server:
        with pytest.raises(ServingError):
            await server.names()


async def test_a_folder_that_does_not_exist_fails(fake_vllm: Any, tmp_path: Path) -> None:
    async with ModelServer(fake_vllm.url) as server:
        with pytest.raises(AdapterError, match="No adapter found"):
            await server.load("ghost", tmp_path / "nowhere")
        with pytest.raises(UnknownModelError):
            await server.complete("ghost", ASKED, max_tokens=4)


async def test_a_server_without_adapters_is_told_from_a_missing_one(
    fake_vllm: Any, tmp_path: Path
) -> None:
    fake_vllm.loads_adapters = False
    async with ModelServer(fake_vllm.url) as server:
        with pytest.raises(AdapterError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await server.load("red", tmp_path)


async def test_running_requests_are_counted_where_the_server_says(fake_vllm: Any) -> None:
    fake_vllm.running = 3
    async with ModelServer(fake_vllm.url) as server:
        assert await server.busy() == 3
    async with answering(b"nothing of the kind") as server:
        assert await server.busy() is None


async def test_who_stops_waiting_closes_the_connection() -> None:
    gone = asyncio.Event()
    arrived = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with ModelServer(f"http://{host}:{port}/v1") as server:
        task = asyncio.create_task(server.complete("m", ASKED, max_tokens=4))
        await asyncio.wait_for(arrived.wait(), 10)
        task.cancel()
        await asyncio.wait_for(gone.wait(), 10)
    await runner.cleanup()
