"""Adapters on the real vLLM: loaded, asked under load, refused, lost with the server and back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.prompt import Message, render
from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Abstain, Answer
from hermes_apprentice.errors import AdapterError, UnknownModelError
from hermes_apprentice.serving.adapter import Adapter, open_adapter
from hermes_apprentice.serving.model_server import ModelServer
from hermes_apprentice.serving.remote_generator import RemoteGenerator
from hermes_apprentice.serving.remote_host import RemoteHost
from hermes_apprentice.serving.residency import Residency
from hermes_apprentice.serving.vllm import read_note
from hermes_apprentice.settings import Settings

TEXT = Shape(kind=ShapeKind.TEXT, agreement=1.0)
PATIENCE = 250.0


def opened(folder: Path, slug: str, version: str = "1") -> Adapter:
    return open_adapter(folder, slug=slug, version=version)


@pytest.fixture
def host(vllm_settings: Settings) -> Iterator[RemoteHost]:
    one = RemoteHost(vllm_settings)
    yield one
    one.close()


def runtime(host: RemoteHost, adapter: Adapter, threshold: float = 0.5) -> RemoteGenerator:
    host.add(adapter, lambda: None)
    return RemoteGenerator(host, adapter, shape=TEXT, threshold=threshold, redactor=None)


@pytest.mark.timeout(600)
async def test_a_whole_life_with_room_for_one_adapter(
    host: RemoteHost, vllm_settings: Settings, artefact: Callable[..., Path], tiny: Any
) -> None:
    requests = tiny.facts["requests"]
    kind = runtime(host, opened(artefact("kind"), "kind"))
    assert await kind.answer(requests[0]) == Abstain(reason="unavailable")  # it is starting
    await asyncio.to_thread(host.wait_ready, kind.adapter, PATIENCE)

    # Its own answers, as sure as it was trained to be.
    given = await kind.answer(requests[1])
    assert isinstance(given, Answer)
    assert given.text == tiny.answer("kind", requests[1])
    assert 0.9 < given.confidence <= 1.0

    # Two adapters at once, 48 requests, room for one: nobody gets the other's answer.
    colour = runtime(host, opened(artefact("colour"), "colour"))
    began = time.perf_counter()
    jobs = [
        (one, name, request)
        for request in requests
        for one, name in ((kind, "kind"), (colour, "colour"))
    ] + [(kind, "kind", one) for one in requests]
    answers = await asyncio.gather(*(one.answer(request) for one, _, request in jobs))
    print(f"{len(jobs)} requests with changes between: {time.perf_counter() - began:.2f} s")
    for (_, name, request), answer in zip(jobs, answers, strict=True):
        assert isinstance(answer, Answer), answer
        assert answer.text == tiny.answer(name, request)
    assert len(host.resident) == 1  # the other one made room

    # Weights that answer another way than the card says are refused.
    wrong = runtime(host, opened(artefact("colour", "wrong", canary_answer="blue"), "wrong"))
    assert await wrong.answer(requests[0]) == Abstain(reason="error")
    assert "canary" in host.problems["wrong"]
    address = read_note(vllm_settings.vllm_note)
    async with ModelServer(*address) as server:
        assert wrong.adapter.name not in await server.names()

        # A folder that does not exist, a model that is not loaded and a page that is not there.
        with pytest.raises(AdapterError, match="No adapter found"):
            await server.load("ghost", tiny.folder / "nowhere")
        with pytest.raises(UnknownModelError):
            await server.complete("ghost", (Message("user", "x"),), max_tokens=4)
        assert (await server._call("GET", "/no/such/path", None, 10.0))[0] == 404
        without = ModelServer(address.url)
        async with without:
            assert (await without._call("GET", "/models", None, 10.0))[0] == 401

    # Taken out of service: unloaded, and no longer answered.
    assert isinstance(await kind.answer(requests[2]), Answer)
    await asyncio.to_thread(host.take_out, kind.adapter)
    async with ModelServer(*address) as server:
        assert kind.adapter.name not in await server.names()
    assert isinstance(await kind.answer(requests[2]), Abstain)

    # Put back: another copy of the same version.
    again = runtime(host, opened(kind.adapter.folder, "kind"))
    assert again.adapter.name == kind.adapter.name
    given = await again.answer(requests[3])
    assert isinstance(given, Answer)
    assert given.text == tiny.answer("kind", requests[3])

    # Killed: it comes back by itself, with a new key, and loads what is wanted.
    import json

    os.kill(json.loads(vllm_settings.vllm_note.read_bytes())["pid"], signal.SIGKILL)
    assert (await again.answer(requests[4])).__class__ is Abstain
    deadline = time.monotonic() + PATIENCE
    while not isinstance(given := await again.answer(requests[5]), Answer):
        assert time.monotonic() < deadline, host.problems
        await asyncio.sleep(0.2)
    assert given.text == tiny.answer("kind", requests[5])
    assert read_note(vllm_settings.vllm_note) != address

    # Loading while answers run, over and over: every change is drained.
    await asyncio.sleep(0)
    async with ModelServer(*read_note(vllm_settings.vllm_note)) as server:
        residency = Residency(server, room=1, max_rank=8, drain_seconds=30.0)
        pair = {
            name: opened(artefact(name, f"{name}-2"), f"{name}-again")
            for name in ("kind", "colour")
        }

        async def ask(name: str, request: str) -> None:
            card = pair[name].card
            completion = await residency.complete(pair[name], render(card.prompt, request))
            assert completion.text == tiny.answer(name, request)

        for number in range(6):
            names = ("kind", "colour") if number % 2 else ("colour", "kind")
            await asyncio.gather(*(ask(name, requests[number]) for name in names * 3))

        # Given up in the middle: the change that follows waits for the engine, not only for us.
        given_up = [asyncio.create_task(ask("kind", one)) for one in requests]
        await asyncio.wait(given_up, timeout=0.03)
        for task in given_up:
            task.cancel()
        await ask("colour", requests[0])
        for one in pair.values():
            await residency.release(one)
