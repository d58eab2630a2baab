"""Counts and speeds read from the ledger."""

from __future__ import annotations

import pytest

from hermes_apprentice.domain.routing import Route
from hermes_apprentice.ledger.traffic import RouteTotal, Spread, speeds, traffic
from hermes_apprentice.storage.database import Database

NOW = 1_790_000_000.0
HOUR = 3_600.0


def write(database: Database, *calls: tuple[float, str, int, float, float, int]) -> None:
    """Add calls: age in seconds, route, status, overhead, latency, whether estimated."""
    with database.transaction() as connection:
        connection.executemany(
            """
            INSERT INTO ledger (at, request_id, call_kind, route, model, status, prompt_tokens,
                                cached_tokens, completion_tokens, overhead_ms, latency_ms,
                                estimated)
            VALUES (?, 'r', 'first', ?, 'm', ?, 100, 40, 5, ?, ?, ?)
            """,
            [(NOW - age, *rest) for age, *rest in calls],
        )


def test_every_call_of_the_period_is_in_exactly_one_slot(database: Database) -> None:
    write(
        database,
        (3 * HOUR + 1, "upstream", 200, 0, 0, 0),  # before the first slot
        (3 * HOUR, "upstream", 200, 0, 0, 0),
        (2 * HOUR + 1, "specialist", 200, 0, 0, 1),
        (2 * HOUR, "specialist", 200, 0, 0, 1),
        (0, "fallback", 502, 0, 0, 0),
        (-1, "fallback", 200, 0, 0, 0),  # a clock that was ahead
    )
    found = traffic(database, NOW, 3, HOUR)
    assert found.start == NOW - 3 * HOUR
    assert found.slots == (
        {Route.UPSTREAM: 1, Route.SPECIALIST: 1},
        {Route.SPECIALIST: 1},
        {Route.FALLBACK: 1},
    )
    assert sum(sum(slot.values()) for slot in found.slots) == found.requests == 4


def test_audits_are_a_route_and_no_request(database: Database) -> None:
    write(database, (5, "audit", 200, 0, 0, 0), (5, "specialist", 200, 0, 0, 1))
    found = traffic(database, NOW, 1, HOUR)
    assert found.requests == 1
    assert [total.route for total in found.totals] == [Route.SPECIALIST, Route.AUDIT]


def test_totals_tell_estimates_and_failures(database: Database) -> None:
    write(
        database,
        (5, "upstream", 200, 0, 0, 0),
        (5, "upstream", 499, 0, 0, 1),
        (5, "upstream", 500, 0, 0, 0),
    )
    assert traffic(database, NOW, 1, HOUR).totals == (
        RouteTotal(
            route=Route.UPSTREAM,
            calls=3,
            failed=2,
            prompt_tokens=300,
            cached_tokens=120,
            completion_tokens=15,
            estimated=1,
        ),
    )


def test_an_empty_ledger_has_empty_slots_and_no_speeds(database: Database) -> None:
    found = traffic(database, NOW, 24, HOUR)
    assert found.slots == ({},) * 24
    assert found.totals == ()
    assert speeds(database, 0.0) == ()


def test_speeds_are_measured_values_of_calls_that_were_answered(database: Database) -> None:
    write(
        database,
        *((1, "upstream", 200, 0.1 * number, 10.0 * number, 0) for number in range(1, 21)),
        (1, "specialist", 200, 7.0, 8.0, 1),
        (1, "upstream", 502, 0.0, 0.0, 0),
        (1, "audit", 200, 0.0, 9_999.0, 0),
        (HOUR, "upstream", 200, 5_000.0, 5_000.0, 0),
    )
    everything, upstream, specialist = speeds(database, NOW - 60)
    assert (everything.route, everything.calls) == (None, 21)
    assert (upstream.route, upstream.calls) == (Route.UPSTREAM, 20)
    assert upstream.latency == Spread(median=100.0, p95=190.0)
    assert upstream.overhead.median == pytest.approx(1.0)
    assert specialist.overhead == Spread(median=7.0, p95=7.0)
