"""Find examples in the folders of training runs, and take them out.

Every function may be interrupted and called again: a run is told by its dataset, which
changes last. Knows nothing about sessions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from hermes_apprentice.dataset.reader import read_dataset
from hermes_apprentice.dataset.reducing import ids_in, reduce_dataset, write_reduced
from hermes_apprentice.errors import DatasetError, StorageError
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.storage.forgotten import REMOVED, remember_reduction

DATASET = "dataset"
PREDICTIONS = "out_of_fold.jsonl"
REPORT = "verdict.md"

_WITHOUT_WORDS = (
    "verdict.json",
    "result.json",
    "risk_coverage.json",
    "risk_coverage.svg",
    "served_by",
)
"""Files of a run that hold figures only."""

_EXAMPLES_BEGIN = "\n## Disagreements\n"
"""Where a report begins to show examples."""

_LEAVING = ".leaving-"


def traces_in(runs: Path, ids: Collection[str]) -> dict[str, int]:
    """Return the runs whose dataset holds some of the examples, and how many."""
    wanted = set(ids)
    if not wanted or not runs.is_dir():
        return {}
    found = {
        folder.name: len(wanted & ids_in(folder / DATASET))
        for folder in sorted(runs.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    return {run: count for run, count in found.items() if count}


def settle_folders(runs: Path) -> None:
    """End what an interrupted process left in the folders of runs; none may be at work.

    Raises:
        StorageError: The disk refused.
    """
    if not runs.is_dir():
        return
    try:
        for path in runs.glob(f"{_LEAVING}*"):
            shutil.rmtree(path)
        for run in runs.iterdir():
            if run.is_dir() and not run.is_symlink():
                _settle(run)
    except OSError as error:
        raise StorageError(f"{runs} could not be tidied: {error}") from error


def _settle(run: Path) -> None:
    if not (run / DATASET).exists():
        for old in run.glob(f".{DATASET}.old.*/{DATASET}"):
            os.replace(old, run / DATASET)  # it was being replaced
            break
    for path in (run, *(inner for inner in run.iterdir() if inner.is_dir())):
        for hidden in path.glob(".*"):
            if hidden.is_dir() and not hidden.is_symlink():
                shutil.rmtree(hidden)
            else:
                hidden.unlink()


def set_aside(run: Path) -> None:
    """Remove the folder of a run as a whole.

    Raises:
        StorageError: The disk refused.
    """
    leaving = run.with_name(f"{_LEAVING}{run.name}")
    try:
        os.replace(run, leaving)
        shutil.rmtree(leaving)
    except OSError as error:
        raise StorageError(f"{run} could not be removed: {error}") from error


def prune(run: Path, without: Collection[str], database: Database) -> None:
    """Take examples out of a run that a version was made by, and what was made of them.

    What stays: the dataset without them, the predictions for the others, figures, and the
    report without its examples. Where nothing is left to learn from, the dataset goes.

    Args:
        run: The folder.
        without: Ids of the examples.
        database: Learns what the dataset became before it does.

    Raises:
        StorageError: The disk refused; may be called again.
    """
    try:
        for path in sorted(run.iterdir()):
            if path.name == DATASET:
                continue
            if path.is_dir() and not path.is_symlink():
                _prune_output(path, without)
            else:
                path.unlink()
        _reduce(run / DATASET, without, database)
    except OSError as error:
        raise StorageError(f"{run} could not be changed: {error}") from error


def _prune_output(folder: Path, without: Collection[str]) -> None:
    for path in sorted(folder.iterdir()):
        if path.name == PREDICTIONS:
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if _id_of(line) not in without]
            write_atomically(path, b"".join(kept))
        elif path.name == REPORT:
            text, examples, _ = path.read_text(encoding="utf-8").partition(_EXAMPLES_BEGIN)
            if examples:
                text += f"{examples}\nNot shown any more, since sessions were forgotten.\n"
                write_atomically(path, text.encode())
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in _WITHOUT_WORDS:
            path.unlink()


def _id_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["example_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _reduce(folder: Path, without: Collection[str], database: Database) -> None:
    try:
        before = read_dataset(folder).digest
        reduced = reduce_dataset(folder, without)
    except DatasetError:
        _drop(folder)  # damaged, so that nothing reads it either
        return
    with database.transaction() as connection:
        remember_reduction(connection, before, reduced.after if reduced else REMOVED)
    if reduced is None:
        _drop(folder)
    else:
        write_reduced(folder, reduced)


def _drop(folder: Path) -> None:
    leaving = folder.with_name(f"{_LEAVING}{folder.name}")
    os.replace(folder, leaving)
    shutil.rmtree(leaving)
