"""Every kind of message that an operator gets, word for word; made by what really writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.approvals import messages
from hermes_apprentice.approvals.outbox import SENT_AGAIN
from hermes_apprentice.approvals.plain_text import fitting
from hermes_apprentice.domain.approval import OutboxMessage
from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.pattern import Candidate, Forecast
from hermes_apprentice.domain.routing import Rollout
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Specialist, Stage, Step
from hermes_apprentice.interfaces import cron_jobs, mcp_acting
from hermes_apprentice.interfaces.cron_digest import digest_of
from hermes_apprentice.router.rollout import next_rollout, notice_of, progress
from hermes_apprentice.settings import BudgetSettings, RolloutSettings, Settings
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore, StoredPattern
from hermes_apprentice.storage.rollouts import Seen, save_rollout
from hermes_apprentice.storage.specialists import save_specialist
from hermes_apprentice.storage.spending import add_spending

NOW = 1_795_132_800.0
"""2026-11-20, UTC."""

DAY = 86_400.0
RULES = RolloutSettings(min_step_comparisons=5, min_step_seconds=60)
Make = Callable[..., Candidate]


def rollout(stage: Stage = Stage.SHADOW, share: float = 0.0) -> Rollout:
    return Rollout(
        slug="ticket-label",
        version=2,
        stage=stage,
        share=share,
        held=False,
        step_started_at=NOW - DAY,
        reason="",
    )


def specialist(slug: str = "ticket-label", step: Step = Step.REGISTERED) -> Specialist:
    return Specialist(
        slug=slug,
        pattern_id=f"pt-{slug}",
        candidate_id="gc-7f3a",
        kind=Kind.CLASSIFIER,
        step=step,
        reason="",
        run_id="run-1",
        version=2,
        updated_at=NOW,
    )


def judged(outcome: Outcome, *reasons: str) -> str:
    verdict = Verdict(outcome=outcome, reasons=reasons, scores=None, threshold=0.5)
    return messages.verdict_message("ticket-label", verdict)


def step_of(before: Rollout, agreed: list[bool]) -> str:
    """Return what is told about the step that these comparisons lead to."""
    history = [
        Seen(comparison_id=number, at=NOW - 60, agreed=one) for number, one in enumerate(agreed, 1)
    ]
    after = next_rollout(before, progress(before, history, RULES), RULES, NOW)
    assert after is not None
    notice = notice_of(before, after)
    return notice.text if notice is not None else "(nothing)"


def told(texts: dict[str, str]) -> dict[str, str]:
    """Return the texts, all of which fit on every platform as they are."""
    for name, text in texts.items():
        assert fitting(text) == text, name
        assert len(SENT_AGAIN + text) < 1_000, name
    return texts


def test_questions_and_confirmations(make_candidate: Make, snapshot: Any) -> None:
    prose = Shape(kind=ShapeKind.TEXT, agreement=0.9, median_chars=210)
    free = Forecast(
        requests_per_day=0.4, cost_per_request=0, coverage=0.8, saved_per_month=0, priced=False
    )
    assert snapshot == told(
        {
            "graduation": messages.graduation(make_candidate()),
            "graduation of a generator without a price": messages.graduation(
                make_candidate(shape=prose, kind=Kind.GENERATOR, forecast=free)
            ),
            "details": messages.details(make_candidate()),
            "accepted": messages.training_queued("gc-7f3a", "ticket-label", "telegram:4711"),
            "skipped": messages.skipped("gc-7f3a", "telegram:4711"),
        }
    )


def test_verdicts_and_failures(snapshot: Any) -> None:
    assert snapshot == told(
        {
            "passed": judged(Outcome.PASSED, "All checks passed."),
            "rejected": judged(
                Outcome.REJECTED,
                "It beats the baseline by 4 points of F1; 10 are asked for.",
                "3% of its answers are not of the pattern's shape; 1% is allowed.",
            ),
            "inconclusive": judged(
                Outcome.INCONCLUSIVE, "22 test examples are too few; 18 more are needed."
            ),
            "failed": messages.step_failed("ticket-label", "The training took longer than 6 h."),
        }
    )


def test_steps_of_a_rollout(snapshot: Any) -> None:
    fall = [True] * 300 + [False] * 12
    assert snapshot == told(
        {
            "from shadow to canary": step_of(rollout(), [True] * 30),
            "from a canary to a wider one": step_of(rollout(Stage.CANARY, 0.05), [True] * 40),
            "from canary to live": step_of(rollout(Stage.CANARY, 0.5), [True] * 60),
            "quarantined while it answered": step_of(rollout(Stage.LIVE, 1.0), fall),
            "quarantined in shadow": step_of(rollout(), [False] * 30),
        }
    )


def test_money(snapshot: Any) -> None:
    def alert(spent: int, *, may_start: bool = False, may_go_on: bool = False) -> str:
        return messages.budget_alert(
            "2026-11", spent * 10_000, 20_000_000, may_start=may_start, may_go_on=may_go_on
        )

    assert snapshot == told(
        {
            "at 80 %": alert(1_610, may_start=True, may_go_on=True),
            "at 95 %": alert(1_900, may_go_on=True),
            "at 100 %": alert(2_000),
            "raised": messages.budget_raised(
                "2026-11", 10_000_000, 30_000_000, 19_000_000, "telegram:4711"
            ),
        }
    )


def test_the_weekly_digest(
    settings: Settings, database: Database, make_candidate: Make, snapshot: Any
) -> None:
    paid = settings.model_copy(update={"budget": BudgetSettings(monthly_dollars=20)})
    candidate = make_candidate()
    with database.transaction() as connection:
        store = PatternStore(connection)
        for number, one in enumerate(("ticket-label", "order-read")):
            connection.execute(
                "INSERT INTO patterns VALUES (?, ?, '{}', 'e', x'00', 0.5, 1)", (f"pt-{one}", one)
            )
            save_specialist(connection, specialist(one, (Step.REGISTERED, Step.FAILED)[number]))
        pattern = StoredPattern(
            pattern=candidate.pattern, embedder="e", centre=np.ones(4, np.float32), radius=0.5
        )
        store.save(pattern, NOW)
        store.add_candidate(candidate)
        save_rollout(connection, rollout(Stage.CANARY, 0.15), NOW)
        add_spending(connection, at=NOW - DAY, purpose="burst", amount=3_500_000)
        for route, slug, saved in (("specialist", "ticket-label", 36_000), ("upstream", None, 0)):
            connection.execute(
                "INSERT INTO ledger (at, request_id, call_kind, route, slug, model, status, cost, "
                "saved) VALUES (?, 'r', 'first', ?, ?, 'm', 200, 0, ?)",
                (NOW - DAY, route, slug, saved),
            )
    text = digest_of(database, paid, NOW - 7 * DAY, NOW)
    assert text is not None
    assert snapshot == told({"digest": text})


def test_what_the_agent_and_the_scheduler_write(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, snapshot: Any
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    with Database(settings.database_path) as database, database.transaction() as connection:
        save_rollout(connection, rollout(Stage.LIVE, 1.0), NOW)
    reason = "A mail said so: *urgent* <https://evil.example> `train gc-1111`"
    mcp_acting.demote(mcp_acting.Served(name="ticket-label", reason=reason), lambda *_: None)
    record = settings.home / "logs" / "detect.json"
    record.parent.mkdir()
    record.write_text('{"state": "failed", "message": "The disk is full."}')
    assert cron_jobs.detect(patience=60) == 1

    def waiting() -> list[OutboxMessage]:
        with Database(settings.database_path) as database, database.transaction() as connection:
            return waiting_messages(connection)

    assert snapshot == told({one.topic: one.text for one in waiting()})


@pytest.mark.parametrize(
    "hostile", ["_*[]()~>#+-=|{}.!`", "\u202egc-1111 niart\u202c \u200b", "x " * 900]
)
def test_whatever_a_label_or_a_reason_holds_the_question_stays_a_question(
    make_candidate: Make, hostile: str
) -> None:
    candidate = make_candidate(label=f"{hostile} ticket, label", slug="ticket-label")
    question = messages.graduation(candidate)
    assert question.endswith("Reply: train gc-7f3a · skip gc-7f3a · details gc-7f3a")
    before = rollout(Stage.LIVE, 1.0)
    notice = notice_of(before, replace(rollout(Stage.QUARANTINED), reason=hostile))
    assert notice is not None
    told(
        {
            "question": question,
            "fall": fitting(notice.text),
            "list": messages.candidate_list([candidate]),
        }
    )
