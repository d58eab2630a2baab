"""How the demo writes its tables. Values go in, a terminal gets text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console

from hermes_apprentice.approvals.messages import shape_in_words
from hermes_apprentice.demo.request import Task
from hermes_apprentice.demo.summary import LEARNED, Figures
from hermes_apprentice.domain.evaluation import Interval
from hermes_apprentice.domain.money import dollars
from hermes_apprentice.domain.pattern import Candidate
from hermes_apprentice.domain.specialist import Step
from hermes_apprentice.ledger.roi import roi
from hermes_apprentice.pipeline import Pipeline
from hermes_apprentice.statistics.intervals import Bounds
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.terminal import print_table


def show_candidates(console: Console, database: Database, candidates: Sequence[Candidate]) -> None:
    """Show the candidates, and the message that the operator would get for the first."""
    rows = [
        (
            one.candidate_id,
            one.pattern.label,
            one.pattern.size,
            shape_in_words(one.pattern.shape),
            f"{one.pattern.shape.agreement:.0%}",
            one.pattern.kind,
            f"{dollars(one.pattern.forecast.saved_per_month)} a month",
        )
        for one in candidates
    ]
    columns = ("candidate", "pattern", "requests", "answers", "agree", "specialist", "forecast")
    _show(console, "Candidates", columns, rows)
    with database.transaction() as connection:
        messages = waiting_messages(connection)
    if messages:
        console.print("What the operator reads on the phone:", style="bold")
        console.print(messages[0].text, highlight=False)


def show_specialists(console: Console, pipeline: Pipeline) -> dict[Task, str]:
    """Show the verdicts; returns the registered specialist of each learned task."""
    columns = ("specialist", "kind", "agreement (95%)", "F1", "baseline F1", "answers", "ms")
    rows: list[tuple[str, ...]] = []
    slugs: dict[Task, str] = {}
    for one in pipeline.specialists():
        specialist = one.specialist
        if specialist.step is not Step.REGISTERED or specialist.version is None:
            continue
        manifest = pipeline.shop.registry.open_version(specialist.slug, specialist.version).manifest
        scores = manifest.verdict.scores
        if scores is None:
            continue
        for task, kind in LEARNED.items():
            if manifest.shape.kind is kind:
                slugs[task] = specialist.slug
        rows.append(
            (
                specialist.slug,
                specialist.kind,
                _share(scores.agreement),
                f"{scores.f1:.3f}",
                f"{scores.baseline_f1:.3f}",
                f"{scores.coverage:.0%}",
                f"{scores.latency_p50_ms:.1f}",
            )
        )
    _show(console, "Verdicts", columns, rows)
    return slugs


def show_summary(
    console: Console,
    measured: Figures,
    database: Database,
    slugs: Mapping[Task, str],
    *,
    now: float,
    seconds: float,
    simulated: bool,
) -> None:
    """Show what came out, and where to look next."""
    columns = ("specialist", "held out", "answered", "right (95%)", "F1", "p50", "upstream p50")
    rows = [
        (
            slugs.get(row.task, row.task),
            row.requests,
            f"{row.answered} ({row.answered / max(1, row.requests):.0%})",
            _share(row.exact),
            f"{row.f1:.3f}",
            _ms(row.specialist_ms),
            _ms(row.upstream_ms),
        )
        for row in measured.tasks
    ]
    _show(console, "Held-out requests", columns, rows)
    wrong = round(measured.false_routes.value * measured.others)
    console.print(
        f"Routed to specialists: {measured.routed:.0%} of all held-out requests. Wrong routes: "
        f"{wrong} of {measured.others} other requests ({measured.false_routes.value:.2%}, at most "
        f"{measured.false_routes.high:.2%} at 95 %), {measured.crossed} to the wrong specialist.",
        highlight=False,
    )
    _show_money(console, database, now, simulated)
    console.print(f"Took {seconds:.0f} s.", highlight=False)
    console.print(
        "Next: docs/quickstart.md for your own Hermes; `apprentice report` shows what repeats in "
        "it without changing anything; `apprentice demo --keep FOLDER` keeps this home to look at "
        "(APPRENTICE_HOME=FOLDER/apprentice apprentice specialists show NAME).",
        highlight=False,
    )


def _show_money(console: Console, database: Database, now: float, simulated: bool) -> None:
    account = roi(database, 0.0, now)
    with database.transaction() as connection:
        forecasts = {
            one.pattern.slug: one.pattern.forecast for one in PatternStore(connection).candidates()
        }
    saved = sum(row.saved for row in account.specialists)
    audits = sum(row.audits for row in account.specialists)
    answered = sum(row.answered for row in account.specialists)
    monthly = sum(
        forecasts[row.slug].saved_per_month for row in account.specialists if row.slug in forecasts
    )
    console.print(
        f"Saved in this demo: {dollars(saved, 2)} on {answered} answers (an estimate: the "
        f"upstream's list price for the same calls), less {dollars(audits, 2)} for audits. "
        f"The upstream charged {dollars(account.upstream_cost, 2)} for the rest"
        + (" (simulated; nothing was paid)." if simulated else "."),
        highlight=False,
    )
    console.print(
        f"At the pace of the recorded sessions that is a forecast of {dollars(monthly)} a month. "
        "Break-even: at once, because training cost CPU time and no money.",
        highlight=False,
    )


def _share(bounds: Bounds | Interval) -> str:
    return f"{bounds.value:.1%} ({bounds.low:.0%}-{bounds.high:.0%})"


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:,.0f} ms"


def _show(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    console.print()
    print_table(title, columns, rows, console)
    console.print()
