"""Exchanges are kept once, found again, and forgotten with all that hangs on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.errors import StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import (
    Cursor,
    ExchangeCounts,
    ExchangeStore,
    RowReference,
    StoredExchange,
)

Make = Callable[..., Exchange]
NOW = 1_790_000_000.0


@pytest.fixture
def store(database: Database) -> ExchangeStore:
    return ExchangeStore(database)


def stored(exchange: Exchange, user_row: int = 1, answer_row: int | None = 2) -> StoredExchange:
    return StoredExchange(exchange=exchange, user_row=user_row, answer_row=answer_row)


def several(make: Make, count: int, session_id: str = "s1") -> list[Exchange]:
    return [
        make(f"request {i}", f"answer {i}", session_id=session_id, asked_at=NOW + i, turn_index=i)
        for i in range(count)
    ]


def test_an_exchange_comes_back_as_it_was_stored(store: ExchangeStore, make_exchange: Make) -> None:
    exchange = make_exchange(ineligible=Ineligible.TOOLS, corrected=True, context_chars=7)
    store.upsert([stored(exchange)], NOW)
    assert list(store.iterate(eligible_only=False)) == [exchange]
    assert store.of_session(exchange.profile, exchange.session_id) == [stored(exchange)]


def test_a_second_upsert_overwrites_and_keeps_the_first_sight(
    store: ExchangeStore, database: Database, make_exchange: Make
) -> None:
    exchange = make_exchange()
    store.upsert([stored(exchange, answer_row=None)], NOW)
    better = replace(exchange, answer="better")
    store.upsert([stored(better)], NOW + 50)
    assert list(store.iterate()) == [better]
    assert database.read("SELECT observed_at FROM exchanges")[0][0] == NOW


def test_an_upsert_keeps_the_embedding(store: ExchangeStore, make_exchange: Make) -> None:
    exchange = make_exchange()
    store.upsert([stored(exchange)], NOW)
    store.save_embeddings("d1", [exchange.exchange_id], np.ones((1, 2), dtype=np.float32))
    store.upsert([stored(replace(exchange, corrected=True))], NOW)
    assert store.unembedded("d1") == []


def test_eligible_exchanges_come_in_the_order_they_were_asked(
    store: ExchangeStore, make_exchange: Make
) -> None:
    exchanges = several(make_exchange, 1_203)
    exchanges[5] = replace(exchanges[5], ineligible=Ineligible.EMPTY)
    same_time = [replace(e, asked_at=NOW) for e in exchanges[:3]]
    everything = [*same_time, *exchanges[3:]]
    store.upsert(map(stored, reversed(everything)), NOW)
    expected = sorted(everything, key=lambda e: (e.asked_at, e.exchange_id))
    assert list(store.iterate(eligible_only=False)) == expected
    assert list(store.iterate()) == [e for e in expected if e.eligible]
    assert list(store.iterate(since=NOW + 1_200)) == exchanges[1_200:]


def test_exchanges_are_found_by_id_in_the_order_asked(
    store: ExchangeStore, make_exchange: Make
) -> None:
    first, second, third = several(make_exchange, 3)
    store.upsert(map(stored, [first, second, third]), NOW)
    ids = [third.exchange_id, "ex-unknown", first.exchange_id]
    assert store.by_ids(ids) == [third, first]


def test_withdrawing_counts_only_what_was_not_withdrawn(
    store: ExchangeStore, make_exchange: Make
) -> None:
    exchanges = several(make_exchange, 3)
    store.upsert(map(stored, exchanges), NOW)
    ids = [e.exchange_id for e in exchanges]
    assert store.mark_withdrawn(ids[:2]) == 2
    assert store.mark_withdrawn(ids) == 1
    assert {e.ineligible for e in store.iterate(eligible_only=False)} == {Ineligible.WITHDRAWN}


def test_a_forgotten_session_leaves_nothing_behind(
    store: ExchangeStore, database: Database, make_exchange: Make
) -> None:
    one, other = several(make_exchange, 4), several(make_exchange, 2, session_id="s2")
    store.upsert(map(stored, [*one, *other]), NOW)
    ids = [e.exchange_id for e in [*one, *other]]
    store.save_embeddings("d1", ids, np.ones((6, 2), dtype=np.float32))
    with database.transaction() as connection:
        connection.execute("INSERT INTO patterns VALUES ('pt-1', 'p', '{}', 'd1', x'00', 1.0, 0)")
        connection.executemany(
            "INSERT INTO pattern_members VALUES (?, 'pt-1', 1.0)", [(name,) for name in ids]
        )
    assert store.delete_session("work", "s1") == 0
    assert store.delete_session("default", "s1") == 4
    for table in ("exchanges", "embeddings", "pattern_members"):
        names = {row[0] for row in database.read(f"SELECT exchange_id FROM {table}")}
        assert names == {e.exchange_id for e in other}


def test_counts_say_what_is_there(store: ExchangeStore, make_exchange: Make) -> None:
    assert store.counts() == ExchangeCounts(0, 0, 0, {}, {}, 0, None, None)
    records = [
        make_exchange("a", asked_at=5.0),
        make_exchange("b", asked_at=7.0, corrected=True, session_id="s2"),
        make_exchange("c", asked_at=9.0, ineligible=Ineligible.TOOLS, source="telegram"),
        make_exchange("d", asked_at=6.0, ineligible=Ineligible.TOOLS, profile="work"),
    ]
    store.upsert(map(stored, records), NOW)
    assert store.counts() == ExchangeCounts(
        4, 2, 1, {"tools": 2}, {"cli": 3, "telegram": 1}, 3, 5.0, 9.0
    )
    assert store.counts("work").total == 1


def test_embeddings_of_two_models_never_mix(store: ExchangeStore, make_exchange: Make) -> None:
    exchanges = several(make_exchange, 3)
    store.upsert(map(stored, exchanges), NOW)
    ids = [e.exchange_id for e in exchanges]
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    store.save_embeddings("d1", ids, vectors)
    store.save_embeddings("d2", ids[:1], np.zeros((1, 4), dtype=np.float32))
    assert [e.exchange_id for e in store.unembedded("d2")] == ids[1:]
    found = store.embeddings("d1", [ids[2], "ex-unknown", ids[0]])
    assert found.exchange_ids == (ids[2], ids[0])
    assert found.vectors.tolist() == [[4, 5], [0, 1]]
    assert found.vectors.dtype == np.float32
    assert set(store.embeddings("d1").exchange_ids) == set(ids)
    assert store.embeddings("d3").vectors.shape[0] == 0


def test_a_vector_for_a_forgotten_exchange_is_passed_over(
    store: ExchangeStore, make_exchange: Make
) -> None:
    exchange = make_exchange()
    store.upsert([stored(exchange)], NOW)
    store.save_embeddings(
        "d1", ["ex-forgotten", exchange.exchange_id], np.ones((2, 2), dtype=np.float32)
    )
    assert store.embeddings("d1").exchange_ids == (exchange.exchange_id,)


def test_vectors_of_different_lengths_under_one_digest_are_refused(
    store: ExchangeStore, make_exchange: Make
) -> None:
    exchanges = several(make_exchange, 2)
    store.upsert(map(stored, exchanges), NOW)
    for exchange, width in zip(exchanges, (2, 3), strict=True):
        store.save_embeddings("d1", [exchange.exchange_id], np.ones((1, width), dtype=np.float32))
    with pytest.raises(StorageError, match="made again"):
        store.embeddings("d1")


def test_only_what_a_person_typed_is_embedded(store: ExchangeStore, make_exchange: Make) -> None:
    records = [make_exchange(reason or "none", ineligible=reason) for reason in [None, *Ineligible]]
    store.upsert(map(stored, records), NOW)
    assert [e.ineligible for e in store.unembedded("d1")] == [None]
    typed = {e.ineligible for e in store.unembedded("d1", eligible_only=False)}
    assert typed == {
        None,
        *(set(Ineligible) - {Ineligible.NOT_A_USER_TURN, Ineligible.EMPTY, Ineligible.WITHDRAWN}),
    }
    assert len(store.unembedded("d1", eligible_only=False, limit=2)) == 2


def test_references_walk_through_whole_sessions(store: ExchangeStore, make_exchange: Make) -> None:
    for name in ("s1", "s2", "s3"):
        store.upsert(map(stored, several(make_exchange, 4, session_id=name)), NOW)
    first = store.references_after("default", "", 5)
    assert [r.session_id for r in first] == ["s1"] * 4 + ["s2"] * 4
    assert [r.session_id for r in store.references_after("default", "s2", 5)] == ["s3"] * 4
    assert store.references_after("default", "s3", 5) == []
    assert first[0] == RowReference("s1", 1, 2, withdrawn=False)
    assert len(store.newest_references("default", 3)) == 3
    assert sorted(store.session_ids("default")) == ["s1", "s2", "s3"]


def test_the_newest_of_a_session_come_oldest_first(
    store: ExchangeStore, make_exchange: Make
) -> None:
    exchanges = several(make_exchange, 6)
    store.upsert(map(stored, exchanges), NOW)
    newest = store.newest_of_session("default", "s1", 2)
    assert [r.exchange for r in newest] == exchanges[4:]


def test_a_cursor_is_kept_per_profile(store: ExchangeStore) -> None:
    assert store.cursor("default") == Cursor(details={})
    cursor = Cursor(last_row=9, details={"sweep": "s1", "sessions": [3, 4]})
    store.save_cursor("default", "/home/a/state.db", cursor, NOW)
    assert store.cursor("default") == cursor
    assert store.cursor("work").last_row == 0
