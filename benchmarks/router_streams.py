"""Streams through the sidecar: 64 clients together at 10 MB/s, memory, delay, and the start.

A fake upstream streams server-sent events of a chat completion at a fixed pace to 64 clients at
once, through the sidecar and, with ``--litellm``, through LiteLLM's proxy in an environment of its
own (``pip install 'litellm[proxy]'``; the option names its interpreter). Every burst of events
carries the time at which it was written; the delay is what passes until the client has it. Streams
that have not arrived 10 seconds after their end are cut, and missing in ``finished``. Memory
is the proxy's resident set, a quarter into the run and at its end. ``start`` is the time from
starting the sidecar's process until its first answer.

Run: ``python benchmarks/router_streams.py --json``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop
from router_overhead import (
    child,
    litellm,
    request_bytes,
    resident_mb,
    run_sidecar,
    run_upstream,
)

CLIENTS = 64
BYTES_PER_SECOND = 10_000_000
INTERVAL = 0.04
STARTS = 3
LATE = 10.0
"""Seconds after their end by which streams must have arrived."""

PATIENCE = 30.0

EVENT = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake-big",
        "choices": [{"index": 0, "delta": {"content": "some words "}, "finish_reason": None}],
    }
).encode()
LAST = EVENT.replace(b'"finish_reason": null', b'"finish_reason": "stop"')
PROGRAM = """
from hermes_apprentice.router.server import serve
from hermes_apprentice.settings import load_settings
serve(load_settings(), ready=lambda url: print(url, flush=True))
"""


class Streaming(asyncio.Protocol):
    """Streams bursts of events at a fixed pace, for as many seconds as the request says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with an empty request."""
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep the request."""
        self._body += body

    def on_message_complete(self) -> None:
        """Begin to stream."""
        if not self._body:  # proxies look around before they ask
            self._transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        text = json.loads(self._body)["messages"][-1]["content"]
        self._body = b""
        self._ends = time.monotonic() + float(text)
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        self._next = time.monotonic()
        self._burst()

    def _burst(self) -> None:
        now = time.monotonic()
        if now >= self._ends:
            self._chunk(b"data: " + LAST + b"\n\ndata: [DONE]\n\n")
            self._transport.write(b"0\r\n\r\n")
            return
        if not self._paused:
            stamped = EVENT.replace(b"some words ", b"@%.6f@" % now)
            plain = b"data: " + EVENT + b"\n\n"
            wanted = int(BYTES_PER_SECOND * INTERVAL / CLIENTS)
            self._chunk(b"data: " + stamped + b"\n\n" + plain * (wanted // len(plain)))
        self._next += INTERVAL
        delay = max(0.0, self._next - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._burst)

    def _chunk(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def pause_writing(self) -> None:
        """Skip bursts while the reader does not keep up."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()


def run_streams(ready: Connection) -> None:
    """Serve streams until terminated."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Streaming, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main())
        except KeyboardInterrupt:
            pass


class Reader(asyncio.Protocol):
    """Reads one stream, and notes how old its time stamps are."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self.received = 0
        self.delays: list[float] = []
        self._request = request
        self._done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = transport
        self._transport.write(self._request)

    def leave(self) -> None:
        """Hang up."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Count, and look for time stamps."""
        self.received += len(body)
        now, at = time.monotonic(), body.find(b"@")
        while at >= 0:
            end = body.find(b"@", at + 1)
            if end < 0:
                return
            self.delays.append(now - float(body[at + 1 : end]))
            at = body.find(b"@", end + 1)

    def on_message_complete(self) -> None:
        """End."""
        if not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A stream that breaks off is a failure."""
        if not self._done.done():
            self._done.set_exception(RuntimeError("a stream broke off"))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stream_all(url: str, pid: int, seconds: float) -> dict[str, Any]:
    """Read all streams at once, and return the figures."""
    loop, place = asyncio.get_running_loop(), urlsplit(url)
    body = {
        "model": "fake-big",
        "messages": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": f"{seconds:g}"},
        ],
        "stream": True,
    }
    request = request_bytes(url, json.dumps(body).encode())
    began, used, readers = time.monotonic(), cpu_seconds(pid), []
    for _ in range(CLIENTS):
        done = loop.create_future()
        _, reader = await loop.create_connection(
            lambda done=done: Reader(request, done), place.hostname, place.port
        )
        readers.append((reader, done))
    await asyncio.sleep(seconds / 4)
    early = resident_mb(pid)
    ends = [done for _, done in readers]
    finished, _ = await asyncio.wait(ends, timeout=began + seconds + LATE - time.monotonic())
    elapsed = time.monotonic() - began
    for done in finished:
        done.result()
    received = sum(reader.received for reader, _ in readers)
    for reader, done in readers:
        if not done.done():
            done.cancel()
            reader.leave()
    cuts = statistics.quantiles([value for reader, _ in readers for value in reader.delays], n=100)
    late = resident_mb(pid)
    return {
        "finished": len(finished),
        "mb_per_s": round(received / elapsed / 1e6, 2),
        "delay_p50_ms": round(cuts[49] * 1_000, 2),
        "delay_p99_ms": round(cuts[98] * 1_000, 2),
        "resident_mb_early": early,
        "resident_mb_late": late,
        "growth_mb": round(late - early, 1),
        "cpu_share": round((cpu_seconds(pid) - used) / elapsed, 2),
    }


def start_seconds(upstream: str, home: Path) -> float:
    """Return how long it takes from starting the sidecar to its first answer."""
    home.mkdir()
    (home / "settings.toml").write_text(
        f'[server]\nport = 0\n[upstream]\nbase_url = "{upstream}/v1"\napi_key_env = ""\n'
    )
    environment = {**os.environ, "APPRENTICE_HOME": str(home), "HERMES_HOME": str(home / "hermes")}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
            request = urllib.request.Request(f"{url}/v1/chat/completions", body.encode())
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                answer.read()
            return time.monotonic() - began
        finally:
            process.terminate()


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the streams")
    parser.add_argument("--litellm", help="interpreter of an environment with litellm[proxy]")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    streams: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as home,
        child(run_streams) as (port, pid),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        upstream = f"http://127.0.0.1:{port}"
        streams["direct"] = runner.run(stream_all(upstream, pid, arguments.seconds))
        with child(run_sidecar, upstream, home) as (url, pid):
            runner.run(stream_all(url, pid, 1.0))
            streams["ours"] = runner.run(stream_all(url, pid, arguments.seconds))
        with litellm(arguments.litellm, upstream, home) as peer:
            if peer is not None:
                streams["litellm"] = runner.run(stream_all(*peer, arguments.seconds))
    figures["streams_c64"] = streams
    with tempfile.TemporaryDirectory() as home, child(run_upstream) as (port, _):
        upstream = f"http://127.0.0.1:{port}"
        times = [start_seconds(upstream, Path(home) / f"start-{n}") for n in range(STARTS)]
        figures["start"] = {"ours": {"seconds": round(statistics.median(times), 2)}}
    if not arguments.json:
        for name, found in figures.items():
            print(name, found)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
