"""The dashboard as one page of HTML: its frame and its figures at a glance.

Pure. The page loads nothing, runs no script, and names no request's text.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from hermes_apprentice.domain.routing import Route
from hermes_apprentice.router.accounts import account_sections
from hermes_apprentice.router.cards import question_cards, specialist_cards
from hermes_apprentice.router.markup import Child, Markup, joined, tag, verbatim
from hermes_apprentice.router.overview import Figures, Overview
from hermes_apprentice.router.wording import (
    NO_PRICE,
    NOT_YET,
    clock,
    count,
    money,
    share,
)

REFRESH_SECONDS = 60
"""How often the page loads itself anew."""


@cache
def style() -> str:
    """Return the page's style sheet."""
    return Path(__file__).with_name("dashboard.css").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return the page's content security policy: its own style, and nothing else at all."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def page(view: Overview, *, refresh: bool = True, embedded: bool = False) -> str:
    """Return the whole page.

    Args:
        view: What to show.
        refresh: Whether it loads itself anew from time to time.
        embedded: Whether it is a part of another page, which then looks after that.
    """
    figures = view.figures
    meta: list[Child] = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),
        tag("title", "Apprentice"),
        tag("style", verbatim(style())),
    ]
    if refresh and not embedded:
        meta.insert(2, tag("meta", http_equiv="refresh", content=str(REFRESH_SECONDS)))
    body = [
        _header(view, refresh, embedded),
        tag(
            "main",
            _problems(view),
            _unread() if figures is None else joined(*_sections(view, figures)),
            tag(
                "footer",
                "Times are UTC. Whatever no specialist answers goes to ",
                tag("code", view.upstream),
                ". Amounts are list prices times tokens; 'estimate' marks what no bill says.",
            ),
        ),
    ]
    kind = "embedded" if embedded else None
    html = tag("html", tag("head", *meta), tag("body", *body), lang="en", class_=kind)
    return "<!doctype html>" + html


def _header(view: Overview, refresh: bool, embedded: bool) -> Markup:
    number = len(view.problems)
    words = count(number, "problem") if number else "everything works"
    toggle = None
    if not embedded:
        target, text = ("?refresh=off", "stop reloading") if refresh else ("?", "reload by itself")
        toggle = joined(" · ", tag("a", text, href=target))
    return tag(
        "header",
        tag("h1", "Apprentice", class_="away" if embedded else None),
        tag("span", words, class_=f"pill {'bad' if number else 'good'}"),
        tag("span", f"as of {clock(view.at)}", toggle, class_="soft small push"),
    )


def _problems(view: Overview) -> Markup | None:
    if not view.problems:
        return None
    items = [
        tag("li", tag("strong", part), ": ", problem)
        for part, problem in sorted(view.problems.items())
    ]
    return tag("ul", *items, class_="problems", aria_label="Problems")


def _unread() -> Markup:
    words = "The database cannot be read, so there is nothing to show. Requests are answered."
    return tag("p", words, class_="card soft")


def _sections(view: Overview, figures: Figures) -> list[Markup]:
    return [
        _tiles(figures),
        _section("questions", "Waiting for your decision", question_cards(view, figures.questions)),
        _section("specialists", "Specialists", specialist_cards(view, figures)),
        *(_section(*section) for section in account_sections(view.at, figures)),
    ]


def _section(name: str, heading: str, content: Markup) -> Markup:
    return tag("section", tag("h2", heading, id=name), content, aria_labelledby=name)


# --- figures at a glance -----------------------------------------------------------------------


def _tiles(figures: Figures) -> Markup:
    account, month = figures.roi, figures.month
    answered = sum(row.answered for row in account.specialists)
    unpriced = sum(row.unpriced for row in account.specialists)
    saved = sum(row.saved for row in account.specialists)
    audits = sum(row.audits for row in account.specialists)
    asked = sum(model.requests for model in figures.costs.models)
    without = sum(model.unpriced for model in figures.costs.models)
    charged = sum(model.cost for model in figures.costs.models)
    guessed = sum(one.estimated for one in month if one.route is not Route.SPECIALIST)
    budget = figures.budget
    fast = figures.speeds[0] if figures.speeds else None
    return tag(
        "section",
        _tile(
            "Requests, 24 h",
            count(figures.day.requests),
            f"{count(figures.week.requests)} in 7 days",
        ),
        _tile(
            "By specialists",
            share(account.routed_share, 1) if month else None,
            "of first calls, 30 days",
            unknown="no requests yet",
        ),
        _tile(
            "Saved, 30 days",
            money(saved) if answered > unpriced else None,
            _notes(
                "estimate" if answered > unpriced else "",
                f"audits cost {money(audits)}" if audits else "",
                f"{count(unpriced, 'answer')} without a price" if unpriced else "",
            ),
            unknown=NO_PRICE if answered else "nothing answered yet",
        ),
        _tile(
            "Upstream, 30 days",
            money(charged) if asked > without else None,
            _notes(
                count(asked, "call"),
                f"{count(without)} without a price" if without else "",
                f"{count(guessed)} estimated" if guessed else "",
            ),
            unknown=NO_PRICE if asked else "nothing asked yet",
        ),
        _tile(
            "Overhead",
            f"{fast.overhead.median:.1f} / {fast.overhead.p95:.1f} ms" if fast else None,
            "median / 95 of 100, 7 days",
            unknown=NOT_YET,
        ),
        _tile(
            "Paid training",
            f"{money(budget.spent)} of {money(budget.ceiling)}"
            if budget and budget.ceiling
            else None,
            f"in {budget.month}" if budget else "see budget.monthly_dollars",
            unknown="nothing is paid for" if budget else "the ceiling cannot be read",
        ),
        class_="tiles",
        aria_label="At a glance",
    )


def _tile(name: str, value: str | None, note: str, *, unknown: str = "") -> Markup:
    shown = (
        tag("div", value, class_="value")
        if value is not None
        else tag("div", unknown, class_="value unknown")
    )
    return tag(
        "div",
        tag("div", name, class_="soft small"),
        shown,
        tag("div", note, class_="soft small"),
        class_="card",
    )


def _notes(*notes: str) -> str:
    return " · ".join(note for note in notes if note) or "\N{NO-BREAK SPACE}"
