"""What tests of generators behind the router need, on a fake vLLM or on the real one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.routing import MATCHER_FILE
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest, Stage
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.views import RECIPE, matching_vectors
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.statistics.open_set import fit_open_set
from hermes_apprentice.testing import put_in_stage

UPSTREAM_SAYS = "the upstream says so"
OTHER = tuple(
    f"{verb} {thing}"
    for verb in ("Tell me about", "Write a poem on", "What is the history of", "Plan a trip to")
    for thing in ("lighthouses", "the moon", "old bridges", "green tea", "chess", "whales")
)


@dataclass(frozen=True)
class Reply:
    """What a client got."""

    text: str
    route: str
    version: str | None
    digest: str | None
    finish: str


@asynccontextmanager
async def with_upstream(settings: Settings) -> AsyncIterator[Settings]:
    """Settings with an upstream that always says the same, and a free port."""

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        choice = {"message": {"role": "assistant", "content": UPSTREAM_SAYS}, "index": 0}
        if not asked.get("stream"):
            return web.json_response(
                {"id": "chatcmpl-up", "choices": [{**choice, "finish_reason": "stop"}]}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {"choices": [{"delta": {"content": UPSTREAM_SAYS}, "finish_reason": "stop"}]}
        await response.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield settings.model_copy(
            update={
                "upstream": UpstreamSettings(base_url=f"http://{host}:{port}/v1", api_key_env=""),
                "server": ServerSettings(port=0),
            }
        )
    finally:
        await runner.cleanup()


def publish(
    settings: Settings, embedder: Embedder, slug: str, artefact: Path, **recipe: str
) -> Manifest:
    """Register a generator's artefact."""
    registry = Registry(settings.registry_dir, load_or_create_keys(settings.keys_dir))
    return registry.publish(
        artefact,
        Manifest(
            format=1,
            slug=slug,
            version=0,
            pattern_id=f"pt-{slug}",
            label=slug,
            kind=Kind.GENERATOR,
            base="tiny",
            embedder=embedder.digest,
            dataset="d" * 64,
            redaction="none",
            recipe=tuple(sorted(recipe.items())),
            shape=Shape(kind=ShapeKind.TEXT, agreement=1.0),
            envelope=Envelope(max_turn_index=2, min_chars=5, max_chars=300, ascii_only=True),
            verdict=Verdict(
                outcome=Outcome.PASSED, reasons=("Passed.",), scores=None, threshold=0.5
            ),
            created_at=1_790_000_000.0,
            files=(),
        ),
    )


def publish_matcher(
    settings: Settings, embedder: Embedder, patterns: Mapping[str, Sequence[str]]
) -> None:
    """Fit and register the matcher."""
    texts = [text for requests in patterns.values() for text in requests] + list(OTHER)
    labels = [number for number, one in enumerate(patterns.values()) for _ in one]
    matcher = fit_open_set(
        matching_vectors(embedder.encode(texts)),
        np.array(labels + [-1] * len(OTHER)),
        tuple(patterns),
        0.05,
        3,
    )
    registry = Registry(settings.registry_dir, load_or_create_keys(settings.keys_dir))
    registry.publish_matcher(
        {MATCHER_FILE: matcher.to_bytes()}, {"embedder": embedder.digest, "vector": RECIPE}
    )


def set_stage(settings: Settings, slug: str, stage: Stage, version: int = 1) -> None:
    """Put a specialist into a stage."""
    share = 1.0 if stage is Stage.LIVE else 0.0
    put_in_stage(settings.database_path, slug, stage, share, version=version, held=True)


async def ask(url: str, text: str, *, stream: bool = True) -> Reply:
    """Ask as Hermes does."""
    body = {
        "model": "big",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
        "tools": [{"type": "function", "function": {"name": "terminal", "parameters": {}}}],
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        assert response.status == 200, await response.text()
        if stream:
            assert response.headers["content-type"].startswith("text/event-stream")
            said, finish, ended = "", "", False
            for line in (await response.text()).splitlines():
                if line == "data: [DONE]":
                    ended = True
                elif line.startswith("data: "):
                    for choice in json.loads(line[6:])["choices"]:
                        said += choice["delta"].get("content") or ""
                        finish = choice.get("finish_reason") or finish
            assert ended
        else:
            choice = (await response.json())["choices"][0]
            said, finish = choice["message"]["content"], choice["finish_reason"]
        return Reply(
            said,
            response.headers["x-apprentice-route"],
            response.headers.get("x-apprentice-version"),
            response.headers.get("x-apprentice-digest"),
            finish,
        )


async def until(condition: Callable[[], Any], patience: float, told: Callable[[], Any]) -> None:
    """Wait for something, and say what stood in its way."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, told()
        await asyncio.sleep(0.05)
