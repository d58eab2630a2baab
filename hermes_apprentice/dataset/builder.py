"""The only road from an ``Exchange`` to an ``Example``.

Writes a folder with ``examples.jsonl``, ``manifest.json`` and ``card.md``, which
appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from hermes_apprentice.dataset import near_duplicates
from hermes_apprentice.dataset.card import CARD, render_card
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
FORMAT = 2
RECIPE = 1
"""Counts up whenever the same exchanges would give other examples than before."""
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
    *,
    earlier: Sequence[Dataset] = (),
) -> Dataset:
    """Build a dataset from the exchanges of a pattern and write it to ``folder``.

    The same exchanges, settings and redactor give byte-identical examples and the
    same digest. The order is: eligibility and cleaning, secrets, redaction, length,
    near-duplicate groups, splits; the shape is found on the training split only.

    Args:
        exchanges: Raw; in any order.
        pattern_id: The pattern they belong to.
        settings: Limits.
        redactor: What replaces personal data; ``None`` keeps it, and the manifest says so.
        folder: Appears when everything is written; an older one is replaced.
        now: Unix time, for the data card.
        earlier: Datasets that specialists were judged on before. What was tested on stays in the
            test, with everything nearly the same, in whichever dataset the same thing was
            learned from; the rest stays where it was, and only new groups are split.

    Raises:
        NotEnoughExamplesError: Too few examples remain; nothing is written.
        RedactionError: A text could not be redacted with certainty; nothing is written.
    """
    ordered = sorted(exchanges, key=lambda one: (one.asked_at, one.exchange_id))
    cleaned = clean(ordered)
    dropped = Counter(cleaned.dropped)
    entities: Counter[str] = Counter()
    redacted = _redact(cleaned.kept, redactor, dropped, entities)
    usable = _of_length(redacted, settings.max_chars, dropped)
    examples = _examples(usable, dropped, earlier)
    if len(examples) < settings.min_examples:
        raise NotEnoughExamplesError(
            f"{len(examples)} of {len(exchanges)} exchanges can be learned from, and training "
            f"needs {settings.min_examples}. Dropped: {_in_words(dropped)}. Wait for more "
            "requests, or lower dataset.min_examples."
        )
    learned = [one for one in examples if one.split is Split.TRAIN]
    shape = infer_shape([one.request for one in learned], [one.answer for one in learned])
    policy = redactor.policy if redactor is not None else None
    chosen = {example.example_id for example in examples}
    lines = b"".join(_EXAMPLE.dump_json(example) + b"\n" for example in examples)
    record: dict[str, Any] = {
        "format": FORMAT,
        "recipe": RECIPE,
        "pattern_id": pattern_id,
        "settings": settings.model_dump(mode="json"),
        "redacted": redactor is not None,
        "redaction": redactor.fingerprint if redactor is not None else NO_REDACTION,
        "not_covered": list(policy.not_covered) if policy is not None else [],
        "provenance": _provenance([one for one in exchanges if one.exchange_id in chosen]),
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "entities": dict(sorted(entities.items())),
        "shape": _SHAPE.dump_python(shape, mode="json"),
        "splits": {split: sum(one.split is split for one in examples) for split in Split},
    }
    if earlier:
        record["earlier"] = [one.dataset_id for one in earlier]
    digest = digest_of(lines, record)
    dataset = Dataset(
        dataset_id=f"ds-{digest[:12]}",
        digest=digest,
        pattern_id=pattern_id,
        shape=shape,
        redacted=record["redacted"],
        redaction=record["redaction"],
        dropped=tuple(record["dropped"].items()),
        examples=examples,
    )
    manifest = {"dataset_id": dataset.dataset_id, "digest": digest, **record}
    with new_folder(folder) as working:
        (working / EXAMPLES).write_bytes(lines)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (working / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
        card = render_card(dataset, record["provenance"], entities, policy, now)
        (working / CARD).write_text(card, encoding="utf-8")
    return dataset


def digest_of(lines: bytes, record: Mapping[str, Any]) -> str:
    """Return the sha256 that names a dataset.

    Args:
        lines: The file of examples.
        record: The manifest without the digest and the name made from it.
    """
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(lines + b"\x00" + canonical.encode()).hexdigest()


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


def _examples(
    items: Sequence[_Redacted], dropped: Counter[str], earlier: Sequence[Dataset]
) -> tuple[Example, ...]:
    """Group, split, and keep the newest of those with the same request.

    Groups are named after their oldest member before any is left out, so a
    request that comes again changes no group's name, and with it no split.
    Requests tested on earlier take part in the grouping even where their
    exchange is gone, and where it is not, its answer stays the one to test on.
    """
    requests = [plain(one.request) for one in items]
    tested = [one for dataset in earlier for one in dataset.of(Split.TEST)]
    firsts = near_duplicates.groups([*requests, *(plain(one.request) for one in tested)])
    of_tested = set(firsts[len(items) :])
    firsts = firsts[: len(items)]
    oldest = {first: items[first].exchange for first in firsts}
    places = _places(items, firsts, earlier)
    splits = split_groups(
        [
            Group(one.exchange_id, one.asked_at)
            for first, one in oldest.items()
            if first not in of_tested and first not in places
        ]
    )
    for first, one in oldest.items():
        if first in of_tested:
            splits[one.exchange_id] = Split.TEST
        elif first in places:
            splits[one.exchange_id] = places[first]
    chosen = {request: index for index, request in enumerate(requests)}
    ids = {one.example_id for one in tested}
    chosen |= {
        request: index
        for index, request in enumerate(requests)
        if items[index].exchange.exchange_id in ids
    }
    dropped["repeated"] += len(items) - len(chosen)
    return tuple(
        Example(
            example_id=items[index].exchange.exchange_id,
            group=oldest[firsts[index]].exchange_id,
            split=splits[oldest[firsts[index]].exchange_id],
            request=items[index].request,
            answer=items[index].answer,
            asked_at=items[index].exchange.asked_at,
        )
        for index in sorted(chosen.values())
    )


_STRICTEST = (Split.TEST, Split.VALIDATION, Split.TRAIN)


def _places(
    items: Sequence[_Redacted], firsts: Sequence[int], earlier: Sequence[Dataset]
) -> dict[int, Split]:
    """Return the split of every group that was in an earlier dataset; the test comes first."""
    before = {one.example_id: one.split for dataset in earlier for one in dataset.examples}
    found: dict[int, set[Split]] = {}
    for item, first in zip(items, firsts, strict=True):
        if item.exchange.exchange_id in before:
            found.setdefault(first, set()).add(before[item.exchange.exchange_id])
    return {
        first: next(split for split in _STRICTEST if split in splits)
        for first, splits in found.items()
    }


def _provenance(exchanges: Sequence[Exchange]) -> dict[str, Any]:
    """Say where examples come from, without naming a session."""

    def counted(values: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(values).items()))

    return {
        "profiles": counted(one.profile for one in exchanges),
        "sources": counted(one.source for one in exchanges),
        "models": counted(one.model for one in exchanges),
        "sessions": len({(one.profile, one.session_id) for one in exchanges}),
        "first_asked_at": min((one.asked_at for one in exchanges), default=None),
        "last_asked_at": max((one.asked_at for one in exchanges), default=None),
    }


def _in_words(dropped: Counter[str]) -> str:
    parts = [f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items() if count]
    return ", ".join(parts) or "none"
