"""Start and memory of the sidecar with everything loaded that a CPU serves.

A registry with a matcher over 20 patterns, a word filter, a classifier and an extractor, both
trained on redacted text, so the redactor is loaded as well. Keys:

``start``: seconds by the clock from starting the process until the upstream's and until the
specialist's first answer, and the processor time that the process had used by then; the median
of a few starts. ``memory``: what the process holds after its start and after every round of mixed
calls (a specialist's, turned away, and 50 kB bodies of a tool loop, over 64 connections): resident,
of that private to the process, and of that mapped from files.

Run: ``python benchmarks/sidecar_start.py --json``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import _placed
import uvloop
from router_overhead import (
    child,
    child_with_pipe,
    continuation,
    first_call,
    free_port,
    load,
    run_upstream,
    settings_for,
)

PATIENCE = 60.0


def run_place(upstream: str, home: str) -> None:
    """Fill the home, in a process of its own, since training needs memory."""
    _placed.place(settings_for(upstream, home), redact=True, extractor=True)


def run_sidecar(ready: Connection, upstream: str, home: str, port: int) -> None:
    """Serve at a port that is known beforehand until terminated."""
    from hermes_apprentice.router.server import serve
    from hermes_apprentice.settings import ServerSettings

    settings = settings_for(upstream, home)
    settings = settings.model_copy(update={"server": ServerSettings(port=port)})
    ready.send("starting")
    serve(settings, ready=ready.send)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, float]:
    """Return what a process holds, in megabytes."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    found = {row[0].rstrip(":"): int(row[1]) * 1_024 / 1e6 for row in rows}
    return {
        "resident_mb": round(found["Rss"], 1),
        "private_mb": round(found["Private_Clean"] + found["Private_Dirty"], 1),
        "files_mb": round(found["Rss"] - found["Anonymous"], 1),
    }


def route(url: str, body: bytes) -> str:
    """Return who answered a request; empty while nobody listens."""
    request = urllib.request.Request(f"{url}/v1/chat/completions", body)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            response.read()
            return str(response.headers["x-apprentice-route"])
    except (urllib.error.URLError, ConnectionError):
        return ""


def one_start(upstream: str, home: str, body: bytes) -> dict[str, float]:
    """Return the figures of one start."""
    port = free_port()
    began = time.perf_counter()
    figures: dict[str, float] = {}
    with child(run_sidecar, upstream, home, port) as (_, pid):
        url = f"http://127.0.0.1:{port}"
        while "specialist_s" not in figures:
            found = route(url, body)
            now, used = time.perf_counter() - began, processor_seconds(pid)
            if found and "upstream_s" not in figures:
                figures |= {"upstream_s": now, "upstream_cpu_s": used}
            if found == "specialist":
                figures |= {"specialist_s": now, "specialist_cpu_s": used}
            if now > PATIENCE:
                raise SystemExit("the specialist did not answer")
            time.sleep(0.005)
    return figures


def memory_under_load(upstream: str, home: str, rounds: int) -> list[dict[str, float]]:
    """Return the memory after the start and after every round of calls."""
    port = free_port()
    with child_with_pipe(run_sidecar, upstream, home, port) as (pipe, pid):
        pipe.recv()
        url = pipe.recv()
        for text, wanted in ((_placed.KNOWN, "specialist"), (_placed.ORDER, "fallback")):
            # On a busy machine a specialist may be late, which is no answer.
            if wanted not in {route(url, first_call(text)) for _ in range(5)}:
                raise SystemExit(f"no {wanted} for {text!r}")
        found = [{"calls": 10, **memory(pid)}]
        bodies = [
            (first_call(_placed.KNOWN), 8, 40),
            (first_call(_placed.ORDER), 8, 20),
            (first_call(_placed.OTHER), 16, 40),
            (continuation(50_000, False), 64, 20),
            (continuation(1_000, True), 64, 10),
        ]
        calls = 10
        for _ in range(rounds):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                for body, connections, count in bodies:
                    runner.run(load(url, body, connections, count))
                    calls += connections * count
            found.append({"calls": calls, **memory(pid)})
    return found


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--starts", type=int, default=5, help="how many starts")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of 3,000 calls")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, child(run_upstream) as (port, _):
        upstream = f"http://127.0.0.1:{port}"
        placing = multiprocessing.get_context("spawn").Process(
            target=run_place, args=(upstream, home)
        )
        placing.start()
        placing.join()
        if placing.exitcode:
            raise SystemExit("the registry could not be filled")
        body = first_call(_placed.KNOWN)
        starts = [one_start(upstream, home, body) for _ in range(arguments.starts)]
        figures: dict[str, Any] = {
            "start": {
                name: round(statistics.median(one[name] for one in starts), 2) for name in starts[0]
            },
            "memory": memory_under_load(upstream, home, arguments.rounds),
        }
    if not arguments.json:
        for name, found in figures.items():
            print(name, found)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
