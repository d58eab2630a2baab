"""The dashboard as one page of HTML: its frame, what needs attention, the specialists.

Pure. The page loads nothing, runs no script, and names no request's text.
"""

from __future__ import annotations

import base64
import hashlib
import math
from functools import cache
from pathlib import Path

from hermes_apprentice.domain.routing import Route
from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.router.accounts import account_sections
from hermes_apprentice.router.markup import Child, Markup, joined, tag, verbatim
from hermes_apprentice.router.overview import Figures, Overview, Question, Standing
from hermes_apprentice.router.wording import (
    NO_PRICE,
    NOT_YET,
    clock,
    count,
    evidence,
    milliseconds,
    moment,
    money,
    share,
    span,
)

REFRESH_SECONDS = 60
"""How often the page loads itself anew."""

_LEARNING = {
    Step.APPROVED: "The dataset is built at the next tick.",
    Step.DATASET_BUILT: "It is trained at the next tick.",
    Step.TRAINED: "The gate looks at it at the next tick.",
    Step.VALIDATED: "It is signed and registered at the next tick.",
    Step.REGISTERED: "It is registered.",
    Step.REJECTED: "The gate said no.",
    Step.WAITING: "More examples are needed.",
    Step.FAILED: "A step failed; 'apprentice tick --retry' tries it again.",
}
_TONES = {
    Stage.LIVE: "good",
    Stage.CANARY: "good",
    Stage.QUARANTINED: "bad",
    Step.FAILED: "bad",
    Step.REJECTED: "warn",
    Step.WAITING: "warn",
}


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
        tag("meta", name="color-scheme", content="light dark"),
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
    return "<!doctype html>" + tag("html", tag("head", *meta), tag("body", *body), lang="en")


def _header(view: Overview, refresh: bool, embedded: bool) -> Markup:
    number = len(view.problems)
    words = count(number, "problem") if number else "everything works"
    toggle = None
    if not embedded:
        target, text = ("?refresh=off", "stop reloading") if refresh else ("?", "reload by itself")
        toggle = joined(" · ", tag("a", text, href=target))
    return tag(
        "header",
        tag("h1", "Apprentice"),
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
        _section("questions", "Waiting for your decision", _questions(view, figures.questions)),
        _section("specialists", "Specialists", _specialists(view, figures)),
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
    guessed = sum(one.estimated for one in month.totals if one.route is not Route.SPECIALIST)
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
            share(account.routed_share, 1) if month.requests else None,
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
            f"{milliseconds(fast.overhead.median)} / {milliseconds(fast.overhead.p95)}"
            if fast
            else None,
            "median / 95 of 100, 7 days",
            unknown=NOT_YET,
        ),
        _tile(
            "Paid training",
            f"{money(budget.spent)} of {money(budget.ceiling)}"
            if budget and budget.ceiling
            else None,
            f"in {budget.month}" if budget and budget.ceiling else "budget.monthly_dollars is 0",
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


# --- questions ---------------------------------------------------------------------------------


def _questions(view: Overview, questions: tuple[Question, ...]) -> Markup:
    if not questions:
        return tag("p", "Nothing waits for a decision.", class_="card soft")
    return tag("div", *(_question(view, one) for one in questions), class_="cards")


def _question(view: Overview, one: Question) -> Markup:
    rows: list[tuple[str, Child]] = []
    if one.size is not None and one.per_day is not None:
        rows.append(("Evidence", f"{count(one.size, 'request')}, about {one.per_day:.1f} a day"))
    if one.fitting is not None:
        rows.append(("Answers", f"{share(one.fitting)} have one shape"))
    if one.kind is not None:
        saved = (
            f"about {money(one.saved_per_month)} a month, an estimate"
            if one.saved_per_month is not None
            else NO_PRICE
        )
        rows += [("Would be", f"a {one.kind}"), ("Would save", saved)]
        rows.append(
            (
                "Decide",
                joined(
                    tag("code", f"train {one.handle}"), " or ", tag("code", f"skip {one.handle}")
                ),
            )
        )
    rows.append(
        (
            "Asked",
            joined(
                moment(one.asked_at, view.at),
                joined(", ends ", moment(one.expires_at, view.at))
                if one.expires_at is not None
                else ", expired; it is asked again",
            ),
        )
    )
    return tag(
        "article",
        tag("div", tag("h3", one.label), tag("span", one.handle, class_="pill warn"), class_="top"),
        _list(rows),
        class_="card",
    )


# --- specialists -------------------------------------------------------------------------------


def _specialists(view: Overview, figures: Figures) -> Markup:
    if not figures.specialists:
        words = "There is none yet. 'apprentice report' shows what keeps coming back."
        return tag("p", words, class_="card soft")
    accounts = {row.slug: row for row in figures.roi.specialists}
    cards = []
    for one in figures.specialists:
        account = accounts.get(one.slug)
        answered = (
            f"{count(account.answered)} answered, {count(account.fallbacks)} passed on"
            if account and (account.answered or account.fallbacks)
            else "nothing yet"
        )
        cards.append(_specialist(view, one, answered))
    return tag("div", *cards, class_="cards")


def _specialist(view: Overview, one: Standing, answered: str) -> Markup:
    state = one.stage or one.step
    active = one.stage in (Stage.SHADOW, Stage.CANARY, Stage.LIVE)
    name = str(state or "unknown").replace("_", " ")
    rows: list[tuple[str, Child]] = []
    if one.stage is not None:
        rows += [
            (
                "Share",
                joined(
                    share(one.share), " of its sessions", _gauge(one.share) if one.share else None
                ),
            ),
            ("Agreement", _agreement(view, one)),
            ("Coverage", _coverage(one)),
        ]
    if active:
        rows += [("Next step", _next_step(view, one)), ("Drift", _drift(view, one))]
    elif one.stage is None and one.step is not None:
        rows.append(("Next step", _LEARNING[one.step]))
    if one.stage is not None:
        rows.append(("30 days", answered))
    reason = one.reason
    rows.append(("Since", joined(moment(one.since, view.at), f": {reason}" if reason else "")))
    kind = f"{one.kind or 'kind unknown'}, " + (
        f"version {one.version}" if one.version is not None else "no version yet"
    )
    return tag(
        "article",
        tag(
            "div",
            tag("h3", one.slug),
            tag("span", name, class_=f"pill {_TONES.get(state, '') if state else ''}".strip()),
            tag("span", "held", class_="pill warn") if one.held else None,
            tag("span", "not loaded", class_="pill bad") if active and not one.loaded else None,
            tag("span", kind, class_="soft small push"),
            class_="top",
        ),
        _list(rows),
        class_="card",
    )


def _agreement(view: Overview, one: Standing) -> Child:
    seen = one.progress
    if seen is None or not seen.compared or one.upper is None:
        return NOT_YET
    return joined(
        f"{share(seen.agreed / seen.compared, 1)}: {count(seen.agreed)} of {count(seen.compared)} "
        f"answers equal the upstream's; truly {share(seen.lower)} to {share(one.upper)} "
        f"(each bound holds at {share(1 - view.alpha)})",
        _interval(seen.lower, seen.agreed / seen.compared, one.upper, view.target),
    )


def _coverage(one: Standing) -> Child:
    if one.seen is None:
        return NOT_YET
    seen = one.seen
    everything = seen.compared + seen.abstained + seen.missing
    if not everything:
        return NOT_YET
    words = (
        f"sure about {share(1 - seen.abstained / everything)} of {count(everything)} compared "
        f"requests; left {count(seen.abstained)} to the upstream"
    )
    return words + (f"; {count(seen.missing)} without a counterpart" if seen.missing else "")


def _next_step(view: Overview, one: Standing) -> Child:
    if one.stage is Stage.LIVE:
        return "none: it answers everything it is sure about, and a small share is audited"
    if one.held or not view.auto_advance:
        return "not by itself: automatic steps are stopped"
    seen = one.progress
    if seen is None:
        return NOT_YET
    wait = (one.due_at or 0.0) - view.at
    parts = [
        f"evidence {evidence(seen.evidence)} of {evidence(seen.needed)} that agreement is above "
        f"{share(view.target)}",
        f"{count(min(seen.new, view.min_comparisons))} of {count(view.min_comparisons)} "
        "new comparisons",
        f"earliest in {span(wait)}" if wait > 0 else "long enough at this share",
    ]
    done = math.log(seen.evidence) / math.log(seen.needed) if seen.evidence > 1 else 0.0
    return joined("; ".join(parts), _gauge(min(1.0, done)))


def _drift(view: Overview, one: Standing) -> Child:
    if one.progress is None or not one.progress.compared:
        return NOT_YET
    seen = one.progress
    words = (
        f"evidence {evidence(seen.drift)} of a fall; it is taken out at "
        f"{count(int(view.drift_alarm))}"
    )
    if seen.recent:
        words += f". {count(seen.recent_agreed)} of the last {count(seen.recent)} are equal"
    return words


def _list(rows: list[tuple[str, Child]]) -> Markup:
    return tag("dl", *(joined(tag("dt", name), tag("dd", value)) for name, value in rows))


def _gauge(value: float) -> Markup:
    return tag(
        "svg",
        tag("rect", x=0, y=4, width=200, height=6, rx=3, class_="track"),
        tag("rect", x=0, y=4, width=f"{200 * value:.1f}", height=6, rx=3, class_="fill"),
        class_="gauge",
        viewBox="0 0 200 12",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _interval(lower: float, middle: float, upper: float, target: float) -> Markup:
    """Draw where agreement lies, with a line at the target."""
    return tag(
        "svg",
        tag("rect", x=0, y=5, width=200, height=4, class_="track"),
        tag(
            "rect",
            x=f"{200 * lower:.1f}",
            y=4,
            width=f"{max(1.0, 200 * (upper - lower)):.1f}",
            height=6,
            class_="fill",
            opacity="0.5",
        ),
        tag("rect", x=f"{200 * middle - 1.5:.1f}", y=2, width=3, height=10, class_="fill"),
        tag("line", x1=f"{200 * target:.1f}", x2=f"{200 * target:.1f}", y1=0, y2=12, class_="mark"),
        class_="gauge",
        viewBox="0 0 200 12",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"The line is the target, {share(target)}.",
    )
