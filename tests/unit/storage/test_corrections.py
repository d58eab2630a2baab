"""Corrections find their exchange and their specialist, and are kept once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.storage.corrections import (
    Answerer,
    Correction,
    CorrectionKind,
    add_correction,
    answerer_of,
    digest_of,
    mark_corrected,
    read_corrections,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange

NOW = 1_790_000_000.0
SESSION = "20260901_080000_aaaaaa"
REQUEST = "label this: the app crashes"
TURNED_DOWN = Correction(
    session_id=SESSION,
    asked_at=NOW,
    kind=CorrectionKind.REJECTED,
    at=NOW + 20,
    request_digest=digest_of(REQUEST),
    slug="ticket-label",
    version=2,
)


def keep(database: Database, *corrections: Correction) -> list[bool]:
    with database.transaction() as connection:
        return [add_correction(connection, one) for one in corrections]


def store(database: Database, *exchanges: Exchange) -> None:
    ExchangeStore(database).upsert(
        [
            StoredExchange(exchange=one, user_row=row, answer_row=row + 1)
            for row, one in enumerate(exchanges, 1)
        ],
        NOW,
    )


def booked(database: Database, at: float, route: str, slug: str | None) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO ledger (at, request_id, session, call_kind, route, slug, version, model, "
            "status) VALUES (?, 'r', ?, 'first', ?, ?, 3, 'm', 200)",
            (at, SESSION, route, slug),
        )


def test_the_same_correction_is_kept_once_and_read_back(database: Database) -> None:
    other = replace(TURNED_DOWN, kind=CorrectionKind.ASKED_AGAIN, at=NOW + 10, slug=None)
    assert keep(database, TURNED_DOWN, TURNED_DOWN, other) == [True, False, True]
    assert read_corrections(database) == [other, TURNED_DOWN]
    assert read_corrections(database, since=NOW + 15) == [TURNED_DOWN]


def test_the_exchange_that_was_turned_down_is_marked(
    database: Database, make_exchange: Callable[..., Exchange]
) -> None:
    wrong = make_exchange(REQUEST, asked_at=NOW - 2)  # typed a moment before its turn began
    other = make_exchange("label this: I was charged twice", asked_at=NOW - 1)
    elsewhere = make_exchange(REQUEST, asked_at=NOW - 2, session_id="20260901_090000_bbbbbb")
    store(database, wrong, other, elsewhere)
    keep(database, TURNED_DOWN)
    with database.transaction() as connection:
        assert mark_corrected(connection) == 1
        assert mark_corrected(connection) == 0
    marked = [one.exchange_id for one in ExchangeStore(database).iterate() if one.corrected]
    assert marked == [wrong.exchange_id]


def test_of_two_equal_requests_the_later_one_before_the_correction_is_meant(
    database: Database, make_exchange: Callable[..., Exchange]
) -> None:
    times = (NOW - 600, NOW - 1, NOW + 300)
    store(database, *(make_exchange(REQUEST, asked_at=at) for at in times))
    keep(database, TURNED_DOWN)
    with database.transaction() as connection:
        mark_corrected(connection)
    marked = [one.asked_at for one in ExchangeStore(database).iterate() if one.corrected]
    assert marked == [NOW - 1]


@pytest.mark.parametrize(
    ("route", "slug", "expected"),
    [
        ("specialist", "ticket-label", Answerer("ticket-label", 3)),
        ("fallback", "ticket-label", None),  # asked first, but the upstream answered
        ("upstream", None, None),
    ],
)
def test_the_ledger_tells_who_answered(
    database: Database, route: str, slug: str | None, expected: Answerer | None
) -> None:
    booked(database, NOW - 60, "specialist", "another-turn")
    booked(database, NOW + 0.2, route, slug)
    booked(database, NOW + 40, "specialist", "the-next-turn")
    with database.transaction() as connection:
        assert answerer_of(connection, SESSION, NOW, NOW + 30) == expected
        assert answerer_of(connection, "another", NOW, NOW + 30) is None


def test_a_session_that_is_forgotten_takes_its_corrections_along(database: Database) -> None:
    keep(database, TURNED_DOWN, replace(TURNED_DOWN, session_id="another"))
    ExchangeStore(database).delete_session("default", SESSION)
    assert [one.session_id for one in read_corrections(database)] == ["another"]
