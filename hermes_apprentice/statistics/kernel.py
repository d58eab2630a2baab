"""Kernel ridge regression with every held-out prediction in closed form.

The kernel is Gaussian on unit vectors, ``exp(-bandwidth * |x - y|**2)``. Leaving rows out needs no
second fit: the residuals of a left-out block are its dual weights multiplied by the inverse of
the block's part of the inverse kernel; for a single row that is a division (Rifkin and Lippert,
"Notes on regularized least squares", 2007).

Knows nothing about patterns or thresholds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 128
"""Blocks that are left out at once; of 100 rows each they take some 40 MB."""

Matrix = NDArray[np.float64]


class Ridge(NamedTuple):
    """A fitted ridge."""

    weights: Matrix
    """Dual weights, shape ``(rows, targets)``."""

    inverse: Matrix
    """Inverse of kernel plus ridge; only its lower triangle is filled in."""


class Spectrum(NamedTuple):
    """A kernel matrix taken apart once, so that many ridges can be tried."""

    values: Matrix
    """Eigenvalues."""

    vectors: Matrix
    """Eigenvectors, one per column."""


def gram(left: NDArray[np.floating], right: NDArray[np.floating], bandwidth: float) -> Matrix:
    """Return the kernel between unit vectors, shape ``(left, right)``."""
    cosine = np.asarray(left @ right.T, dtype=np.float64)
    np.minimum(cosine, 1.0, out=cosine)
    cosine -= 1.0
    cosine *= 2.0 * bandwidth
    return np.exp(cosine, out=cosine)


def self_gram(vectors: NDArray[np.floating], bandwidth: float) -> Matrix:
    """Return the kernel of vectors with themselves; each is at no distance from itself.

    For shortened unit vectors this is the kernel of unit vectors whose missing parts are
    orthogonal to each other: what the short form does not show counts as a difference.
    """
    values = gram(vectors, vectors, bandwidth)
    np.fill_diagonal(values, 1.0)
    return values


def fit(kernel: Matrix, targets: Matrix, ridge: float | Matrix) -> Ridge:
    """Solve ``(kernel + ridge) weights = targets``; ``kernel`` is overwritten.

    In place, so that the peak memory is about one kernel matrix.

    Args:
        kernel: Of the rows with themselves.
        targets: Shape ``(rows, targets)``.
        ridge: On the diagonal, one for all rows or one for each: half of it weighs a row's error
            twice. Leaving rows out stays exact.
    """
    from scipy import linalg

    kernel[np.diag_indices_from(kernel)] += ridge
    factor, _ = linalg.cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = linalg.cho_solve((factor, True), targets, check_finite=False)
    inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    return Ridge(weights, inverse)


def spectrum(kernel: Matrix) -> Spectrum:
    """Take a kernel matrix apart; ``kernel`` is overwritten."""
    from scipy import linalg

    return Spectrum(*linalg.eigh(kernel, overwrite_a=True, check_finite=False))


def refit(parts: Spectrum, targets: Matrix, ridge: float) -> Ridge:
    """Solve for another ridge."""
    shrunk = parts.vectors / (np.maximum(parts.values, 0.0) + ridge)
    inverse = shrunk @ parts.vectors.T
    return Ridge(inverse @ targets, inverse)


def without_self(fitted: Ridge, targets: Matrix) -> Matrix:
    """Return what would be predicted for each row had it been left out."""
    residuals = fitted.weights / np.diag(fitted.inverse)[:, None]
    return np.asarray(targets - residuals, dtype=np.float64)


def without_block(fitted: Ridge, targets: Matrix, blocks: NDArray[np.intp]) -> Matrix:
    """Return what would be predicted for the first row of each block, the block left out.

    Args:
        fitted: The ridge on all rows.
        targets: Its targets.
        blocks: Row indices, shape ``(blocks, size)``; blocks may overlap.
    """
    if not blocks.size:
        return np.empty((0, targets.shape[1]))
    found = np.empty((len(blocks), targets.shape[1]))
    for start in range(0, len(blocks), _AT_ONCE):
        some = blocks[start : start + _AT_ONCE]
        down = np.maximum(some[:, :, None], some[:, None, :])
        across = np.minimum(some[:, :, None], some[:, None, :])
        residuals = np.linalg.solve(fitted.inverse[down, across], fitted.weights[some])
        found[start : start + _AT_ONCE] = targets[some[:, 0]] - residuals[:, 0]
    return found
