"""Does the matcher tell a request from one with nearly the same words and another meaning?

    .venv/bin/python benchmarks/polarity.py --json

Five invented patterns of 20 requests each, and 100 pairs of a request and its twist: a negation,
a reversed direction, another task in the same words, and (which is the same task and must still
match) another number. Measured twice: with other traffic that has no such twists in it, and with
other traffic in which each kind of twist occurred a few times, in other words. All scores come
from the product's own embedder and matcher.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

from hermes_apprentice.embedding.base import Embedder
from hermes_apprentice.embedding.onnx_embedder import open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.embedding.views import matching_vectors
from hermes_apprentice.statistics.open_set import BACKGROUND, OpenSetModel, fit_open_set

RATE = 0.02
TAUGHT = 5
"""Twists of each sort in the other traffic that knows them."""

TICKETS = (
    "the export button does nothing",
    "I was charged twice this month",
    "how do I add a colleague",
    "the login page stays white",
    "the refund has not arrived",
    "where can I change my address",
    "the app freezes on start",
    "my card was declined",
    "can I use it on two phones",
    "uploads stop halfway",
    "the discount is missing on the bill",
    "is there a student price",
    "search shows an error",
    "please send the invoice again",
    "how do I delete a project",
    "the clock is one hour off",
    "I paid but see no credit",
    "does it work without a network",
    "pictures come out green",
    "the yearly fee went up",
    "who can see my files",
    "sound is missing in calls",
    "the receipt has a wrong name",
    "how long do you keep backups",
    "the printer is not found",
    "I want my money back",
    "which languages are there",
    "notes vanish after closing",
    "the tax on the bill is wrong",
    "can two people edit at once",
)
SENTENCES = (
    "The shop opens at nine.",
    "We have no room left.",
    "The train was late again.",
    "Please water the plants.",
    "My sister lives in Leiden.",
    "The soup needs more salt.",
    "The bridge is closed today.",
    "He forgot his umbrella.",
    "Our meeting is on Friday.",
    "The cat sleeps on the stove.",
    "They sold the old boat.",
    "The lamp flickers at night.",
    "I will call you tomorrow.",
    "The museum is free on Sundays.",
    "She painted the door blue.",
    "The path leads to the lake.",
    "We need forty chairs.",
    "The milk has gone off.",
    "Rain is expected at noon.",
    "The keys are under the mat.",
    "You look tired.",
    "The concert was wonderful.",
    "The bread is still warm.",
    "Nobody answered the bell.",
    "The garden is full of bees.",
    "The stairs are steep.",
    "His letter never arrived.",
    "The market moves to the square.",
    "I lost my left glove.",
    "The river froze last winter.",
)
CHORES = (
    "call the dentist",
    "take out the bins",
    "feed the neighbour's cat",
    "send the report",
    "buy stamps",
    "water the tomatoes",
    "renew the passport",
    "charge the camera",
    "pick up the parcel",
    "book the ferry",
    "return the library books",
    "clean the filter",
    "pay the electrician",
    "check the oven",
    "write to aunt Rosa",
    "order new glasses",
    "bring the bicycle in",
    "defrost the fridge",
    "sign the lease",
    "test the smoke alarm",
    "fetch the laundry",
    "reply to the landlord",
    "print the tickets",
    "air the cellar",
    "move the car",
    "wrap the present",
    "lock the shed",
    "mix the dough",
    "back up the laptop",
    "measure the window",
)
INVOICES = tuple(
    f"{firm}, invoice {number}, {goods}, total {euros} euros"
    for firm, number, goods, euros in zip(
        (
            "Fernhill Joinery",
            "Oakwell Bakery",
            "Tarn Optics",
            "Pilgrim Press",
            "Lund Cables",
            "Marrow Farm",
        )
        * 5,
        (4100 + 37 * place for place in range(30)),
        ("brass hinges", "seeded rolls", "two lenses", "forty posters", "copper wire") * 6,
        (60 + 13 * place for place in range(30)),
        strict=True,
    )
)
DISTANCES = tuple(str(7 + 9 * place) for place in range(30))


class Twist(NamedTuple):
    """One way to say nearly the same and mean something else."""

    kind: str
    """``negation``, ``direction``, ``other_task`` or ``number``."""

    form: str
    """With ``{}`` where the pattern's own content goes."""

    same: bool = False
    """Whether it is still the pattern's task."""


class Subject(NamedTuple):
    """One pattern with its twists."""

    name: str
    forms: tuple[str, ...]
    contents: tuple[str, ...]
    twists: tuple[Twist, ...]


SUBJECTS = (
    Subject(
        "label-ticket",
        ("Label this ticket as bug, billing or question: {}", "Which label fits this ticket? {}"),
        TICKETS,
        (
            Twist("negation", "Do not label this ticket, just forward it: {}"),
            Twist("direction", "Which ticket would get the label bug, like this one? {}"),
            Twist("other_task", "Write a friendly answer to this ticket: {}"),
            Twist(
                "number", "Label this ticket as bug, billing or question, number 3 of 9: {}", True
            ),
        ),
    ),
    Subject(
        "translate-german",
        ("Translate into German: {}", "Please translate this into German: {}"),
        SENTENCES,
        (
            Twist("negation", "Do not translate this into German, only correct it: {}"),
            Twist("direction", "Translate from German into English: {}"),
            Twist("other_task", "How many words has this in German: {}"),
            Twist("number", "Translate into German, sentence 12: {}", True),
        ),
    ),
    Subject(
        "km-to-miles",
        ("Convert {} kilometres to miles", "How many miles are {} kilometres?"),
        DISTANCES,
        (
            Twist("negation", "Do not convert the {} kilometres to miles, leave them"),
            Twist("direction", "Convert {} miles to kilometres"),
            Twist("other_task", "How long does it take to drive {} kilometres?"),
            Twist("number", "Convert {}.5 kilometres to miles", True),
        ),
    ),
    Subject(
        "set-reminder",
        ("Remind me to {} at six", "Set a reminder to {} tonight at eight"),
        CHORES,
        (
            Twist("negation", "Do not remind me to {} any more"),
            Twist("direction", "Ask Nils to remind you to {} at six"),
            Twist("other_task", "Did I already {} at six?"),
            Twist("number", "Remind me to {} at eleven", True),
        ),
    ),
    Subject(
        "read-invoice",
        ("Extract number and total as JSON: {}", "Give me number and total of this as JSON: {}"),
        INVOICES,
        (
            Twist("negation", "Do not extract anything as JSON, only file this: {}"),
            Twist("direction", "Write an invoice text from this JSON: {}"),
            Twist("other_task", "Is the total of this too high? {}"),
            Twist("number", "Extract number and total as JSON, page 2 of 5: {}", True),
        ),
    ),
)

OTHER = tuple(
    f"{verb} {thing}"
    for verb in (
        "Tell me about",
        "Write a poem on",
        "What is the history of",
        "Plan a day around",
        "Who knows most about",
        "Draw up a list of books on",
        "Explain to a child",
        "Find news on",
    )
    for thing in (
        "lighthouses",
        "the moon",
        "old bridges",
        "green tea",
        "chess",
        "whales",
        "paper kites",
        "volcanoes",
        "jazz drummers",
        "beekeeping",
        "sour dough",
        "tram lines",
        "glass blowing",
        "tides",
        "northern lights",
        "steam engines",
        "woollen socks",
        "harbours",
        "mosaics",
        "alpine huts",
        "folk dances",
        "pottery",
        "cave paintings",
        "sundials",
        "windmills",
    )
)


class Pair(NamedTuple):
    """A request and its twist."""

    subject: str
    kind: str
    request: str
    twist: str
    same: bool


def pairs() -> list[Pair]:
    """Return the 100 pairs; none of their contents is learned from."""
    return [
        Pair(
            subject.name,
            twist.kind,
            subject.forms[place % 2].format(content),
            twist.form.format(content),
            twist.same,
        )
        for subject in SUBJECTS
        for twist in subject.twists
        for place, content in enumerate(subject.contents[20:25])
    ]


def learn(embedder: Embedder, *, taught: bool) -> OpenSetModel:
    """Fit the matcher on the patterns and on other traffic, with or without known twists."""
    texts, labels = [], []
    for index, subject in enumerate(SUBJECTS):
        for place, content in enumerate(subject.contents[:20]):
            texts.append(subject.forms[place % 2].format(content))
            labels.append(index)
        for twist in subject.twists if taught else ():
            for content in subject.contents[25 : 25 + TAUGHT]:
                texts.append(twist.form.format(content))
                labels.append(index if twist.same else BACKGROUND)
    texts += OTHER
    labels += [BACKGROUND] * len(OTHER)
    names = tuple(subject.name for subject in SUBJECTS)
    return fit_open_set(matching_vectors(embedder.encode(texts)), np.array(labels), names, RATE, 0)


def judge(embedder: Embedder, model: OpenSetModel) -> list[dict[str, Any]]:
    """Say for each pair what the matcher makes of both halves, and by which margin."""
    found = []
    for pair in pairs():
        before, after = model.decide(matching_vectors(embedder.encode([pair.request, pair.twist])))
        found.append(
            {
                **pair._asdict(),
                "request_matched": before.label == pair.subject,
                "twist_matched": after.label == pair.subject,
                "request_score": round(before.score, 3),
                "twist_score": round(after.score, 3),
                "threshold": round(after.threshold, 3),
            }
        )
    return found


def measure(embedder: Embedder) -> dict[str, dict[str, float]]:
    """Return the shares matched, per kind of twist, for both kinds of other traffic."""
    result = {}
    for name, taught in (("untaught", False), ("taught", True)):
        rows = judge(embedder, learn(embedder, taught=taught))
        shares = {"request": float(np.mean([row["request_matched"] for row in rows]))}
        for kind in ("negation", "direction", "other_task", "number"):
            mine = [row["twist_matched"] for row in rows if row["kind"] == kind]
            shares[kind] = float(np.mean(mine))
        result[name] = {key: round(value, 3) for key, value in shares.items()}
    return result


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", type=Path, help="model store; default: the user's cache")
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    options = parser.parse_args()
    models = options.models or platformdirs.user_cache_path("hermes-apprentice") / "models"
    embedder = open_embedder(ModelStore(models), "all-MiniLM-L6-v2", pull=True)
    if not options.json:
        for taught in (False, True):
            for row in judge(embedder, learn(embedder, taught=taught)):
                print(json.dumps({"taught": taught, **row}), file=sys.stderr)
    print(json.dumps(measure(embedder)))


if __name__ == "__main__":
    main()
