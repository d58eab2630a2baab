"""What the dashboard knows, and what it says that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.specialist import Stage
from hermes_apprentice.errors import StorageError
from hermes_apprentice.router.overview import Figures, overview, read_figures
from hermes_apprentice.router.page import page, policy, style
from hermes_apprentice.router.rollout import Progress, progress
from hermes_apprentice.settings import BudgetSettings, RolloutSettings, Settings
from hermes_apprentice.statistics.risk_control import ClassBound
from hermes_apprentice.storage.approvals import open_proposals
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.exchange_records import StoredExchange
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import Seen, list_rollouts, save_rollout

NOW = 1_790_000_000.0
BOUND = ClassBound(
    threshold=0.412, rate=0.005, upper=0.0011, confidence=0.95, background=3_250, false_routes=0
)
POISON = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def judge(database: Database, settings: RolloutSettings) -> Callable[[str], Progress | None]:
    """Judge as the sidecar does."""
    with database.snapshot() as connection:
        rollouts = {one.slug: one for one in list_rollouts(connection)}

    def judged(slug: str) -> Progress | None:
        rows = database.read(
            "SELECT comparison_id, at, agreed FROM comparisons WHERE slug = ? AND answered", (slug,)
        )
        seen = [Seen(comparison_id=row[0], at=row[1], agreed=bool(row[2])) for row in rows]
        return progress(rollouts[slug], seen, settings)

    return judged


def figures(database: Database, settings: Settings) -> Figures:
    return read_figures(
        database,
        settings,
        NOW,
        judged=judge(database, settings.rollout),
        loaded=lambda slug: slug == "ticket-label",
        bounds={"ticket-label": BOUND},
    )


class _Reader(HTMLParser):
    """Collects tags, and the text that a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1][0] != "style":
            self.words.append(data)


def read(html: str) -> tuple[_Reader, str]:
    reader = _Reader()
    reader.feed(html)
    return reader, " ".join(" ".join(reader.words).split())


def shown(database: Database, settings: Settings, **changes: Any) -> str:
    view = overview(settings, changes.pop("problems", {}), figures(database, settings), NOW)
    return read(page(view, **changes))[1]


def test_an_empty_database_is_told_in_words_and_not_as_zero(
    database: Database, settings: Settings
) -> None:
    text = shown(database, settings)
    for words in (
        "everything works",
        "no requests yet",
        "nothing answered yet",
        "nothing asked yet",
        "not measured yet",
        "nothing is paid for",
        "Nothing waits for a decision.",
        "There is none yet.",
        "No requests in this time.",
        "Nothing has been said yet.",
        "Nothing has been decided yet.",
    ):
        assert words in text
    assert "$0.00" not in text
    assert "0.0%" not in text


def test_a_database_that_cannot_be_read_leaves_the_problems_on_the_page(
    settings: Settings,
) -> None:
    view = overview(settings, {"database": "it is locked"}, None, NOW)
    _, text = read(page(view))
    assert "1 problem" in text
    assert "database : it is locked" in text
    assert "nothing to show" in text


def test_every_figure_of_a_busy_week_is_on_the_page(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW)
    paying = settings.model_copy(update={"budget": BudgetSettings(monthly_dollars=5)})
    text = shown(database, paying)
    for words in (
        "ticket-label live",
        "100% of its sessions",
        "100.0%: 12 of 12 answers equal the upstream's",
        "at most 0.11% false routes (95% sure; 0 of 3,250 other requests); taken from a score of",
        "sure about 80% of 15 compared requests; left 3 to the upstream",
        "mail-triage canary not loaded",
        "10 of 10 new comparisons; earliest in 50 min",
        "sql-summary quarantined",
        "57.1%: 12 of 21",
        "new-one failed",
        "train gc-7f3a",
        "gc-0000 by telegram:4711",
        "delivered",
        "$0.00 of $5.00",
        "95 of 100",
        "100% estimated",
    ):
        assert words in text, words
    # 72 answers in three days at 2 cents, and the model without a price is not summed.
    found = figures(database, paying)
    assert found.day.requests == 3 * 24
    assert sum(row.saved for row in found.roi.specialists) == 99 * 20_000
    assert "unknown-one 99 99,000 990 no price" in text
    assert "99 without a price" in text


def test_the_upstreams_agreement_with_itself_stands_beside_a_specialists(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW)
    assert "agrees with itself" not in shown(database, settings)
    with database.transaction() as connection:
        connection.executemany(
            "INSERT INTO repeats (slug, at, model, agreed) VALUES ('ticket-label', ?, 'big', ?)",
            [(NOW, True), (NOW, True), (NOW, False), (NOW, None)],
        )
    text = shown(database, settings)
    assert "The upstream (big) agrees with itself on 2 of 3 requests" in text


def test_nothing_that_was_read_can_become_markup(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW, POISON)
    view = overview(settings, {POISON: POISON}, figures(database, settings), NOW)
    clean = overview(settings, {"part": "broken"}, figures(database, settings), NOW)
    for html in (page(view), page(view, embedded=True)):
        reader, text = read(html)
        assert {tag for tag, _ in reader.tags} <= {tag for tag, _ in read(page(clean))[0].tags}
        assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in reader.tags}
        assert not [name for _, values in reader.tags for name in values if name.startswith("on")]
        # Candidate, slug, two reasons, two messages, decider, model, problem and its part.
        assert text.count("<script>alert(1)</script>") >= 10


def test_no_requests_text_is_read(
    database: Database,
    settings: Settings,
    fill: Callable[..., None],
    make_exchange: Callable[..., Exchange],
) -> None:
    fill(database, NOW)
    exchange = make_exchange(request="SECRETWORD", answer="SECRETWORD")
    record = StoredExchange(exchange=exchange, user_row=1, answer_row=2)
    ExchangeStore(database).upsert([record], NOW)
    assert "SECRETWORD" not in repr(figures(database, settings))


def test_a_question_that_expired_is_not_open(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW)
    with database.transaction() as connection:
        connection.execute("UPDATE proposals SET expires_at = ?", (NOW - 1,))
        assert open_proposals(connection)
    (question,) = figures(database, settings).questions
    assert question.expires_at is None
    assert "expired; it is asked again" in shown(database, settings)


def test_a_question_about_something_else_than_a_candidate_is_shown(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW)
    with database.transaction() as connection:
        (proposal,) = open_proposals(connection)
        connection.execute(
            "UPDATE proposals SET proposal_id = 'mg-1', shown = 'Merge the two?' "
            "WHERE proposal_id = ?",
            (proposal.proposal_id,),
        )
    assert "Merge the two? mg-1" in shown(database, settings)


def test_a_candidate_without_a_price_has_no_forecast(
    database: Database, settings: Settings, make_candidate: Callable[..., Candidate]
) -> None:
    candidate = make_candidate()
    pattern = replace(candidate.pattern, forecast=replace(candidate.pattern.forecast, priced=False))
    with database.transaction() as connection:
        store = PatternStore(connection)
        centre = np.ones(4, np.float32)
        store.save(StoredPattern(pattern=pattern, embedder="e", centre=centre, radius=0.5), NOW)
        store.add_candidate(replace(candidate, pattern=pattern))
    assert "Would save no price" in shown(database, settings)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_rollout_that_the_learning_half_forgot_is_shown(
    database: Database, settings: Settings, stage: Stage
) -> None:
    rollout = Rollout(
        slug="left-over",
        version=2,
        stage=stage,
        share=0.5,
        held=True,
        step_started_at=NOW - 60,
        reason="",
    )
    with database.transaction() as connection:
        save_rollout(connection, rollout, NOW)
    text = shown(database, settings)
    assert f"left-over {stage} held" in text
    assert "kind unknown, version 2" in text
    assert "Agreement not measured yet" in text


def test_the_policy_allows_the_pages_own_style_and_nothing_else(
    database: Database, settings: Settings, fill: Callable[..., None]
) -> None:
    fill(database, NOW)
    view = overview(settings, {}, figures(database, settings), NOW)
    for html in (page(view), page(view, embedded=True)):
        reader, _ = read(html)
        (own,) = (
            values
            for _, values in reader.tags
            if values.get("http-equiv") == "Content-Security-Policy"
        )
        assert own["content"] == policy()
        assert f"<style>{style()}</style>" in html
        assert not [values for _, values in reader.tags if "style" in values]
        assert not [
            value
            for _, values in reader.tags
            for name, value in values.items()
            if name in ("src", "href") and value not in ("data:,", "?refresh=off", "?")
        ]
    assert "script-src" not in policy()
    assert "unsafe" not in policy()


def test_the_page_reloads_itself_unless_it_is_asked_not_to(
    database: Database, settings: Settings
) -> None:
    view = overview(settings, {}, figures(database, settings), NOW)
    assert 'http-equiv="refresh"' in page(view)
    assert 'http-equiv="refresh"' not in page(view, refresh=False)
    assert 'http-equiv="refresh"' not in page(view, embedded=True)


def test_reading_keeps_nobody_from_writing(database: Database, settings: Settings) -> None:
    with database.snapshot() as connection, Database(settings.database_path) as other:
        before = list_rollouts(connection)
        with other.transaction() as writing:
            save_rollout(
                writing,
                Rollout(
                    slug="a",
                    version=1,
                    stage=Stage.SHADOW,
                    share=0.0,
                    held=False,
                    step_started_at=NOW,
                    reason="",
                ),
                NOW,
            )
        assert list_rollouts(connection) == before == []


def test_a_damaged_database_is_a_storage_error(settings: Settings) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    with Database(settings.database_path) as database:
        with database.transaction() as connection:
            connection.execute("DROP TABLE ledger")
        with pytest.raises(StorageError):
            figures(database, settings)
