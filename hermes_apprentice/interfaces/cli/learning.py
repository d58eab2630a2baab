"""Commands of the learning half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hermes_apprentice.approvals.messages import question_list
from hermes_apprentice.domain.money import dollars
from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.interfaces.cli.console import Json, day, opened, print_json, say
from hermes_apprentice.storage.approvals import waiting_messages
from hermes_apprentice.terminal import print_table

if TYPE_CHECKING:
    from hermes_apprentice.pipeline.reports import TickReport


def observe(as_json: bool = Json) -> None:
    """Read what is new in Hermes' session databases."""
    with opened(show_progress=True) as (_, _, pipeline):
        reports = pipeline.observe()
    if as_json:
        print_json(reports)
        return
    print_table(
        "Sessions read",
        ("profile", "new exchanges", "updated", "withdrawn", "deleted"),
        [(name, r.new, r.updated, r.withdrawn, r.deleted) for name, r in reports.items()],
    )


def detect(as_json: bool = Json) -> None:
    """Look for requests that keep coming back, and propose candidates."""
    with opened(show_progress=True) as (_, _, pipeline):
        report = pipeline.detect()
    if as_json:
        print_json(report)
        return
    say(
        f"{len(report.new_patterns)} new patterns, {len(report.candidates)} new candidates, "
        f"{report.unassigned_share:.0%} of the exchanges belong to none."
    )


def report(as_json: bool = Json) -> None:
    """Tell which patterns repeat and what each would save; changes nothing."""
    with opened(show_progress=True) as (_, _, pipeline):
        survey = pipeline.survey()
    if as_json:
        print_json(survey)
        return
    print_table(
        f"Patterns in {survey.exchanges} exchanges",
        (
            "pattern",
            "requests",
            "per day",
            "answers",
            "agree",
            "specialist",
            "saves per month",
            "may be learnt",
        ),
        [
            (
                row.pattern.label,
                row.pattern.size,
                f"{row.pattern.forecast.requests_per_day:.1f}",
                row.pattern.shape.kind,
                f"{row.pattern.shape.agreement:.0%}",
                row.pattern.kind,
                dollars(row.pattern.forecast.saved_per_month)
                if row.pattern.forecast.priced
                else "no price",
                f"not yet: {'; '.join(row.missing)}" if row.missing else "ready",
            )
            for row in survey.rows
        ],
    )
    say(
        f"\n{survey.unassigned_share:.0%} of the exchanges belong to no pattern. Amounts are "
        "estimates from token counts and list prices; nothing was changed."
    )


def candidates(as_json: bool = Json) -> None:
    """List the patterns that were proposed, and what else is asked."""
    with opened() as (_, _, pipeline):
        found, questions = pipeline.candidates(), pipeline.questions()
    if as_json:
        print_json(found)
        return
    print_table(
        "Candidates",
        ("candidate", "state", "pattern", "requests", "specialist", "saves per month", "since"),
        [
            (
                item.candidate_id,
                item.state,
                item.pattern.label,
                item.pattern.size,
                item.pattern.kind,
                dollars(item.pattern.forecast.saved_per_month)
                if item.pattern.forecast.priced
                else "no price",
                day(item.created_at),
            )
            for item in found
        ],
    )
    if questions:
        typer.echo(question_list([(one.handle, one.about) for one in questions]))


def reply(
    text: str = typer.Argument(help='Such as "train gc-7f3a".'),
    kind: Kind | None = typer.Option(
        None, help="With train: what to train it as, now and whenever it is trained again."
    ),
) -> None:
    """Answer a proposal: train, skip, merge, reject, details; demote or rollback a specialist."""
    with opened() as (_, _, pipeline):
        say(pipeline.reply(text, "cli", kind=kind))


def tick(
    retry: str = typer.Option("", help="Try this specialist again from its data."),
    kind: Kind | None = typer.Option(
        None, help="With --retry: train it as this, whatever its answers look like."
    ),
    until_idle: bool = typer.Option(False, "--until-idle", help="Go on until nothing moves."),
    as_json: bool = Json,
) -> None:
    """Take every approved specialist one step further."""
    with opened(show_progress=True) as (_, _, pipeline):
        done = pipeline.tick(retry or None, kind)
        reports = [done]
        _tell(done, as_json)
        while until_idle and done.pending:
            done = pipeline.tick()
            reports.append(done)
            _tell(done, as_json)
    if as_json:
        print_json(reports)
    elif not any(map(_happened, reports)):
        say("Nothing to do: no approved candidate waits for its next step.")


def _tell(report: TickReport, as_json: bool) -> None:
    """Say which steps a tick took, as soon as it has: the next one may take an hour."""
    if not as_json:
        for move in (*report.moves, *report.failures):
            say(f"{move.slug}: {move.step}. {move.reason}")
        if report.renewed:
            say(f"Proposals that had expired and are asked again: {report.renewed}.")
        if report.matcher_refitted:
            say("The matcher was fitted anew; the sidecar takes it by itself.")


def _happened(report: TickReport) -> bool:
    return bool(report.moves or report.failures or report.renewed or report.matcher_refitted)


def outbox(as_json: bool = Json) -> None:
    """Show the messages that wait for the operator."""
    with opened() as (_, database, _), database.transaction() as connection:
        waiting = waiting_messages(connection)
    if as_json:
        print_json(waiting)
        return
    print_table(
        "Outbox",
        ("written", "about", "message"),
        [(day(item.created_at), item.topic, item.text) for item in waiting],
    )


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (observe, detect, report, candidates, reply, tick, outbox):
        app.command()(command)
