"""The only road from an ``Exchange`` to an ``Example``.

Eligibility, cleaning, secrets scan, redaction, length limits, near-duplicate
groups, splits; then a folder with ``examples.jsonl``, ``manifest.json`` and
``card.md``, which appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice.dataset import near_duplicates
from hermes_apprentice.dataset.card import render_card
from hermes_apprentice.dataset.cleaning import clean, plain
from hermes_apprentice.dataset.splits import Group, split_groups
from hermes_apprentice.domain.dataset import Dataset, Example, Split
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.domain.shape_inference import infer_shape
from hermes_apprentice.errors import NotEnoughExamplesError
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.privacy.secrets import find_secrets
from hermes_apprentice.settings import DatasetSettings
from hermes_apprentice.storage.files import new_folder

EXAMPLES = "examples.jsonl"
MANIFEST = "manifest.json"
CARD = "card.md"
FORMAT = 1
NO_REDACTION = "none"

_EXAMPLE = TypeAdapter(Example)
_SHAPE = TypeAdapter(Shape)


class _Redacted(NamedTuple):
    exchange: Exchange
    request: str
    answer: str


def build_dataset(
    exchanges: Sequence[Exchange],
    pattern_id: str,
    settings: DatasetSettings,
    redactor: Redactor | None,
    folder: Path,
    now: float,
) -> Dataset:
    """Build a dataset from the exchanges of a pattern and write it to ``folder``.

    The same exchanges and settings give byte-identical examples and the same digest.

    Args:
        exchanges: Raw; in any order.
        pattern_id: The pattern they belong to.
        settings: Limits.
        redactor: What replaces personal data; ``None`` keeps it, and the manifest says so.
        folder: Appears when everything is written; an older one is replaced.
        now: Unix time, for the data card.

    Raises:
        NotEnoughExamplesError: Too few examples remain; nothing is written.
        RedactionError: A text could not be redacted with certainty; nothing is written.
    """
    ordered = sorted(exchanges, key=lambda one: (one.asked_at, one.exchange_id))
    cleaned = clean(ordered)
    dropped = Counter(cleaned.dropped)
    entities: Counter[str] = Counter()
    redacted = _redact(cleaned.kept, redactor, dropped, entities)
    kept = _distinct(_of_length(redacted, settings.max_chars, dropped), dropped)
    if len(kept) < settings.min_examples:
        raise NotEnoughExamplesError(
            f"{len(kept)} of {len(exchanges)} exchanges can be learned from, and training needs "
            f"{settings.min_examples}. Dropped: {_in_words(dropped)}. Wait for more requests, or "
            "lower dataset.min_examples."
        )
    examples = _examples(kept)
    learned = [one for one in examples if one.split is Split.TRAIN]
    shape = infer_shape([one.request for one in learned], [one.answer for one in learned])
    redaction = redactor.fingerprint if redactor is not None else NO_REDACTION
    lines = b"".join(_EXAMPLE.dump_json(example) + b"\n" for example in examples)
    digest = digest_of(lines, shape, redaction)
    dataset = Dataset(
        dataset_id=f"ds-{digest[:12]}",
        digest=digest,
        pattern_id=pattern_id,
        shape=shape,
        redacted=redactor is not None,
        redaction=redaction,
        dropped=tuple(sorted(dropped.items())),
        examples=examples,
    )
    with new_folder(folder) as working:
        (working / EXAMPLES).write_bytes(lines)
        (working / MANIFEST).write_bytes(_manifest(dataset))
        card = render_card(dataset, entities, redactor.policy if redactor else None, now)
        (working / CARD).write_text(card, encoding="utf-8")
    return dataset


def digest_of(lines: bytes, shape: Shape, redaction: str) -> str:
    """Return the sha256 that names a dataset: its examples, their shape, the redaction."""
    digest = hashlib.sha256(lines)
    digest.update(b"\x00" + _SHAPE.dump_json(shape) + b"\x00" + redaction.encode())
    return digest.hexdigest()


def parse_examples(lines: bytes) -> tuple[Example, ...]:
    """Read examples back as they were written here.

    Raises:
        ValueError: A line is none.
    """
    return tuple(_EXAMPLE.validate_json(line) for line in lines.splitlines() if line.strip())


def _redact(
    exchanges: Iterable[Exchange],
    redactor: Redactor | None,
    dropped: Counter[str],
    entities: Counter[str],
) -> list[_Redacted]:
    kept = []
    for one in exchanges:
        if find_secrets(one.request) or find_secrets(one.answer):
            dropped["secret"] += 1
        elif redactor is None:
            kept.append(_Redacted(one, one.request, one.answer))
        else:
            pair = redactor.redact_pair(one.request, one.answer)
            if pair.only_in_answer or not pair.reproducible:
                dropped["unknowable_personal_data"] += 1
                continue
            entities.update(pair.counts)
            kept.append(_Redacted(one, pair.request, pair.answer))
    return kept


def _of_length(items: Iterable[_Redacted], longest: int, dropped: Counter[str]) -> list[_Redacted]:
    kept = [one for one in items if len(one.request) <= longest and len(one.answer) <= longest]
    dropped["too_long"] += sum(
        len(one.request) > longest or len(one.answer) > longest for one in items
    )
    return kept


def _distinct(items: list[_Redacted], dropped: Counter[str]) -> list[_Redacted]:
    """Keep the newest of exchanges with the same request; their answers agree by now."""
    newest = {plain(one.request): one for one in items}
    dropped["repeated"] += len(items) - len(newest)
    chosen = {one.exchange.exchange_id for one in newest.values()}
    return [one for one in items if one.exchange.exchange_id in chosen]


def _examples(items: list[_Redacted]) -> tuple[Example, ...]:
    firsts = near_duplicates.groups([plain(one.request) for one in items])
    names = [items[first].exchange.exchange_id for first in firsts]
    splits = split_groups(
        [
            Group(items[first].exchange.exchange_id, items[first].exchange.asked_at)
            for first in sorted(set(firsts))
        ]
    )
    return tuple(
        Example(
            example_id=one.exchange.exchange_id,
            group=name,
            split=splits[name],
            request=one.request,
            answer=one.answer,
            asked_at=one.exchange.asked_at,
        )
        for one, name in zip(items, names, strict=True)
    )


def _manifest(dataset: Dataset) -> bytes:
    record = {
        "format": FORMAT,
        "dataset_id": dataset.dataset_id,
        "digest": dataset.digest,
        "pattern_id": dataset.pattern_id,
        "shape": _SHAPE.dump_python(dataset.shape, mode="json"),
        "redacted": dataset.redacted,
        "redaction": dataset.redaction,
        "dropped": dict(dataset.dropped),
        "splits": {split: len(dataset.of(split)) for split in Split},
    }
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


def _in_words(dropped: Counter[str]) -> str:
    parts = [f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items() if count]
    return ", ".join(parts) or "none"
