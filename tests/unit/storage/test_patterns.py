from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.domain.pattern import Candidate, CandidateState, Pattern
from hermes_apprentice.domain.shape import (
    FieldKind,
    FieldShape,
    JsonStyle,
    Missing,
    Shape,
    ShapeKind,
)
from hermes_apprentice.errors import ReplyError, StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

NOW = 1_790_000_000.0


@pytest.fixture
def connection(database: Database) -> Iterator[sqlite3.Connection]:
    with database.transaction() as opened:
        yield opened


@pytest.fixture
def store(connection: sqlite3.Connection) -> PatternStore:
    return PatternStore(connection)


@pytest.fixture
def pattern(make_candidate: Callable[..., Candidate]) -> Pattern:
    return make_candidate().pattern


def place(pattern: Pattern) -> StoredPattern:
    centre = np.array([0.6, 0.8], dtype=np.float32)
    return StoredPattern(pattern=pattern, embedder="digest", centre=centre, radius=0.5)


def add_exchanges(
    database: Database, make_exchange: Callable[..., Exchange], count: int
) -> list[str]:
    exchanges = [
        make_exchange(session_id=f"s{at}", asked_at=NOW + at, request=f"text {at}")
        for at in range(count)
    ]
    ExchangeStore(database).upsert(
        [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in exchanges], NOW
    )
    return [one.exchange_id for one in exchanges]


def test_a_pattern_comes_back_as_it_was_saved(store: PatternStore, pattern: Pattern) -> None:
    leaf = FieldShape(
        path="items[].count",
        kind=FieldKind.CLOSED_SET,
        missing=Missing.NULL,
        presence=0.5,
        value_type="number",
        values=(1, 1.5, True, "1", None),
        copied_share=0.25,
    )
    shape = Shape(
        kind=ShapeKind.JSON,
        agreement=0.9,
        fields=(leaf,),
        style=JsonStyle(indent=2, prefix="```json\n", suffix="\n```"),
        median_chars=40,
    )
    saved = place(replace(pattern, shape=shape))
    store.save(saved, NOW)
    (found,) = store.stored()

    assert found.pattern == saved.pattern
    assert [type(value) for value in found.pattern.shape.fields[0].values] == [
        int, float, bool, str, type(None),
    ]  # fmt: skip
    assert (found.embedder, found.radius) == ("digest", 0.5)
    assert found.centre.tolist() == saved.centre.tolist()
    assert store.pattern(pattern.pattern_id) == saved.pattern


def test_saving_again_replaces(store: PatternStore, pattern: Pattern) -> None:
    store.save(place(pattern), NOW)
    store.save(place(replace(pattern, size=99)), NOW + 1)

    assert [one.size for one in store.patterns()] == [99]


def test_two_patterns_never_share_a_slug(store: PatternStore, pattern: Pattern) -> None:
    store.save(place(pattern), NOW)

    with pytest.raises(StorageError, match=pattern.slug):
        store.save(place(replace(pattern, pattern_id="pt-000000000000")), NOW)


def test_an_unknown_pattern_is_an_error(store: PatternStore) -> None:
    with pytest.raises(StorageError, match="pt-nowhere"):
        store.pattern("pt-nowhere")


def test_a_damaged_record_is_an_error_that_says_so(
    store: PatternStore, connection: sqlite3.Connection, pattern: Pattern
) -> None:
    store.save(place(pattern), NOW)
    connection.execute("UPDATE patterns SET record = '{\"pattern_id\": 3}'")

    with pytest.raises(StorageError, match="damaged"):
        store.patterns()


def test_members_come_oldest_first_and_without_those_taken_back(
    database: Database,
    store: PatternStore,
    pattern: Pattern,
    make_exchange: Callable[..., Exchange],
) -> None:
    ids = add_exchanges(database, make_exchange, 4)
    store.save(place(pattern), NOW)
    store.add_members(pattern.pattern_id, [(name, 0.7) for name in (*reversed(ids), "ex-gone")])
    assert store.members(pattern.pattern_id) == ids
    ExchangeStore(database).mark_withdrawn(ids[1:2])

    assert store.members(pattern.pattern_id) == [ids[0], *ids[2:]]
    assert store.sizes() == {pattern.pattern_id: 3}
    assert store.remove_ineligible_members() == 1
    assert store.remove_ineligible_members() == 0


def test_an_exchange_is_in_one_pattern_only(
    database: Database,
    store: PatternStore,
    pattern: Pattern,
    make_exchange: Callable[..., Exchange],
) -> None:
    ids = add_exchanges(database, make_exchange, 2)
    other = replace(pattern, pattern_id="pt-000000000000", slug="other-one")
    for one in (pattern, other):
        store.save(place(one), NOW)
        store.add_members(one.pattern_id, [(ids[0], 0.9)])

    assert store.members(pattern.pattern_id) == []
    assert store.members(other.pattern_id) == [ids[0]]


def test_loose_exchanges_are_the_newest_outside_of_the_given_patterns(
    database: Database,
    store: PatternStore,
    pattern: Pattern,
    make_exchange: Callable[..., Exchange],
) -> None:
    ids = add_exchanges(database, make_exchange, 6)
    store.save(place(pattern), NOW)
    store.add_members(pattern.pattern_id, [(ids[5], 0.9)])
    ExchangeStore(database).mark_withdrawn(ids[4:5])

    assert store.loose([pattern.pattern_id], 3) == ids[1:4]
    assert store.loose([], 9) == [*ids[:4], ids[5]]


def test_a_deleted_pattern_lets_its_members_go(
    database: Database,
    store: PatternStore,
    pattern: Pattern,
    make_exchange: Callable[..., Exchange],
) -> None:
    ids = add_exchanges(database, make_exchange, 2)
    store.save(place(pattern), NOW)
    store.add_members(pattern.pattern_id, [(ids[0], 0.9)])
    store.delete(pattern.pattern_id)

    assert store.patterns() == []
    assert store.loose([pattern.pattern_id], 9) == ids


def test_a_proposed_pattern_cannot_be_deleted(
    store: PatternStore, make_candidate: Callable[..., Candidate]
) -> None:
    candidate = make_candidate()
    store.save(place(candidate.pattern), NOW)
    store.add_candidate(candidate)

    with pytest.raises(StorageError, match="proposed"):
        store.delete(candidate.pattern.pattern_id)


def test_a_candidate_keeps_the_evidence_it_was_proposed_on(
    store: PatternStore, make_candidate: Callable[..., Candidate]
) -> None:
    candidate = make_candidate()
    store.save(place(candidate.pattern), NOW)
    store.add_candidate(candidate)
    grown = replace(candidate.pattern, size=1_000)
    store.save(place(grown), NOW + 1)

    assert store.candidate("gc-7f3a") == store.find_candidate("gc-7f3a") == candidate
    assert store.present_candidate("gc-7f3a") == replace(candidate, pattern=grown)


def test_a_pattern_is_proposed_once(
    store: PatternStore, make_candidate: Callable[..., Candidate]
) -> None:
    candidate = make_candidate()
    store.save(place(candidate.pattern), NOW)
    store.add_candidate(candidate)

    with pytest.raises(StorageError, match="proposed before"):
        store.add_candidate(replace(candidate, candidate_id="gc-0000"))


def test_candidates_are_listed_by_state(
    store: PatternStore, make_candidate: Callable[..., Candidate]
) -> None:
    first, second = make_candidate("gc-7f3a"), make_candidate("gc-00aa")
    for candidate in (first, second):
        store.save(place(candidate.pattern), NOW)
        store.add_candidate(candidate)
    store.set_candidate_state("gc-00aa", CandidateState.APPROVED)

    assert store.candidates(CandidateState.OPEN) == [first]
    assert [one.state for one in store.candidates()] == ["approved", "open"]


def test_an_unknown_candidate_is_an_error_that_says_where_to_look(store: PatternStore) -> None:
    assert store.find_candidate("gc-0000") is None
    assert store.present_candidate("gc-0000") is None
    with pytest.raises(ReplyError, match="apprentice candidates"):
        store.candidate("gc-0000")
    with pytest.raises(ReplyError, match="gc-0000"):
        store.set_candidate_state("gc-0000", CandidateState.SKIPPED)


def test_ineligible_exchanges_are_never_loose(
    database: Database, store: PatternStore, make_exchange: Callable[..., Exchange]
) -> None:
    one = make_exchange(ineligible=Ineligible.TOOLS)
    ExchangeStore(database).upsert([StoredExchange(exchange=one, user_row=1, answer_row=2)], NOW)

    assert store.loose([], 9) == []


# --- merged patterns ----------------------------------------------------------------------


def three(pattern: Pattern) -> list[Pattern]:
    return [
        replace(pattern, pattern_id=f"pt-{number}", slug=f"slug-{number}") for number in range(3)
    ]


def test_a_merged_pattern_gives_its_members_and_keeps_its_name(
    database: Database, pattern: Pattern, make_exchange: Callable[..., Exchange]
) -> None:
    ids = add_exchanges(database, make_exchange, 4)
    with database.transaction() as connection:
        store = PatternStore(connection)
        one, other, whole = three(pattern)
        for part in (one, other, whole):
            store.save(place(part), NOW)
        store.add_members(one.pattern_id, [(ids[0], 0.9)])
        store.add_members(other.pattern_id, [(ids[1], 0.9)])
        store.absorb(whole.pattern_id, [one.pattern_id, other.pattern_id])
        assert store.members(whole.pattern_id) == ids[:2]
        assert [found.pattern_id for found in store.patterns()] == [whole.pattern_id]
        assert store.names() == ({"pt-0", "pt-1", "pt-2"}, {"slug-0", "slug-1", "slug-2"})
        assert store.is_merged(one.pattern_id) and not store.is_merged(whole.pattern_id)
        assert store.pattern(one.pattern_id) == one

        # Somebody who looked before the merge still adds to a part.
        store.save(place(one), NOW)
        store.add_members(one.pattern_id, [(ids[2], 0.9)])
        store.gather()
        assert store.members(whole.pattern_id) == ids[:3]


def test_what_was_merged_twice_ends_in_the_last_pattern(
    database: Database, pattern: Pattern, make_exchange: Callable[..., Exchange]
) -> None:
    ids = add_exchanges(database, make_exchange, 1)
    with database.transaction() as connection:
        store = PatternStore(connection)
        first, second, third = three(pattern)
        for part in (first, second, third):
            store.save(place(part), NOW)
        store.absorb(second.pattern_id, [first.pattern_id])
        store.absorb(third.pattern_id, [second.pattern_id])
        store.add_members(first.pattern_id, [(ids[0], 0.9)])
        store.gather()
        assert store.members(third.pattern_id) == ids


@pytest.mark.parametrize(
    ("session", "at", "route", "own"),
    [
        ("s0", 0.2, "specialist", True),
        ("fp-1234", 0.2, "specialist", True),
        ("s0", 0.2, "upstream", False),
        ("s0", 500.0, "specialist", False),
        ("elsewhere", 0.2, "specialist", False),
    ],
)
def test_an_answer_is_a_specialists_own_where_the_ledger_says_so(
    database: Database,
    pattern: Pattern,
    make_exchange: Callable[..., Exchange],
    session: str,
    at: float,
    route: str,
    own: bool,
) -> None:
    exchange = make_exchange(session_id="s0", asked_at=NOW, answered_at=NOW + 1)
    ExchangeStore(database).upsert(
        [StoredExchange(exchange=exchange, user_row=1, answer_row=2)], NOW
    )
    with database.transaction() as connection:
        store = PatternStore(connection)
        store.save(place(pattern), NOW)
        store.add_members(pattern.pattern_id, [(exchange.exchange_id, 0.9)])
        connection.execute(
            "INSERT INTO ledger (at, request_id, session, call_kind, route, model, status) "
            "VALUES (?, 'r', ?, 'first', ?, 'm', 200)",
            (NOW + at, session, route),
        )
        found = store.answered_here(pattern.pattern_id)
    assert found == ({exchange.exchange_id} if own else set())
