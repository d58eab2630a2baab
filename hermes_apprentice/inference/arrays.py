"""Groups of arrays in one file, without pickle.

Knows nothing about what the arrays are for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.mapped import mapped

Arrays = Mapping[str, NDArray[Any]]


def write_groups(path: Path, groups: Mapping[str, Arrays]) -> None:
    """Write named groups of arrays to one uncompressed ``.npz`` file."""
    flat = {
        f"{group}/{name}": array
        for group, arrays in groups.items()
        for name, array in arrays.items()
    }
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **flat)


def read_groups(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what `write_groups` wrote; large arrays are read-only, see `mapped`.

    Raises:
        ArtefactError: The file is missing, cut short, or of another kind.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        # Opened here, for numpy leaves a file open that turns out to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {flat: stored[flat] for flat in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as exc:
        raise ArtefactError(f"{path.name} cannot be read; train the specialist again") from exc
    for flat, array in mapped(arrays).items():
        group, _, name = flat.rpartition("/")
        groups.setdefault(group, {})[name] = array
    return groups


def pack_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return names without line breaks as one array of bytes."""
    return np.frombuffer("\n".join(names).encode("utf-8", "surrogatepass"), np.uint8)


def unpack_names(packed: NDArray[Any]) -> tuple[str, ...]:
    """Return what `pack_names` packed.

    Raises:
        ArtefactError: The bytes are no names.
    """
    try:
        text = packed.astype(np.uint8).tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as exc:
        raise ArtefactError() from exc
    return tuple(text.split("\n")) if text else ()


def in_order(rows: Mapping[str, int]) -> list[str]:
    """Return the names of a vocabulary by row."""
    return sorted(rows, key=rows.__getitem__)
