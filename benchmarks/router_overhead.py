"""What the sidecar adds to a call that no specialist can answer, beside the direct call.

Three processes on one machine: a fast fake upstream, the sidecar as it is served, and this load
generator. All methods run in the same minutes, in alternating rounds. With ``--litellm``, LiteLLM's
proxy is measured as well, with fewer requests; it lives in an environment of its own
(``pip install 'litellm[proxy]'``), whose interpreter the option names. Cases: ``json_c1`` and
``sse_c1`` one call after the other, ``json_c64`` over 64 connections (about 1 kB each);
``hermes50k_c1`` and ``hermes50k_c64`` with a body of the size that Hermes sends; ``rejected_c1`` a
user's turn that the word filter turns away; ``matched_c1`` one of 32 tokens that a specialist
answers, whose ``p50_ms`` is all that it takes. ``cpu_us`` is the sidecar's own processor time for
one request, user and system, all threads: other work on the machine stretches it far less than the
clock. The sidecar has a registry with a matcher over 20 patterns and a classifier; the redactor is
loaded, as for any specialist trained on redacted data.

Run: ``python benchmarks/router_overhead.py --json``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import platformdirs
import uvloop

ROUNDS = 5
EVENTS = 20
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake-big",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It is done. " * 20},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
    }
).encode()


def events() -> bytes:
    """Return a streamed answer."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def event(delta: dict[str, str], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"

    parts = [event({"content": "word "}, None) for _ in range(EVENTS)]
    usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    last = json.dumps({**head, "choices": [], "usage": usage}).encode()
    return b"".join(
        b"%x\r\n%s\r\n" % (len(part), part)
        for part in (*parts, event({}, "stop"), b"data: " + last + b"\n\n", b"data: [DONE]\n\n")
    )


class FakeUpstream(asyncio.Protocol):
    """Answers every request at once, as an OpenAI-compatible endpoint would."""

    JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(ANSWER),
        ANSWER,
    )
    STREAM = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + events()
        + b"0\r\n\r\n"
    )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty request."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._streamed = False

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Note whether a stream is wanted; the flag stands at an end of the body."""
        ends = body if len(body) < 5_000 else body[-100:]
        self._streamed = self._streamed or b'"stream": true' in ends or b'"stream":true' in ends

    def on_message_complete(self) -> None:
        """Answer."""
        answer, self._streamed = self.STREAM if self._streamed else self.JSON, False
        self._transport.write(answer)  # type: ignore[attr-defined]


def run_upstream(ready: Connection) -> None:
    """Serve until terminated."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(FakeUpstream, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main())
        except KeyboardInterrupt:
            pass


def settings_for(upstream: str, home: str) -> Any:
    """Return the sidecar's settings, with the user's own store of models."""
    from hermes_apprentice.settings import (
        ModelSettings,
        RolloutSettings,
        ServerSettings,
        Settings,
        UpstreamSettings,
    )

    models = platformdirs.user_cache_path("hermes-apprentice") / "models"
    return Settings(
        home=Path(home) / "apprentice",
        hermes_home=Path(home) / "hermes",
        upstream=UpstreamSettings(base_url=f"{upstream}/v1", api_key_env=""),
        server=ServerSettings(port=0),
        models=ModelSettings(embedder="all-MiniLM-L6-v2", folder=models),
        # The fake upstream does not answer what was asked: comparing would take it out.
        rollout=RolloutSettings(audit_share=0.0),
    )


def run_sidecar(ready: Connection, upstream: str, home: str) -> None:
    """Serve until terminated."""
    from hermes_apprentice.router.server import serve

    serve(settings_for(upstream, home), ready=ready.send)


def run_place(ready: Connection, upstream: str, home: str) -> None:
    """Fill the home, in a process of its own, since fitting needs memory."""
    import _placed

    _placed.place(settings_for(upstream, home), redact=True)
    ready.send((_placed.KNOWN, _placed.OTHER))


@contextmanager
def child(target: Callable[..., None], *values: Any) -> Iterator[tuple[Any, int]]:
    """Run a function in a process of its own; gives the first that it sends, and its pid."""
    with child_with_pipe(target, *values) as (pipe, pid):
        yield pipe.recv(), pid


@contextmanager
def child_with_pipe(target: Callable[..., None], *values: Any) -> Iterator[tuple[Connection, int]]:
    """Run a function in a process of its own; gives the pipe to it once it spoke, and its pid."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *values), daemon=True)
    process.start()
    try:
        if not ours.poll(300):
            raise SystemExit(f"{target.__name__} did not start")
        assert process.pid is not None
        yield ours, process.pid
    finally:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGTERM)
        process.join(20)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def litellm(python: str | None, upstream: str, home: str) -> Iterator[tuple[str, int] | None]:
    """Run LiteLLM's proxy in front of the upstream, with one worker; gives its URL and pid."""
    if python is None:
        yield None
        return
    config, log = Path(home) / "litellm.yaml", Path(home) / "litellm.log"
    wanted = {"model": "openai/fake-big", "api_base": f"{upstream}/v1", "api_key": "sk-invented"}
    models = [{"model_name": "fake-big", "litellm_params": wanted}]
    # Without a key, as the sidecar is asked without one; it listens on this machine only.
    general = {"dangerously_permit_weak_or_unset_master_key": True}
    config.write_text(json.dumps({"model_list": models, "general_settings": general}))
    port = free_port()
    program = [str(Path(python).with_name("litellm")), "--config", str(config), "--host"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*program, "127.0.0.1", "--port", str(port), "--num_workers", "1"],
            stdout=stream,
            stderr=stream,
            cwd=home,
            env={
                **os.environ,
                "LITELLM_TELEMETRY": "False",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{url}/health/liveliness", timeout=5):
                    break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(log.read_text()[-2000:]) from None
                time.sleep(0.1)
        else:
            raise SystemExit(f"LiteLLM did not start:\n{log.read_text()[-2000:]}")
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


class Client(asyncio.Protocol):
    """One connection that sends the same request again and again."""

    def __init__(self, request: bytes, count: int, done: asyncio.Future[None]) -> None:
        self.latencies: list[float] = []
        self._request = request
        self._left = count
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = transport
        self._next()

    def _next(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._began = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Take the time, and send the next one."""
        if self._parser.get_status_code() != 200:
            self._done.set_exception(RuntimeError("a call failed"))
            return
        self.latencies.append(time.perf_counter() - self._began)
        self._left -= 1
        if self._left:
            self._next()
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that is lost early is a failure."""
        if not self._done.done():
            self._done.set_exception(RuntimeError("a connection was lost"))


def request_bytes(url: str, body: bytes) -> bytes:
    """Return a request with the headers that Hermes sends."""
    headers = {
        "Host": urlsplit(url).netloc,
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 2.24.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.24.0",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Async": "false",
        "Authorization": "Bearer sk-invented",
        "x-stainless-retry-count": "0",
        "x-stainless-read-timeout": "1800.0",
        "Content-Length": str(len(body)),
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""]).encode() + body


def continuation(size: int, streamed: bool) -> bytes:
    """Return a tool loop's second call, about ``size`` bytes long; no specialist may answer it."""
    schema = {"type": "object", "properties": {"path": {"type": "string", "description": "..."}}}
    tools = []
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": "You are an assistant. " * 4},
            {"role": "user", "content": "List the files here, then count them."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "terminal", "arguments": '{"command": "ls"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "a.txt\nb.txt"},
        ],
        "model": "fake-big",
        "max_tokens": 65536,
        "tools": tools,
    }
    while not tools or len(json.dumps(body)) < size - 40:
        number = len(tools)
        text = "Reads or writes what it is told to. " * (1 if size < 5_000 else 20)
        function = {"name": f"tool_{number}", "description": text, "parameters": schema}
        tools.append({"type": "function", "function": function})
    body["stream"] = streamed
    return json.dumps(body).encode()


def first_call(text: str) -> bytes:
    """Return the first call of a user's turn."""
    tool = {"name": "terminal", "description": "Runs a command.", "parameters": {}}
    body = {
        "messages": [
            {"role": "system", "content": "You are an assistant. " * 4},
            {"role": "user", "content": text},
        ],
        "model": "fake-big",
        "tools": [{"type": "function", "function": tool}],
    }
    return json.dumps(body).encode()


def start_seconds(upstream: str, home: str, body: bytes) -> float:
    """Return how long a sidecar takes from its start to a specialist's answer."""
    began = time.perf_counter()
    with child(run_sidecar, upstream, home) as (url, _):
        request = urllib.request.Request(f"{url}/v1/chat/completions", body)
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
            if response.headers["x-apprentice-route"] != "specialist":
                raise SystemExit("the specialist did not answer the first call")
        return round(time.perf_counter() - began, 2)


async def load(url: str, body: bytes, connections: int, count: int) -> tuple[list[float], float]:
    """Send ``count`` requests over each connection; return latencies and requests per second."""
    loop = asyncio.get_running_loop()
    place = urlsplit(url)
    request = request_bytes(url, body)
    began = time.perf_counter()
    clients = []
    for _ in range(connections):
        done = loop.create_future()
        _, client = await loop.create_connection(
            lambda done=done: Client(request, count, done), place.hostname, place.port
        )
        clients.append((client, done))
    await asyncio.gather(*(done for _, done in clients))
    elapsed = time.perf_counter() - began
    latencies = [value for client, _ in clients for value in client.latencies]
    return latencies, len(latencies) / elapsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load."""

    name: str
    body: bytes
    connections: int
    count: int


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, user and system, all threads."""
    # Behind the name in brackets, which may hold spaces itself.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(case: Case, urls: dict[str, str], pids: dict[str, int]) -> dict[str, Any]:
    """Return the figures of one case, methods in alternating rounds; the peer is asked less."""
    counts = {name: max(2, case.count // (20 if name == "litellm" else 1)) for name in urls}
    latencies: dict[str, list[float]] = {method: [] for method in urls}
    rates: dict[str, list[float]] = {method: [] for method in urls}
    used = dict.fromkeys(pids, 0.0)
    for method, url in urls.items():
        await load(url, case.body, case.connections, max(1, counts[method] // 10))
    for _ in range(ROUNDS):
        for method, url in urls.items():
            before = processor_seconds(pids[method]) if method in pids else 0.0
            found, rate = await load(url, case.body, case.connections, counts[method])
            if method in pids:
                used[method] += processor_seconds(pids[method]) - before
            latencies[method] += found
            rates[method].append(rate)
    figures: dict[str, Any] = {}
    for method, values in latencies.items():
        cuts = statistics.quantiles(values, n=100)
        figures[method] = {
            "p50_ms": round(cuts[49] * 1_000, 3),
            "p99_ms": round(cuts[98] * 1_000, 3),
            "rps": round(statistics.median(rates[method])),
            "body_bytes": len(case.body),
        }
    for method in pids:
        figures[method]["cpu_us"] = round(1e6 * used[method] / len(latencies[method]))
    for method in figures.keys() - {"direct"}:
        added = figures[method]["p50_ms"] - figures["direct"]["p50_ms"]
        figures[method]["added_p50_ms"] = round(added, 3)
    return figures


def resident_mb(pid: int) -> float:
    """Return a process' resident memory in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--litellm", help="interpreter of an environment with litellm[proxy]")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    small, stream, large = (
        continuation(1_000, False),
        continuation(1_000, True),
        continuation(50_000, False),
    )
    cases: tuple[Case, ...] = (
        Case(name="json_c1", body=small, connections=1, count=800),
        Case(name="sse_c1", body=stream, connections=1, count=500),
        Case(name="json_c64", body=small, connections=64, count=120),
        Case(name="hermes50k_c1", body=large, connections=1, count=400),
        Case(name="hermes50k_c64", body=large, connections=64, count=40),
    )
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home, child(run_upstream) as (port, _):
        upstream = f"http://127.0.0.1:{port}"
        with child(run_place, upstream, home) as ((known, other), _):
            pass
        cases = (
            *cases,
            Case(name="rejected_c1", body=first_call(other), connections=1, count=500),
            Case(name="matched_c1", body=first_call(known), connections=1, count=200),
        )
        starts = [start_seconds(upstream, home, first_call(known)) for _ in range(3)]
        with (
            child(run_sidecar, upstream, home) as (url, pid),
            litellm(arguments.litellm, upstream, home) as peer,
        ):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                for case in cases:
                    urls, pids = {"direct": upstream, "ours": url}, {"ours": pid}
                    if peer is not None:
                        urls["litellm"], pids["litellm"] = peer
                    figures[case.name] = runner.run(measure(case, urls, pids))
                    if not arguments.json:
                        print(case.name, figures[case.name])
            figures["memory"] = {"ours": {"resident_mb": resident_mb(pid)}}
            if peer is not None:
                figures["memory"]["litellm"] = {"resident_mb": resident_mb(peer[1])}
    figures["start"] = {"ours": {"seconds": statistics.median(starts)}}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
