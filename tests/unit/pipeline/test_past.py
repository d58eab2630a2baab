"""Which answers teach: the upstream's, also where a specialist answered and was audited."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.pipeline.past import lessons
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.aio import AsyncDatabase
from hermes_apprentice.storage.audits import AuditedAnswer, drop_stranded, save_audited
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchanges import ExchangeStore, StoredExchange
from hermes_apprentice.storage.forgotten import forget_sessions
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern

NOW = 1_790_000_000.0
PATTERN = "pt-000000007f3a"


@pytest.fixture
def shop(
    settings: Settings,
    database: Database,
    make_exchange: Callable[..., Exchange],
    make_candidate: Callable[..., Candidate],
) -> Workshop:
    """Three sessions whose request a specialist answered with ``bug``."""
    exchanges = [
        make_exchange(
            f"label this, number {n}",
            "bug",
            session_id=f"s{n}",
            asked_at=NOW + 100 * n,
            answered_at=NOW + 100 * n + 1,
            corrected=n == 2,
        )
        for n in range(3)
    ]
    ExchangeStore(database).upsert(
        [StoredExchange(exchange=one, user_row=1, answer_row=2) for one in exchanges], NOW
    )
    with database.transaction() as connection:
        store = PatternStore(connection)
        place = StoredPattern(
            pattern=make_candidate("gc-7f3a").pattern,
            embedder="e",
            centre=np.ones(4, dtype=np.float32) / 2,
            radius=0.5,
        )
        store.save(place, NOW)
        store.add_members(PATTERN, [(one.exchange_id, 0.9) for one in exchanges])
        connection.executemany(
            "INSERT INTO ledger (at, request_id, session, call_kind, route, model, status) "
            "VALUES (?, ?, ?, 'first', 'specialist', 'm', 200)",
            [(NOW + 100 * n + 0.5, f"r{n}", f"s{n}") for n in range(3)],
        )
    return Workshop(settings, database, clock=lambda: NOW)


def audited(number: int, answer: str, at: float = NOW) -> AuditedAnswer:
    return AuditedAnswer(
        request_id=f"r{number}", session_id=f"s{number}", at=at, model="big", answer=answer
    )


async def keep(settings: Settings, *answers: AuditedAnswer) -> None:
    database = await AsyncDatabase.open(settings.database_path)
    try:
        for one in answers:
            await save_audited(database, one)
    finally:
        await database.close()


def taught(shop: Workshop) -> list[tuple[str, str, bool]]:
    return [(one.session_id, one.answer, one.corrected) for one in lessons(shop, PATTERN)]


async def test_a_specialists_own_answers_teach_nothing(shop: Workshop) -> None:
    assert taught(shop) == []


async def test_an_audited_answer_teaches_what_the_upstream_said(shop: Workshop) -> None:
    await keep(shop.settings, audited(1, "billing"))
    assert taught(shop) == [("s1", "billing", False)]
    (one,) = lessons(shop, PATTERN)
    assert one.model == "big (audit)"


@pytest.mark.parametrize(("answer", "corrected"), [("billing", False), (" bug\n", True)])
async def test_a_correction_stays_with_the_answer_it_was_about(
    shop: Workshop, answer: str, corrected: bool
) -> None:
    await keep(shop.settings, audited(2, answer))
    assert taught(shop) == [("s2", answer, corrected)]


async def test_audited_answers_go_with_their_session_and_do_not_come_back(shop: Workshop) -> None:
    await keep(shop.settings, audited(0, "billing"), audited(1, "billing"))
    ExchangeStore(shop.database).delete_session("default", "s0")
    with shop.database.transaction() as connection:
        forget_sessions(connection, ["s1"], NOW)
    assert shop.database.read("SELECT * FROM audited_answers") == []
    await keep(shop.settings, audited(1, "billing"))
    assert shop.database.read("SELECT * FROM audited_answers") == []


async def test_answers_of_sessions_that_were_never_read_go_after_a_month(shop: Workshop) -> None:
    await keep(shop.settings, audited(7, "billing", NOW), audited(1, "billing", NOW))
    with shop.database.transaction() as connection:
        assert drop_stranded(connection, NOW + 29 * 86_400) == 0
        assert drop_stranded(connection, NOW + 31 * 86_400) == 1
    assert [one[0] for one in taught(shop)] == ["s1"]
