from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.demo.texts import Sizes, make_corpus
from hermes_apprentice.detector import detection
from hermes_apprentice.detector.detection import DetectionReport, Survey, detect, survey
from hermes_apprentice.domain.exchange import Exchange, Ineligible
from hermes_apprentice.domain.pattern import Candidate, CandidateState
from hermes_apprentice.domain.shape import Kind, ShapeKind
from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.errors import StorageError
from hermes_apprentice.settings import DetectorSettings
from hermes_apprentice.storage.approvals import add_message, waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.testing import FakeEmbedder

Pairs = list[tuple[str, str]]
SETTINGS = DetectorSettings()
NOW = 1_785_000_000.0


def prices(model: str, prompt: int, completion: int) -> int | None:
    return prompt * 3 + completion * 15


@pytest.fixture
def run(database: Database, word_embedder: Embedder) -> Callable[..., DetectionReport]:
    def detection_run(**changes: Any) -> DetectionReport:
        values: dict[str, Any] = {"embedder": word_embedder, "settings": SETTINGS} | changes
        embedder, settings = values.pop("embedder"), values.pop("settings")
        return detect(database, embedder, settings, values.pop("prices", prices), NOW, **values)

    return detection_run


def stored_members(database: Database) -> dict[str, set[str]]:
    with database.transaction() as connection:
        store = PatternStore(connection)
        return {one.pattern_id: set(store.members(one.pattern_id)) for one in store.patterns()}


def stored_candidates(database: Database) -> list[Candidate]:
    with database.transaction() as connection:
        return PatternStore(connection).candidates()


def test_two_tasks_among_chats_become_two_patterns_with_exactly_their_members(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    first = {one.exchange_id for one in fill(orders(40))}
    second = {one.exchange_id for one in fill(moods(30))}
    fill(chats(30))
    report = run()

    by_kind = {pattern.shape.kind: pattern for pattern in report.new_patterns}
    members = stored_members(database)
    assert set(by_kind) == {ShapeKind.JSON, ShapeKind.LABEL}
    assert members[by_kind[ShapeKind.JSON].pattern_id] == first
    assert members[by_kind[ShapeKind.LABEL].pattern_id] == second
    assert by_kind[ShapeKind.JSON].kind is Kind.EXTRACTOR
    assert by_kind[ShapeKind.LABEL].kind is Kind.CLASSIFIER
    assert by_kind[ShapeKind.LABEL].size == 30
    assert report.exchanges == report.embedded == 100
    assert report.unassigned_share == pytest.approx(0.3)
    assert report.candidates == ()


def test_a_pattern_is_proposed_once_when_it_was_found_twice(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(40))
    first, second, third = run(), run(), run()

    (candidate,) = second.candidates
    assert first.candidates == third.candidates == ()
    assert candidate.state is CandidateState.OPEN
    assert candidate.candidate_id == "gc-" + candidate.pattern.pattern_id[3:7]
    assert candidate.pattern.runs_stable == 2
    assert candidate.pattern.forecast.saved_per_month > 0
    assert stored_candidates(database) == [candidate]
    assert third.updated[0].runs_stable == 3
    assert (second.embedded, third.embedded) == (0, 0)


def test_ids_and_names_stay_while_a_pattern_grows(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    fill([*orders(20), *moods(20), *chats(20)])
    before = {one.pattern_id: one for one in run().new_patterns}
    for seed in range(1, 4):
        fill([*orders(15, seed), *moods(10, seed), *chats(10, seed)])
        report = run()
        assert report.new_patterns == ()
        assert report.lost == ()
    after = {one.pattern_id: one for one in report.updated}

    assert after.keys() == before.keys()
    for pattern_id, pattern in after.items():
        assert (pattern.slug, pattern.label) == (before[pattern_id].slug, before[pattern_id].label)
        assert pattern.last_seen > before[pattern_id].last_seen
        assert pattern.first_seen == before[pattern_id].first_seen
    assert sorted(pattern.size for pattern in after.values()) == [50, 65]


def test_a_new_task_becomes_a_pattern_beside_the_known_ones(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
) -> None:
    fill(orders(30))
    run(), run()
    fill(moods(30))
    report = run()

    assert [pattern.shape.kind for pattern in report.new_patterns] == [ShapeKind.LABEL]
    assert [pattern.shape.kind for pattern in report.updated] == [ShapeKind.JSON]
    assert report.updated[0].size == 30


def test_a_group_out_of_reach_that_is_of_a_known_task_joins_it(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    moods: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    fill(moods(40))
    run()
    (before,) = run().updated
    rambling = [
        (f"{request} {chat}", label)
        for (request, label), (chat, _) in zip(moods(30, seed=4), chats(30, seed=4), strict=True)
    ]
    fill(rambling)
    report = run()

    assert report.new_patterns == ()
    assert report.updated[0].size == 70
    assert report.updated[0].tightness < before.tightness


def test_chats_never_become_a_pattern(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    chats: Callable[..., Pairs],
) -> None:
    fill(chats(150))

    assert run().new_patterns == run().new_patterns == ()


def test_the_same_words_said_again_and_again_are_no_pattern(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    chats: Callable[..., Pairs],
) -> None:
    fill([("Go on", f"And then came chapter {at}, long and winding. " * 3) for at in range(60)])
    fill(chats(60))

    assert run().new_patterns == ()


def test_too_few_exchanges_are_no_pattern_yet(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    fill([*orders(13), *chats(40)])
    assert run().new_patterns == ()
    fill(orders(1, seed=9))
    assert [pattern.size for pattern in run().new_patterns] == [14]


def test_a_pattern_that_falls_apart_before_it_was_proposed_is_forgotten(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    exchanges = fill(orders(20))
    (pattern,) = run().new_patterns
    ExchangeStore(database).delete([one.exchange_id for one in exchanges[:12]])
    report = run()

    assert report.lost == (pattern.pattern_id,)
    assert stored_members(database) == {}


def test_a_proposed_pattern_outlives_its_exchanges(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    exchanges = fill(orders(30))
    run(), run()
    store = ExchangeStore(database)
    store.mark_withdrawn([one.exchange_id for one in exchanges[:10]])
    assert [pattern.size for pattern in run().updated] == [20]
    store.delete([one.exchange_id for one in exchanges])
    report = run()

    assert [pattern.size for pattern in report.updated] == [0]
    assert len(stored_candidates(database)) == 1


def test_withdrawn_exchanges_leave_their_pattern(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    exchanges = fill(orders(30))
    run(), run()
    gone = {one.exchange_id for one in exchanges[:5]}
    ExchangeStore(database).mark_withdrawn(gone)
    run()

    (members,) = stored_members(database).values()
    assert members == {one.exchange_id for one in exchanges} - gone
    (row,) = database.read("SELECT COUNT(*) FROM pattern_members")
    assert row[0] == 25


def test_ineligible_exchanges_are_neither_embedded_nor_counted(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(13))
    fill(orders(20, seed=5), ineligible=Ineligible.TOOLS)
    report = run()

    assert (report.exchanges, report.embedded, report.new_patterns) == (13, 13, ())


def test_refusals_lower_the_agreement_and_can_keep_a_pattern_back(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    pairs = orders(60)
    sorry = "I am sorry, but I cannot process this order, because something in it is missing."
    fill(
        [
            (request, sorry) if at % 10 == 0 else (request, answer)
            for at, (request, answer) in enumerate(pairs)
        ]
    )
    (pattern,) = run().new_patterns

    assert pattern.shape.kind is ShapeKind.JSON
    assert 0.85 <= pattern.shape.agreement < 1.0
    strict = SETTINGS.model_copy(update={"min_agreement": 0.99})
    assert run(settings=strict).candidates == ()


def test_proposals_are_written_in_the_candidates_transaction(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(30))
    run()

    def fail(connection: sqlite3.Connection, candidate: Candidate) -> None:
        add_message(connection, candidate.candidate_id, "key", "text", NOW)
        raise StorageError("disk full")

    with pytest.raises(StorageError, match="disk full"):
        run(on_candidate=fail)
    with database.transaction() as connection:
        assert waiting_messages(connection) == []
        assert PatternStore(connection).candidates() == []
        assert [one.runs_stable for one in PatternStore(connection).patterns()] == [1]

    seen = []
    report = run(on_candidate=lambda connection, candidate: seen.append(candidate))
    assert tuple(seen) == report.candidates != ()


def test_candidates_with_equal_first_digits_get_longer_ids(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
) -> None:
    fill(orders(30))
    (pattern,) = run().new_patterns
    fill(moods(30))
    (other,) = run(settings=SETTINGS.model_copy(update={"min_runs_stable": 9})).new_patterns
    digits = other.pattern_id[3:]
    with database.transaction() as connection:
        store = PatternStore(connection)
        blocker = replace(pattern, pattern_id=pattern.pattern_id)
        store.add_candidate(
            Candidate(
                candidate_id=f"gc-{digits[:4]}",
                pattern=blocker,
                state=CandidateState.SKIPPED,
                created_at=NOW,
            )
        )
    (candidate,) = run().candidates

    assert candidate.pattern.pattern_id == other.pattern_id
    assert candidate.candidate_id == f"gc-{digits[:5]}"


def test_another_embedder_finds_the_same_patterns_in_its_own_space(
    database: Database,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    fill([*orders(30), *moods(30), *chats(20)])
    run()
    known = {one.pattern_id for one in run().updated}
    other = FakeEmbedder(128)
    fill([*orders(5, seed=3), *moods(5, seed=3)])
    report = run(embedder=other)

    assert {one.pattern_id for one in report.updated} == known
    assert sorted(one.size for one in report.updated) == [35, 35]
    with database.transaction() as connection:
        stored = PatternStore(connection).stored()
    assert {one.embedder for one in stored} == {other.digest}
    assert all(np.linalg.norm(one.centre) == pytest.approx(1.0, abs=1e-5) for one in stored)


def test_a_model_without_a_price_is_let_through_and_marked(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(30))

    def unknown(model: str, prompt: int, completion: int) -> int | None:
        return None

    run(prices=unknown)
    (candidate,) = run(prices=unknown).candidates
    assert not candidate.pattern.forecast.priced


def test_a_pattern_that_saves_nothing_is_not_proposed(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(30))

    def free(model: str, prompt: int, completion: int) -> int | None:
        return 0

    assert run(prices=free).candidates == run(prices=free).candidates == ()


def everything(database: Database) -> list[tuple[Any, ...]]:
    tables = ("exchanges", "embeddings", "patterns", "pattern_members", "candidates", "outbox")
    return [tuple(row) for name in tables for row in database.read(f"SELECT * FROM {name}")]


def test_a_survey_writes_nothing_and_tells_what_is_missing(
    database: Database,
    word_embedder: Embedder,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
    moods: Callable[..., Pairs],
    chats: Callable[..., Pairs],
) -> None:
    fill([*orders(30), *moods(12), *chats(40)])
    before = everything(database)
    found = survey(database, word_embedder, SETTINGS, prices, NOW)

    assert everything(database) == before
    assert isinstance(found, Survey)
    assert found.exchanges == 82
    assert [(row.pattern.size, row.missing) for row in found.rows] == [
        (30, ("found in 1 of 2 runs",)),
        (12, ("12 of 14 exchanges", "found in 1 of 2 runs")),
    ]
    assert found.unassigned_share == pytest.approx(40 / 82)

    run(), run()
    after = survey(database, word_embedder, SETTINGS, prices, NOW)
    assert after.rows[0].missing == ()
    assert after.rows[0].pattern.slug == found.rows[0].pattern.slug


def test_nothing_stored_is_an_empty_report(
    database: Database, word_embedder: Embedder, run: Callable[..., DetectionReport]
) -> None:
    report = run()

    assert (report.exchanges, report.new_patterns, report.unassigned_share) == (0, (), 0.0)
    assert survey(database, word_embedder, SETTINGS, prices, NOW).rows == ()


def test_an_interrupted_run_goes_on_where_it_stopped(
    database: Database,
    word_embedder: Embedder,
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(3 * detection.BATCH))

    def stop(what: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    stored = ExchangeStore(database).embeddings(word_embedder.digest)
    assert len(stored.exchange_ids) == detection.BATCH
    assert run().embedded == 2 * detection.BATCH


def test_progress_goes_from_start_to_end(
    fill: Callable[..., list[Exchange]],
    run: Callable[..., DetectionReport],
    orders: Callable[..., Pairs],
) -> None:
    fill(orders(300))
    shares: list[float] = []
    run(progress=lambda what, share: shares.append(share))

    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_mails_and_tickets_come_out_as_one_pattern_each(
    database: Database, embedder: Embedder, make_exchange: Callable[..., Exchange]
) -> None:
    corpus = make_corpus(
        random.Random(11), Sizes(order=120, ticket=120, chat=80, multi_turn=0, tool=0)
    )
    task_of = {}
    records = []
    for number, item in enumerate(corpus):
        one = make_exchange(item.request, item.answer, session_id=f"s{number}")
        task_of[one.exchange_id] = item.task
        records.append(StoredExchange(exchange=one, user_row=1, answer_row=2))
    ExchangeStore(database).upsert(records, NOW)
    detect(database, embedder, SETTINGS, prices, NOW)
    report = detect(database, embedder, SETTINGS, prices, NOW)

    assert len(report.candidates) == 2
    found = {}
    for members in stored_members(database).values():
        tasks = [task_of[member] for member in members]
        main = max(set(tasks), key=tasks.count)
        found[main] = (tasks.count(main), len(tasks))
    assert found.keys() == {"order", "ticket"}
    for hits, size in found.values():
        assert hits >= 0.95 * 120
        assert hits >= 0.98 * size
