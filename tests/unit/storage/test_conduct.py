from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hermes_apprentice.domain.accounting import Attempt, LedgerEntry, Repeat
from hermes_apprentice.domain.routing import CallKind, Route
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.conduct import (
    Reception,
    SelfAgreement,
    read_attempts,
    read_reception,
    read_self_agreement,
    self_agreement,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.ledger import append

NOW = 1_790_000_000.0


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[AsyncDatabase]:
    found = await AsyncDatabase.open(database.path)
    yield found
    await found.close()


def entry(at: float, route: Route, session: str = "s1", **changes: object) -> LedgerEntry:
    values: dict[str, object] = {
        "at": at,
        "request_id": f"r{at}",
        "session": session,
        "call_kind": CallKind.FIRST,
        "route": route,
        "model": "big-one",
        "status": 200,
        "slug": "label-ticket",
        "version": 2,
        **changes,
    }
    return LedgerEntry(**values)  # type: ignore[arg-type]


def observed(database: Database, session: str, asked_at: float, corrected: bool) -> None:
    with database.transaction() as connection:
        connection.execute(
            """
            INSERT INTO exchanges (exchange_id, profile, session_id, source, turn_index, request,
                                   answer, model, asked_at, answered_at, context_chars,
                                   input_tokens, output_tokens, corrected, user_row, observed_at)
            VALUES (?, 'default', ?, 'cli', 0, 'q', 'a', 'big-one', ?, ?, 0, 0, 0, ?, 1, ?)
            """,
            (f"{session}:{asked_at}", session, asked_at, asked_at + 1, corrected, asked_at),
        )


async def received(opened: AsyncDatabase, since: float = 0.0, until: float = NOW * 2) -> Reception:
    return await read_reception(opened, "label-ticket", 2, since, until)


async def test_corrections_find_the_answer_that_they_are_about(
    opened: AsyncDatabase, database: Database
) -> None:
    await append(
        opened,
        [
            entry(NOW, Route.SPECIALIST),
            entry(NOW + 30, Route.SPECIALIST),
            entry(NOW + 60, Route.FALLBACK),
            entry(NOW + 90, Route.UPSTREAM, "s2"),
        ],
        [],
    )
    observed(database, "s1", NOW - 1, corrected=False)
    observed(database, "s1", NOW + 29, corrected=True)
    observed(database, "s1", NOW + 60, corrected=True)
    observed(database, "s2", NOW + 90, corrected=False)
    assert await received(opened) == Reception(
        served=(False, True), upstream=2, upstream_corrected=1
    )


async def test_an_answer_whose_session_was_not_read_is_missing_and_not_a_good_one(
    opened: AsyncDatabase, database: Database
) -> None:
    await append(opened, [entry(NOW, Route.SPECIALIST), entry(NOW, Route.UPSTREAM, "")], [])
    assert await received(opened) == Reception()
    observed(database, "s1", NOW - 5_000, corrected=True)
    observed(database, "s1", NOW + 60, corrected=True)
    assert await received(opened) == Reception()


async def test_what_is_too_fresh_too_old_or_of_others_does_not_count(
    opened: AsyncDatabase, database: Database
) -> None:
    await append(
        opened,
        [
            entry(NOW, Route.SPECIALIST, "old"),
            entry(NOW + 10, Route.SPECIALIST, "other version", version=1),
            entry(NOW + 20, Route.SPECIALIST, "other slug", slug="other"),
            entry(NOW + 30, Route.SPECIALIST, "broken", status=499),
            entry(NOW + 40, Route.AUDIT, "audit"),
            entry(NOW + 50, Route.SPECIALIST, "good"),
            entry(NOW + 60, Route.SPECIALIST, "fresh"),
        ],
        [],
    )
    for number, session in enumerate(
        ("old", "other version", "other slug", "broken", "audit", "good", "fresh")
    ):
        observed(database, session, NOW + 10 * number, corrected=True)
    found = await received(opened, since=NOW + 5, until=NOW + 55)
    assert found == Reception(served=(True,))


async def test_runs_are_read_on_from_where_one_stopped(opened: AsyncDatabase) -> None:
    attempts = [
        Attempt(slug="label-ticket", version=2, at=NOW + n, outcome="answered", took_ms=n)
        for n in range(5)
    ]
    await append(opened, [], [], attempts[:3])
    first = await read_attempts(opened, "label-ticket", 2)
    assert [one.took_ms for one in first] == [0, 1, 2]
    await append(opened, [], [], attempts[3:])
    more = await read_attempts(opened, "label-ticket", 2, after=first[-1].attempt_id)
    assert [one.at for one in more] == [NOW + 3, NOW + 4]
    assert len(await read_attempts(opened, "label-ticket", 2, since=NOW + 1)) == 4
    assert await read_attempts(opened, "label-ticket", 1) == []


async def test_the_upstreams_agreement_with_itself_is_that_of_its_present_model(
    opened: AsyncDatabase, database: Database
) -> None:
    with database.transaction() as connection:
        assert self_agreement(connection, "label-ticket") is None

    def repeat(model: str, agreed: bool | None) -> Repeat:
        return Repeat(slug="label-ticket", at=NOW, model=model, agreed=agreed)

    repeats = [
        repeat("old-one", True),
        repeat("big-one", True),
        repeat("big-one", None),
        repeat("big-one", False),
    ]
    await append(opened, [], [], [], repeats)
    expected = SelfAgreement(model="big-one", asked=3, compared=2, agreed=1)
    assert await read_self_agreement(opened, "label-ticket") == expected
    with database.transaction() as connection:
        assert self_agreement(connection, "label-ticket") == expected
