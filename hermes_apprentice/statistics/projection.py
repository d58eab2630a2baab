"""Shorter vectors with nearly the same inner products.

The leading right singular vectors of a matrix, found by a randomised range finder with power
iterations (Halko, Martinsson and Tropp, "Finding structure with randomness", 2011).

Knows nothing about what the rows are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_OVERSAMPLING = 16
_ITERATIONS = 4

Vectors = NDArray[np.float32]


def principal_directions(vectors: Vectors, limit: int, generator: np.random.Generator) -> Vectors:
    """Return at most ``limit`` orthonormal directions, shape ``(dimension, directions)``.

    With no more rows than ``limit`` they span all rows, so that inner products with a row are
    kept exactly.
    """
    rows, dimension = vectors.shape
    size = min(limit, rows, dimension)
    width = min(size + _OVERSAMPLING, rows, dimension)
    basis = vectors.T @ generator.standard_normal((rows, width)).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(basis)
        basis = vectors.T @ (vectors @ basis)
    basis, _ = np.linalg.qr(basis)
    _, _, right = np.linalg.svd(vectors @ basis, full_matrices=False)
    return np.ascontiguousarray(basis @ right[:size].T, dtype=np.float32)
