"""A small text task: notes about a shop's supplies, rewritten into letters."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

NAMES = ("Ana", "Bo", "Cleo", "Dev", "Ema", "Finn", "Gus", "Hana", "Ivo", "Jana")
THINGS = ("milk", "paper", "coffee", "soap", "bread", "ink", "tea", "salt", "flour", "rope")
STATES = {"empty": "is used up", "low": "is running low", "bad": "has gone bad"}
FORMS = (
    "{thing} {state}, tell {name}",
    "{name}: {thing} {state}",
    "note for {name} - {thing} is {state}",
    "{thing}? {state}. {name} should know",
)
RECIPE = """
[tiny]
like = "cpu"
batch = 16
accumulation = 1
learning_rate = 0.006
epochs = 40
max_steps = 500
max_length = 128
patience = 20
warmup_share = 0.02

[short]
like = "cpu"
batch = 4
accumulation = 1
learning_rate = 0.01
epochs = 4
max_steps = 12
max_length = 128
patience = 20
eval_every = 3
"""

Rows = list[tuple[str, str]]


def notes(count: int, seed: int) -> Rows:
    """Different notes with their letters."""
    rows = [
        (
            form.format(name=name, thing=thing, state=state),
            f"Dear {name}, the {thing} {STATES[state]}. Please see to it.",
        )
        for name in NAMES
        for thing in THINGS
        for state in STATES
        for form in FORMS
    ]
    random.Random(seed).shuffle(rows)
    return rows[:count]


def make_base(python: str, folder: Path) -> None:
    """Make the tiny base model; see ``tiny_base.py`` beside this file."""
    texts = [text for row in notes(400, 1) for text in row]
    subprocess.run(
        [python, str(Path(__file__).with_name("tiny_base.py")), str(folder)],
        input=json.dumps(texts),
        text=True,
        check=True,
        capture_output=True,
    )
