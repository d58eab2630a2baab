"""Who answered how many requests, and how fast, read from the ledger.

Knows nothing about money; see ``costs`` and ``roi``. Audits are calls of their own
that no client waits for, so they count as a route but not among the requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hermes_apprentice.domain.routing import Route
from hermes_apprentice.storage.database import Database

MOST_TIMED = 50_000
"""Latest calls that latencies are read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTotal:
    """All calls of a period that went one way."""

    route: Route
    """Who answered."""

    calls: int
    """How many."""

    failed: int
    """Those that ended with an error status, hang-ups included."""

    prompt_tokens: int
    """Tokens of the requests, cached ones included."""

    cached_tokens: int
    """Those read from the upstream's cache."""

    completion_tokens: int
    """Tokens of the answers."""

    estimated: int
    """Calls whose tokens are our estimate, because no upstream counted them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The calls of a period, cut into equal slots of time."""

    start: float
    """Unix time of the first slot."""

    slot_seconds: float
    """Length of a slot."""

    slots: tuple[dict[Route, int], ...]
    """Calls by route in each slot, oldest first; a route without calls is left out."""

    totals: tuple[RouteTotal, ...]
    """The same calls summed up, in the order of ``Route``."""

    @property
    def requests(self) -> int:
        """Calls that a client made."""
        return sum(total.calls for total in self.totals if total.route is not Route.AUDIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Two points of a distribution, in milliseconds."""

    median: float
    """Half of the calls took less."""

    p95: float
    """95 of 100 calls took no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpeed:
    """How fast one route was."""

    route: Route | None
    """Which; ``None`` for all that a client waited for."""

    calls: int
    """Calls that were timed."""

    overhead: Spread
    """Time spent by us."""

    latency: Spread
    """Time until the last byte."""


def traffic(database: Database, now: float, slots: int, slot_seconds: float) -> Traffic:
    """Count the calls of the last ``slots`` times ``slot_seconds`` seconds before ``now``.

    Raises:
        StorageError: The database cannot be read.
    """
    start = now - slots * slot_seconds
    counts: list[dict[Route, int]] = [{} for _ in range(slots)]
    rows = database.read(
        """
        SELECT MIN(CAST((at - :start) / :length AS INTEGER), :last) AS slot, route,
               COUNT(*) AS calls
        FROM ledger WHERE at >= :start AND at <= :now GROUP BY 1, 2
        """,
        {"start": start, "length": slot_seconds, "last": slots - 1, "now": now},
    )
    for row in rows:
        counts[row["slot"]][Route(row["route"])] = int(row["calls"])
    return Traffic(
        start=start,
        slot_seconds=slot_seconds,
        slots=tuple(counts),
        totals=route_totals(database, start, now),
    )


def route_totals(database: Database, start: float, now: float) -> tuple[RouteTotal, ...]:
    """Sum up the calls from ``start`` to ``now`` by route, in the order of ``Route``.

    Raises:
        StorageError: The database cannot be read.
    """
    totals = {
        Route(row["route"]): RouteTotal(
            route=Route(row["route"]),
            calls=int(row["calls"]),
            failed=int(row["failed"]),
            prompt_tokens=int(row["prompt_tokens"]),
            cached_tokens=int(row["cached_tokens"]),
            completion_tokens=int(row["completion_tokens"]),
            estimated=int(row["estimated"]),
        )
        for row in database.read(
            """
            SELECT route, SUM(calls) AS calls, SUM(failed) AS failed,
                   SUM(prompt_tokens) AS prompt_tokens, SUM(cached_tokens) AS cached_tokens,
                   SUM(completion_tokens) AS completion_tokens, SUM(estimated) AS estimated
            FROM ledger_sums WHERE at >= ? AND at <= ? GROUP BY route
            """,
            (start, now),
        )
    }
    return tuple(totals[route] for route in Route if route in totals)


def speeds(database: Database, since: float) -> tuple[RouteSpeed, ...]:
    """Return how fast calls were from ``since`` on: all together first, then by route.

    Reads at most the latest `MOST_TIMED`; empty where nothing was answered. Calls that
    failed are left out, since a refused connection is quick and says nothing.

    Raises:
        StorageError: The database cannot be read.
    """
    rows = database.read(
        """
        SELECT route, overhead_ms, latency_ms FROM ledger
        WHERE at >= ? AND status < 400 AND route <> 'audit' ORDER BY at DESC LIMIT ?
        """,
        (since, MOST_TIMED),
    )
    by_route = {
        route: [(row["overhead_ms"], row["latency_ms"]) for row in rows if row["route"] == route]
        for route in Route
    }
    everything = [pair for pairs in by_route.values() for pair in pairs]
    return tuple(
        RouteSpeed(
            route=route,
            calls=len(pairs),
            overhead=_spread([pair[0] for pair in pairs]),
            latency=_spread([pair[1] for pair in pairs]),
        )
        for route, pairs in ((None, everything), *by_route.items())
        if pairs
    )


def _spread(values: Sequence[float]) -> Spread:
    """Return two quantiles by the nearest rank: always a value that was measured."""
    ordered = sorted(values)
    return Spread(median=_ranked(ordered, 50), p95=_ranked(ordered, 95))


def _ranked(ordered: Sequence[float], percent: int) -> float:
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
