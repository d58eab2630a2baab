"""Read a built dataset from its folder.

Training happens in a child process, perhaps on another machine, so the folder
is all there is: ``examples.jsonl`` with one `Example` per line, and
``manifest.json`` with the shape of the answers. Knows nothing about how it was built.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.errors import TrainingError

EXAMPLES_FILE = "examples.jsonl"
MANIFEST_FILE = "manifest.json"

_EXAMPLE = TypeAdapter(Example)
_SHAPE = TypeAdapter(Shape)


class TrainingData(NamedTuple):
    """What a trainer learns from."""

    shape: Shape
    """What the answers have in common."""

    examples: tuple[Example, ...]
    """Everything but the test split, which no trainer may see."""


def read_training_data(folder: Path) -> TrainingData:
    """Read the training and validation examples of a dataset.

    Raises:
        TrainingError: A file is missing or damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        shape = _SHAPE.validate_python(manifest["shape"])
        lines = (folder / EXAMPLES_FILE).read_bytes().split(b"\n")
        examples = tuple(_EXAMPLE.validate_json(line) for line in lines if line.strip())
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as exc:
        raise TrainingError(
            f"the dataset in {folder} cannot be read: {exc}. Build it again."
        ) from exc
    return TrainingData(
        shape, tuple(example for example in examples if example.split is not Split.TEST)
    )


def write_dataset(folder: Path, shape: Shape, examples: Sequence[Example]) -> None:
    """Write examples the way `read_training_data` reads them, without a data card.

    For benchmarks and hand-over to another interpreter; the product's datasets
    come from the dataset builder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"shape": _SHAPE.dump_python(shape, mode="json")}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    lines = [_EXAMPLE.dump_json(example).decode() for example in examples]
    (folder / EXAMPLES_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
