"""Arrays in read-only memory that the system may drop and read again.

Weights are laid out, as they are computed with, in a file of their own that has no name. So what
was verified before stays what is computed with, whatever happens to the files that it came from
(a mapping of those would change with them). Its pages count as cached file: what is not used is
given up when memory is short, and read again when it is needed (unless temporary files lie in
memory themselves). Only whoever may write this process' memory could change it. Knows nothing about
what the arrays are for.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 16_384
"""Arrays smaller than this stay where they are."""

_ALIGNMENT = 64


def mapped(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the same arrays: halves as single floats, large floats read-only in a mapping.

    Where there is no room for a file, they stay in memory.
    """
    wide = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in arrays.items()
    }
    large = {
        name: array
        for name, array in wide.items()
        if array.dtype.kind == "f" and array.nbytes >= LEAST_BYTES
    }
    places: dict[str, int] = {}
    end = 0
    for name, array in large.items():
        places[name] = end
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    if not end:
        return wide
    try:
        # On Linux it never has a name; elsewhere it loses it before the first byte is written.
        with tempfile.TemporaryFile(prefix="apprentice-") as file:
            for name, array in large.items():
                file.seek(places[name])
                file.write(_by_rows(array).tobytes())
            file.truncate(end)
            file.flush()
            pages = mmap.mmap(file.fileno(), end, access=mmap.ACCESS_READ)
    except OSError:
        return wide
    return wide | {name: _view(pages, places[name], array) for name, array in large.items()}


def _by_rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, or what it is the transposed of: products depend on how it lies."""
    return array.T if _by_columns(array) else array


def _by_columns(array: NDArray[Any]) -> bool:
    return array.flags.f_contiguous and not array.flags.c_contiguous


def _view(pages: mmap.mmap, place: int, array: NDArray[Any]) -> NDArray[Any]:
    shape = _by_rows(array).shape
    found = np.frombuffer(pages, array.dtype, array.size, place).reshape(shape)
    return found.T if _by_columns(array) else found
