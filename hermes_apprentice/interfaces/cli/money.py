"""Commands about money."""

from __future__ import annotations

import time

import typer

from hermes_apprentice.domain.money import dollars
from hermes_apprentice.interfaces.cli.console import Json, day, opened, print_json, say
from hermes_apprentice.ledger.budget import budget as month_of
from hermes_apprentice.ledger.budget import may_start
from hermes_apprentice.ledger.roi import roi as account
from hermes_apprentice.terminal import print_table

_DAY = 86_400.0


def roi(
    days: float = typer.Option(30.0, min=0.01, help="How far to look back."),
    tenant: str = typer.Option("", help="Only this tenant's requests."),
    as_json: bool = Json,
) -> None:
    """Tell what the specialists saved and what they cost."""
    now = time.time()
    with opened() as (_, database, _):
        result = account(database, now - days * _DAY, now, tenant or None)
    if as_json:
        print_json(result)
        return
    print_table(
        f"Return on investment, last {days:g} days" + (f", tenant '{tenant}'" if tenant else ""),
        (
            "specialist",
            "answered",
            "passed on",
            "saved (est.)",
            "audits",
            "spent in all",
            "net",
            "break-even",
        ),
        [
            (
                row.slug,
                row.answered,
                row.fallbacks,
                dollars(row.saved, 4) + (f" + {row.unpriced} unpriced" if row.unpriced else ""),
                dollars(row.audits, 4),
                dollars(row.spent, 4),
                dollars(row.net, 4),
                "never" if row.break_even_days is None else f"{row.break_even_days:.1f} days",
            )
            for row in result.specialists
        ],
    )
    say(
        f"{result.requests} requests; specialists answered {result.routed_share:.0%} of the first "
        f"calls. The upstream charged {dollars(result.upstream_cost, 4)}"
        + (
            f", and {result.upstream_unpriced} calls have no known price."
            if result.upstream_unpriced
            else "."
        )
        + " Savings are estimates: what the upstream's list price would have been."
    )


def budget(as_json: bool = Json) -> None:
    """Tell what paid training may still cost this month (UTC), and who raised its ceiling."""
    now = time.time()
    with opened() as (settings, database, _):
        month = month_of(database, settings.budget, now)
        verdict = may_start(database, settings.budget, now, 0)
    if as_json:
        print_json(
            {
                "month": month.month,
                "ceiling": month.ceiling,
                "spent": month.spent,
                "left": month.left,
                "may_start": verdict.allowed,
                "reason": verdict.reason,
                "raises": month.raises,
            }
        )
        return
    say(
        f"Paid training in {month.month}: {dollars(month.spent)} of {dollars(month.ceiling)} is "
        f"spent. A new paid run may {'' if verdict.allowed else 'not '}start: {verdict.reason}"
    )
    if month.raises:
        print_table(
            "Raised this month",
            ("when (UTC)", "by", "who"),
            [(day(one.at), dollars(one.amount), one.who) for one in month.raises],
        )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(roi)
    app.command()(budget)
