"""What a key costs: the door's work on one request, in one process, without a network.

``none`` is a sidecar without tenants, ``key`` a tenant without limits, ``limits`` one with a
rate, quotas and a budget; ``renewal`` is the reading of the tables that happens once a second
off the request path. The fastest of several rounds counts, as the others only add noise.

Run: ``python benchmarks/tenant_overhead.py --json``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.router.door import Door
from hermes_apprentice.router.store import Store
from hermes_apprentice.router.tenants import Tenants
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore, marker_of

ROUNDS = 9
COUNT = 20_000
TENANTS = 100
PLENTY = 10**12


def scope(key: str) -> dict[str, Any]:
    """Return a request with the headers that Hermes sends."""
    names = ("accept", "accept-encoding", "content-length", "content-type", "user-agent")
    more = [(f"x-stainless-{number}".encode(), b"2.24.0") for number in range(6)]
    return {
        "path": "/v1/chat/completions",
        "method": "POST",
        "headers": [
            (b"host", b"127.0.0.1:8765"),
            *((name.encode(), b"anything") for name in names),
            *more,
            (b"authorization", f"Bearer {key}".encode()),
        ],
    }


def microseconds(tenants: Tenants, key: str) -> float:
    """Return the time for one request."""
    door, best = Door(tenants, ("box.example",), Counter()), float("inf")
    for _ in range(ROUNDS):
        request = scope(key)
        began = time.perf_counter()
        for _ in range(COUNT):
            if door.closed_to(request) is not None:
                raise SystemExit("the key was refused")
            door.left(request)
        best = min(best, (time.perf_counter() - began) / COUNT)
    return round(best * 1e6, 2)


async def measure(folder: Path) -> dict[str, Any]:
    """Return the figures."""
    path = folder / "apprentice.db"
    store = Store(path)
    tenants = Tenants(store, exposed=False, marker=marker_of(path))
    try:
        await tenants.renew()
        figures: dict[str, Any] = {"none": {"ours": {"us": microseconds(tenants, "sk-any")}}}
        limits = Limits(
            per_minute=10**9,
            burst=10**9,
            daily_requests=PLENTY,
            monthly_requests=PLENTY,
            daily_tokens=PLENTY,
            monthly_tokens=PLENTY,
            monthly_budget=PLENTY,
        )
        with Database(path) as database:
            office = TenantStore(database)
            free = office.create("free", Limits(), time.time()).text
            limited = office.create("limited", limits, time.time()).text
            for number in range(TENANTS - 2):
                office.create(f"tenant-{number}", Limits(), time.time())
        await tenants.renew()
        figures["key"] = {"ours": {"us": microseconds(tenants, free)}}
        figures["limits"] = {"ours": {"us": microseconds(tenants, limited)}}
        took = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await tenants.renew()
            took.append(time.perf_counter() - began)
        figures["renewal"] = {"ours": {"ms": round(min(took) * 1e3, 2), "tenants": TENANTS}}
        return figures
    finally:
        await store.close()


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--data", help="not used; there is nothing to read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder)))
    if not arguments.json:
        for case, values in figures.items():
            print(case, values["ours"])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
