"""What the sidecar answers while it is still starting."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.router.server import running_sidecar
from hermes_apprentice.router.specialists import Loaded, Loading
from hermes_apprentice.settings import ServerSettings, Settings, UpstreamSettings
from hermes_apprentice.testing import FakeMatcher, FakeRuntime, FakeSource, put_in_stage

ASKED = "Label this ticket: the app crashes."
DEADLINE = 20.0


class _Upstream(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "from upstream"}
        answer = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *values: Any) -> None:
        return


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join(DEADLINE)
    server.server_close()


class _Slow:
    """A source that loads when it is allowed to."""

    def __init__(self, source: FakeSource) -> None:
        self.loading, self.may = threading.Event(), threading.Event()
        self._source = source

    def stamp(self, wanted: Mapping[str, int]) -> object:
        return self._source.stamp(wanted)

    def load(self, wanted: Mapping[str, int]) -> Loading:
        self.loading.set()
        assert self.may.wait(DEADLINE)
        return self._source.load(wanted)


def _route(url: str) -> str:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": ASKED}],
        "tools": [{"type": "function", "function": {"name": "terminal", "parameters": {}}}],
    }
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=DEADLINE) as response:
        response.read()
        return str(response.headers["x-apprentice-route"])


async def test_while_specialists_are_loaded_the_upstream_answers(
    settings: Settings, upstream: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = settings.model_copy(
        update={
            "upstream": UpstreamSettings(base_url=upstream, api_key_env=""),
            "server": ServerSettings(port=port),
            "rollout": settings.rollout.model_copy(update={"audit_share": 0.0}),
        }
    )
    put_in_stage(settings.database_path, "label")
    shape = Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing"))
    loaded = Loaded(slug="label", version=1, shape=shape, runtime=FakeRuntime({ASKED: "bug"}))
    source = _Slow(FakeSource(FakeMatcher({ASKED: "label"}), loaded))
    url = f"http://127.0.0.1:{port}"

    async def serve() -> str:
        async with running_sidecar(settings, source=source):
            return await asyncio.to_thread(_route, url)

    serving = asyncio.create_task(serve())
    try:
        assert await asyncio.to_thread(source.loading.wait, DEADLINE)
        assert await asyncio.to_thread(_route, url) == "upstream"
        assert not serving.done()
    finally:
        source.may.set()
    assert await serving == "specialist"
