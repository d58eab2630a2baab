"""Take examples out of a built dataset, because the sessions they came from were forgotten.

What stays keeps its split. The shape is found again, because the values of a closed set may
have been in the forgotten answers only. Knows nothing about sessions or versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice.dataset.builder import EXAMPLES, MANIFEST, digest_of
from hermes_apprentice.dataset.card import CARD
from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.domain.dataset import Example, Split
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.storage.files import new_folder

_ID = re.compile(rb'"example_id":\s*"([^"]{1,80})"')
_EXAMPLE = TypeAdapter(Example)
_SHAPE = TypeAdapter(Shape)


class Reduced(NamedTuple):
    """What a dataset becomes without some of its examples."""

    before: str
    """The digest that it had."""

    after: str
    """The digest that it will have."""

    lines: bytes
    """The file of examples."""

    manifest: dict[str, Any]
    """The manifest."""

    note: str
    """What the data card says about it."""


def ids_in(folder: Path) -> set[str]:
    """Return the ids of the examples in a dataset's folder, be it in order or damaged."""
    try:
        return {found.decode() for found in _ID.findall((folder / EXAMPLES).read_bytes())}
    except OSError:
        return set()


def reduce_dataset(folder: Path, without: Collection[str]) -> Reduced | None:
    """Work out a dataset without some of its examples; writes nothing.

    Args:
        folder: Of the dataset.
        without: Ids of the examples to take out.

    Returns:
        What to write, or ``None`` where nothing to learn from would be left.

    Raises:
        DatasetError: The dataset is damaged.
    """
    dataset = read_dataset(folder)
    kept = [one for one in dataset.examples if one.example_id not in without]
    learned = [one for one in kept if one.split is Split.TRAIN]
    if not learned:
        return None
    record = json.loads((folder / MANIFEST).read_bytes())
    before = record.pop("digest")
    record.pop("dataset_id")
    shape = infer_shape([one.request for one in learned], [one.answer for one in learned])
    gone = len(dataset.examples) - len(kept)
    record["shape"] = _SHAPE.dump_python(shape, mode="json")
    record["splits"] = {split: sum(one.split is split for one in kept) for split in Split}
    record["forgotten"] = record.get("forgotten", 0) + gone
    record["provenance"] |= {
        "first_asked_at": min(one.asked_at for one in kept),
        "last_asked_at": max(one.asked_at for one in kept),
    }
    lines = b"".join(_EXAMPLE.dump_json(one) + b"\n" for one in kept)
    digest = digest_of(lines, record)
    name = f"ds-{digest[:12]}"
    note = (
        f"\n## Forgotten\n\n{gone} examples were taken out later, because their sessions were "
        f"forgotten; the tables above count them. {len(kept)} are left, as `{name}`.\n"
    )
    return Reduced(before, digest, lines, {"dataset_id": name, "digest": digest, **record}, note)


def write_reduced(folder: Path, reduced: Reduced) -> None:
    """Replace a dataset by what is left of it; it changes as a whole."""
    card = (folder / CARD).read_text(encoding="utf-8")
    with new_folder(folder) as working:
        (working / EXAMPLES).write_bytes(reduced.lines)
        text = json.dumps(reduced.manifest, indent=1, ensure_ascii=False)
        (working / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
        (working / CARD).write_text(card + reduced.note, encoding="utf-8")
