"""The dashboard's cards: what waits for a decision, and every specialist. Pure."""

from __future__ import annotations

import math

from hermes_apprentice.domain.specialist import Stage, Step
from hermes_apprentice.ledger.agreement import self_agreement_in_words
from hermes_apprentice.router.markup import Child, Markup, joined, tag
from hermes_apprentice.router.overview import Figures, Overview, Question, Standing
from hermes_apprentice.router.wording import (
    NO_PRICE,
    NOT_YET,
    count,
    evidence,
    moment,
    money,
    share,
    span,
)

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


# --- questions ---------------------------------------------------------------------------------


def question_cards(view: Overview, questions: tuple[Question, ...]) -> Markup:
    """Return what waits for a decision."""
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
        rows += [("Would be", one.kind.with_article), ("Would save", saved)]
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


def specialist_cards(view: Overview, figures: Figures) -> Markup:
    """Return every specialist."""
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
            ("False routes", _false_routes(one)),
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
        f"answers equal the upstream's; the true rate is {share(seen.lower)} "
        f"to {share(one.upper)} "
        f"(each bound holds at {share(1 - view.alpha)})",
        _interval(seen.lower, seen.agreed / seen.compared, one.upper, view.target),
        " " + self_agreement_in_words(one.self_agreement, view.target)
        if one.self_agreement is not None
        else "",
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


def _false_routes(one: Standing) -> Child:
    if one.matching is None:
        return NOT_YET
    return f"{one.matching.in_words()}; taken from a score of {one.matching.threshold:.3f} on"


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
