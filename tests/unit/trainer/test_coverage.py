"""What an extractor can learn to write, each on an invented task with requests it has not seen."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hermes_apprentice.domain.dataset import Example
from hermes_apprentice.domain.shape import Kind, kind_for
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.testing import FakeEmbedder
from hermes_apprentice.trainer.extractor import train_extractor

Make = Callable[[Sequence[tuple[str, str]]], list[Example]]
Task = Callable[[random.Random], tuple[str, dict[str, Any]]]

TOWNS = ("Aldmere", "Bronnholm", "Castelvar", "Dunwick", "Esterby", "Falkrona", "Harrow Vale")
GOODS = ("steel bolts", "red paint", "copper wire", "garden hose", "oak planks", "nails", "glue")
MONTHS = (
    "January February March April May June July August September October November December"
).split()


def orders(rng: random.Random) -> tuple[str, dict[str, Any]]:
    items = [
        (rng.randint(2, 60), f"{rng.choice('ABKX')}{rng.choice('QRT')}-{rng.randint(100, 999)}")
        for _ in range(rng.randint(1, 3))
    ]
    text = " and ".join(f"{count} x {sku}" for count, sku in items)
    return (
        f"Please send {text} to {rng.choice(TOWNS)}.",
        {"items": [{"sku": sku, "qty": count} for count, sku in items]},
    )


def calendar(rng: random.Random) -> tuple[str, dict[str, Any]]:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2025, 2028)
    written = rng.choice(
        (
            f"{day} {MONTHS[month - 1]} {year}",
            f"{MONTHS[month - 1][:3]} {day}, {year}",
            f"{day:02}/{month:02}/{year % 100:02}",
        )
    )
    hour = rng.randint(1, 11)
    half = rng.choice(("am", "pm"))
    return (
        f"Meet in {rng.choice(TOWNS)} on {written} at {hour} {half}",
        {
            "date": f"{year}-{month:02}-{day:02}",
            "time": f"{hour + 12 * (half == 'pm'):02}:00",
        },
    )


def amounts(rng: random.Random) -> tuple[str, dict[str, Any]]:
    value, unit = rng.randint(1, 90), rng.choice(("kg", "g", "l"))
    gap = rng.choice(("", " "))
    return (
        f"Order {value}{gap}{unit} of {rng.choice(GOODS)}",
        {"amount": {"value": value, "unit": unit}},
    )


def discounts(rng: random.Random) -> tuple[str, dict[str, Any]]:
    share, price = rng.randint(1, 60), rng.randint(1_000, 99_000)
    return (
        f"Take {share} % off the {price:,} EUR for {rng.choice(TOWNS)}",
        {"off": share / 100, "price": price},
    )


def tags(rng: random.Random) -> tuple[str, dict[str, Any]]:
    known = {
        "billing": ("the invoice", "my payment"),
        "delivery": ("the parcel", "the driver"),
        "urgent": ("right now", "asap"),
    }
    chosen = [tag for tag in known if rng.random() < 0.5]
    said = [rng.choice(known[tag]) for tag in chosen]
    rng.shuffle(said)
    return f"Write to {rng.choice(TOWNS)} about " + " and ".join(said), {"tags": chosen}


def packs(rng: random.Random) -> tuple[str, dict[str, Any]]:
    items = [
        (
            rng.choice(GOODS),
            rng.choice((("boxes", "box"), ("pallets", "pallet"))),
            rng.randint(2, 9),
            rng.random() < 0.4,
        )
        for _ in range(rng.randint(1, 3))
    ]
    text = ", ".join(
        f"{count} {pack[0]} of {name}" + (" as a gift" if gift else "")
        for name, pack, count, gift in items
    )
    return f"Need {text}", {
        "items": [
            {"name": name, "qty": count, "pack": pack[1], "gift": gift}
            for name, pack, count, gift in items
        ]
    }


def counts_left_out(rng: random.Random) -> tuple[str, dict[str, Any]]:
    items = [
        (name, rng.choice((1, rng.randint(2, 40)))) for name in rng.sample(GOODS, rng.randint(1, 3))
    ]
    text = ", ".join((f"{count} of " if count > 1 else "") + name for name, count in items)
    return f"Need {text}", {"items": [{"name": name, "qty": count} for name, count in items]}


def one_or_many(rng: random.Random) -> tuple[str, dict[str, Any]]:
    towns = rng.sample(TOWNS, rng.choice((0, 1, 1, 1, 2)))
    text = "Trip to " + " and ".join(towns) if towns else "Trip to anywhere"
    return text, {"to": towns if len(towns) > 1 else towns[0] if towns else None}


def said_or_left_out(rng: random.Random) -> tuple[str, dict[str, Any]]:
    values = {"in": rng.choice(TOWNS), "about": rng.choice(GOODS), "code": rng.randint(100, 999)}
    said = {key: value for key, value in values.items() if rng.random() < 0.3}
    return "Meet " + " ".join(f"{key} {value}" for key, value in said.items()), said


def numbers_with_a_code(rng: random.Random) -> tuple[str, dict[str, Any]]:
    number, tickets = rng.randint(100, 99_999), [rng.randint(10, 999) for _ in range(2)]
    asked = " and ".join(str(one) for one in tickets)
    return (
        rng.choice((f"Where is order {number}? See {asked}", f"Cancel {number}, as in {asked}")),
        {
            "order": f"ORD-{number}/EU",
            "tickets": [f"#{one}" for one in tickets],
            "rows": [{"id": f"row {one} of it"} for one in tickets],
        },
    )


@pytest.mark.parametrize(
    "task",
    [
        orders,
        calendar,
        amounts,
        discounts,
        tags,
        packs,
        counts_left_out,
        one_or_many,
        said_or_left_out,
        numbers_with_a_code,
    ],
)
def test_answers_to_new_requests_are_written_as_the_upstream_does(
    make_examples: Make, task: Task
) -> None:
    rng = random.Random(3)
    rows = [
        (text, json.dumps(answer, separators=(",", ":")))
        for text, answer in (task(rng) for _ in range(90))
    ]
    known, new = rows[:70], rows[70:]
    shape = infer_shape([text for text, _ in known], [answer for _, answer in known])
    assert kind_for(shape) is Kind.EXTRACTOR and shape.agreement >= 0.95
    examples = make_examples(known)
    embedder = FakeEmbedder()
    encodings = embedder.encode([example.request for example in examples])
    fit = train_extractor(shape, examples, encodings, 7, lambda share, doing: None)
    given = fit.model.predict([text for text, _ in new], embedder.encode([text for text, _ in new]))
    right = [one.text == wanted for one, (_, wanted) in zip(given, new, strict=True)]
    assert sum(right) >= 0.85 * len(right), [
        (text, one.text) for (text, _), one, hit in zip(new, given, right, strict=True) if not hit
    ]
