"""What a registered version was made from, and which exchanges may teach a new one.

Knows nothing about when anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.exchange import Exchange
from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.errors import DatasetError
from hermes_apprentice.pipeline.generators import open_for_gate
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.audits import AuditedAnswer, audited_members
from hermes_apprentice.storage.exchanges import ExchangeStore
from hermes_apprentice.storage.forgotten import REMOVED, reduced_to
from hermes_apprentice.storage.patterns import PatternStore
from hermes_apprentice.validator.regression import Contender

RUN = "run"
"""Entry in the recipe of a signed manifest that names the run it came from."""

IMPORTED_FROM = "imported_from"
"""The entry that names the key, name, version and digest it had on the machine it came from."""


def dataset_of(shop: Workshop, manifest: Manifest) -> Dataset:
    """Return the dataset that a version was trained and judged on.

    Raises:
        DatasetError: It is gone, or is neither what the signed manifest names nor what that
            became when sessions were forgotten.
    """
    run = dict(manifest.recipe).get(RUN, "")
    with shop.database.transaction() as connection:
        reduced = reduced_to(connection, manifest.dataset)
    if reduced == REMOVED:
        raise DatasetError(
            f"The dataset of '{manifest.slug}' version {manifest.version} was removed, because "
            "the sessions it came from were forgotten."
        )
    dataset = read_dataset(shop.run_dir(run) / "dataset")
    if dataset.digest not in (manifest.dataset, reduced):
        raise DatasetError(
            f"The dataset of '{manifest.slug}' version {manifest.version} is not the one that it "
            "was trained on."
        )
    return dataset


def is_imported(manifest: Manifest) -> bool:
    """Whether a version was trained on another machine, where its dataset stayed."""
    return IMPORTED_FROM in dict(manifest.recipe)


def tested(shop: Workshop, slug: str, version: int) -> list[Dataset]:
    """Return the dataset of a version, whose test split stays a test.

    None of an imported version, and none where all of it was forgotten.

    Raises:
        ApprenticeError: The version is damaged, or its dataset is gone or changed.
    """
    manifest = shop.registry.open_version(slug, version).manifest
    with shop.database.transaction() as connection:
        forgotten = reduced_to(connection, manifest.dataset) == REMOVED
    return [] if forgotten or is_imported(manifest) else [dataset_of(shop, manifest)]


@contextmanager
def contender(shop: Workshop, slug: str, version: int) -> Iterator[Contender]:
    """Open a registered version, to be compared with another on what it was tested on.

    Raises:
        ApprenticeError: The version or its dataset is damaged or gone.
    """
    registered = shop.registry.open_version(slug, version)
    manifest = registered.manifest
    dataset = dataset_of(shop, manifest)
    run = shop.run_dir(dict(manifest.recipe)[RUN])
    with (
        registered.checkout() as folder,
        open_for_gate(shop, manifest.kind, folder, dataset) as judged,
    ):
        yield Contender(
            name=slug,
            dataset=dataset,
            answer_many=judged.answer_many,
            out_of_fold=run / str(manifest.kind) / "out_of_fold.jsonl",
            threshold=manifest.verdict.threshold,
        )


def lessons(shop: Workshop, *pattern_ids: str) -> list[Exchange]:
    """Return the exchanges of patterns that the upstream answered, oldest first.

    What a specialist answered teaches nothing: it would learn its own mistakes. Where it was
    audited, the upstream's answer stands in its place. That the user turned the specialist's
    answer down says nothing about another answer, and as much about an equal one.
    """
    with shop.database.transaction() as connection:
        store = PatternStore(connection)
        ids = [name for pattern_id in pattern_ids for name in store.members(pattern_id)]
        own = {name for pattern_id in pattern_ids for name in store.answered_here(pattern_id)}
        audited: dict[str, AuditedAnswer] = {}
        for pattern_id in pattern_ids:
            audited |= audited_members(connection, pattern_id)
    wanted = [name for name in ids if name not in own or name in audited]
    found = [
        _as_audited(one, audited[one.exchange_id]) if one.exchange_id in own else one
        for one in ExchangeStore(shop.database).by_ids(wanted)
    ]
    return sorted(found, key=lambda one: (one.asked_at, one.exchange_id))


def _as_audited(exchange: Exchange, audited: AuditedAnswer) -> Exchange:
    same = exchange.answer.strip() == audited.answer.strip()
    return replace(
        exchange,
        answer=audited.answer,
        model=f"{audited.model} (audit)",
        corrected=exchange.corrected and same,
    )
