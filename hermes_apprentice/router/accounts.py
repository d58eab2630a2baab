"""The lower half of the dashboard: traffic, speed, tokens, money, messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hermes_apprentice.domain.approval import OutboxMessage
from hermes_apprentice.domain.routing import Route
from hermes_apprentice.ledger.costs import ModelCost
from hermes_apprentice.ledger.roi import SpecialistRoi
from hermes_apprentice.ledger.traffic import RouteSpeed, RouteTotal, Traffic
from hermes_apprentice.router.markup import Child, Markup, joined, tag
from hermes_apprentice.router.overview import Decision, Figures
from hermes_apprentice.router.wording import (
    NO_PRICE,
    clock,
    count,
    milliseconds,
    moment,
    money,
    share,
)

_ROUTES = {
    Route.SPECIALIST: "a specialist",
    Route.FALLBACK: "the upstream, after a specialist passed",
    Route.UPSTREAM: "the upstream",
    Route.AUDIT: "audits (nobody waits for them)",
}
"""Who answered, in the order in which bars are stacked."""

_HEIGHT = 100.0


def account_sections(now: float, figures: Figures) -> list[tuple[str, str, Markup]]:
    """Return the sections: name, heading, content."""
    return [
        ("traffic", "Requests", _traffic(figures)),
        ("speed", "Speed, 7 days", _speeds(figures.speeds)),
        ("tokens", "Tokens, 30 days", _tokens(figures.month)),
        ("money", "Money, 30 days", _money(figures)),
        ("messages", "Latest messages", _messages(now, figures.messages)),
        ("decisions", "Latest decisions", _decisions(now, figures.decisions)),
    ]


# --- traffic -----------------------------------------------------------------------------------


def _traffic(figures: Figures) -> Markup:
    legend = [
        tag(
            "li",
            tag(
                "svg",
                tag("rect", width=10, height=10, rx=2, class_=route),
                viewBox="0 0 10 10",
                aria_hidden="true",
            ),
            words,
        )
        for route, words in _ROUTES.items()
    ]
    return joined(
        tag("ul", *legend, class_="legend"),
        tag(
            "div",
            _chart("24 hours, by the hour", figures.day),
            _chart("7 days, by six hours", figures.week),
            class_="cards",
        ),
    )


def _chart(heading: str, traffic: Traffic) -> Markup:
    if not traffic.totals:
        return tag(
            "div",
            tag("h3", heading),
            tag("p", "No requests in this time.", class_="soft"),
            class_="card chart",
        )
    most = max(sum(slot.values()) for slot in traffic.slots)
    bars: list[Markup] = []
    for number, slot in enumerate(traffic.slots):
        top = _HEIGHT
        for route in _ROUTES:
            calls = slot.get(route, 0)
            if not calls:
                continue
            height = _HEIGHT * calls / most
            top -= height
            began = traffic.start + number * traffic.slot_seconds
            bars.append(
                tag(
                    "rect",
                    tag("title", f"{clock(began)}: {count(calls)} by {_ROUTES[route]}"),
                    x=number * 10 + 1,
                    y=f"{top:.2f}",
                    width=8,
                    height=f"{height:.2f}",
                    class_=route,
                )
            )
    end = traffic.start + len(traffic.slots) * traffic.slot_seconds
    totals = {total.route: total.calls for total in traffic.totals}
    said = "; ".join(f"{_ROUTES[r]}: {count(totals[r])}" for r in _ROUTES if r in totals)
    return tag(
        "div",
        tag("h3", heading),
        tag("div", f"at most {count(most)} at a time", class_="most"),
        tag(
            "svg",
            *bars,
            viewBox=f"0 0 {len(traffic.slots) * 10} {_HEIGHT:.0f}",
            preserveAspectRatio="none",
            role="img",
            aria_label=f"{heading}. {said}.",
        ),
        tag("div", tag("span", clock(traffic.start)), tag("span", clock(end)), class_="ends"),
        tag("p", said, class_="small soft"),
        class_="card chart",
    )


def _speeds(speeds: Sequence[RouteSpeed]) -> Markup:
    rows = [
        (
            _ROUTES[one.route] if one.route else "all",
            count(one.calls),
            milliseconds(one.overhead.median),
            milliseconds(one.overhead.p95),
            milliseconds(one.latency.median),
            milliseconds(one.latency.p95),
        )
        for one in speeds
    ]
    head = (
        "Answered by",
        "Calls",
        "Overhead, median",
        "95 of 100",
        "Whole answer, median",
        "95 of 100",
    )
    return _table("Speed by route", head, rows, "No request has been timed yet.")


# --- tokens and money --------------------------------------------------------------------------


def _tokens(totals: Sequence[RouteTotal]) -> Markup:
    rows = [
        (
            _ROUTES[one.route],
            count(one.calls),
            count(one.failed) if one.failed else "none",
            count(one.prompt_tokens),
            count(one.cached_tokens),
            count(one.completion_tokens),
            "counted" if not one.estimated else f"{share(one.estimated / one.calls)} estimated",
        )
        for one in totals
    ]
    head = (
        "Answered by",
        "Calls",
        "Failed",
        "Tokens in",
        "of which cached",
        "Tokens out",
        "Source",
    )
    table = _table("Tokens by route", head, rows, "No request has been routed yet.")
    if not any(one.route is Route.SPECIALIST for one in totals):
        return table
    words = "Tokens beside a specialist's answers are those that the upstream was not asked for."
    return joined(table, tag("p", words, class_="small soft"))


def _money(figures: Figures) -> Markup:
    training = figures.costs.training
    return joined(
        _table(
            "What the upstream charged",
            ("Upstream model", "Calls", "Tokens in", "Tokens out", "Charged"),
            [_model(one) for one in figures.costs.models],
            "The upstream has not been asked yet.",
        ),
        tag(
            "p",
            f"Of that, {money(figures.costs.audits)} checked specialists' answers. "
            if figures.costs.audits
            else None,
            f"Training cost {money(training)} in money."
            if training
            else "No money was spent on training; electricity is not counted.",
            class_="small soft",
        ),
        _table(
            "What specialists saved",
            ("Specialist", "Answered", "Passed on", "Saved, estimate", "Audits", "Training", "Net"),
            [_account(one) for one in figures.roi.specialists],
            "No specialist has answered or been asked yet.",
        ),
    )


def _model(one: ModelCost) -> tuple[str, ...]:
    if one.unpriced == one.requests:
        charged = NO_PRICE
    elif one.unpriced:
        charged = f"{money(one.cost)}, and {count(one.unpriced, 'call')} without a price"
    else:
        charged = money(one.cost)
    return (
        one.model,
        count(one.requests),
        count(one.prompt_tokens),
        count(one.completion_tokens),
        charged,
    )


def _account(one: SpecialistRoi) -> tuple[str, ...]:
    if not one.answered:
        saved = "nothing answered yet"
    elif one.unpriced == one.answered:
        saved = NO_PRICE
    elif one.unpriced:
        saved = f"{money(one.saved)}, and {count(one.unpriced, 'answer')} without a price"
    else:
        saved = money(one.saved)
    known = not one.answered or one.answered > one.unpriced
    return (
        one.slug,
        count(one.answered),
        count(one.fallbacks),
        saved,
        money(one.audits),
        money(one.spent),
        money(one.net) if known else "not known",
    )


def _table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str
) -> Markup:
    if not rows:
        return tag("p", nothing, class_="card soft")
    table = tag(
        "table",
        tag("caption", caption, class_="away"),
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))),
        tag(
            "tbody",
            *(
                tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
                for row in rows
            ),
        ),
    )
    # Reachable by keyboard, so that a table wider than a phone can be scrolled without a mouse.
    return tag("div", table, class_="card scroll", tabindex=0, role="region", aria_label=caption)


# --- messages and decisions --------------------------------------------------------------------


def _messages(now: float, messages: Sequence[OutboxMessage]) -> Markup:
    items = []
    for one in messages:
        if one.delivered_at is not None:
            state: Child = tag("span", "delivered", class_="pill good")
        elif one.attempts:
            tried = f"waiting, tried {count(one.attempts, 'time')}"
            state = tag("span", tried, class_="pill bad")
        else:
            state = tag("span", "waiting", class_="pill warn")
        items.append(_entry(moment(one.created_at, now), state, tag("p", one.text)))
    return _log(items, "Nothing has been said yet.")


def _decisions(now: float, decisions: Sequence[Decision]) -> Markup:
    items = [
        _entry(
            moment(one.at, now),
            tag("span", one.state, class_="pill"),
            tag("p", tag("code", one.handle), f" by {one.by}" if one.by else ", by nobody"),
        )
        for one in decisions
    ]
    return _log(items, "Nothing has been decided yet.")


def _entry(when: Markup, state: Child, text: Markup) -> Markup:
    return tag("li", tag("div", state, " ", tag("span", when, class_="soft small")), text)


def _log(items: Sequence[Markup], nothing: str) -> Markup:
    if not items:
        return tag("p", nothing, class_="card soft")
    return tag("div", tag("ol", *items, class_="log"), class_="card")
