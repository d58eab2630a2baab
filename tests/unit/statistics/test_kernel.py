from __future__ import annotations

import numpy as np

from hermes_apprentice.statistics import kernel


def _data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    vectors = generator.standard_normal((40, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, generator.random((40, 3))


def test_closed_form_leave_one_out_equals_fitting_again() -> None:
    vectors, targets = _data()
    fitted = kernel.fit(kernel.gram(vectors, vectors, 1.0), targets, 0.1)
    fast = kernel.without_self(fitted, targets)
    for row in (0, 17, 39):
        rest = np.delete(np.arange(40), row)
        again = kernel.fit(kernel.gram(vectors[rest], vectors[rest], 1.0), targets[rest], 0.1)
        slow = kernel.gram(vectors[[row]], vectors[rest], 1.0) @ again.weights
        np.testing.assert_allclose(fast[row], slow[0], atol=1e-9)


def test_closed_form_leave_block_out_equals_fitting_again() -> None:
    vectors, targets = _data()
    fitted = kernel.fit(kernel.gram(vectors, vectors, 1.0), targets, 0.1)
    blocks = np.array([[3, 30, 8, 21], [38, 0, 5, 19]])
    fast = kernel.without_block(fitted, targets, blocks)
    for block, found in zip(blocks, fast, strict=True):
        rest = np.delete(np.arange(40), block)
        again = kernel.fit(kernel.gram(vectors[rest], vectors[rest], 1.0), targets[rest], 0.1)
        slow = kernel.gram(vectors[block[:1]], vectors[rest], 1.0) @ again.weights
        np.testing.assert_allclose(found, slow[0], atol=1e-9)


def test_rows_that_count_more_are_left_out_as_exactly() -> None:
    vectors, targets = _data()
    ridges = np.where(np.arange(40) < 10, 0.02, 0.1)
    fitted = kernel.fit(kernel.gram(vectors, vectors, 1.0), targets, ridges)
    alone = kernel.without_self(fitted, targets)
    together = kernel.without_block(fitted, targets, np.array([[3, 30, 8, 21]]))
    for left, found in (([3], alone[3]), ([3, 30, 8, 21], together[0])):
        rest = np.delete(np.arange(40), left)
        gram = kernel.gram(vectors[rest], vectors[rest], 1.0)
        again = kernel.fit(gram, targets[rest], ridges[rest])
        slow = kernel.gram(vectors[[3]], vectors[rest], 1.0) @ again.weights
        np.testing.assert_allclose(found, slow[0], atol=1e-9)


def test_many_blocks_are_left_out_as_few_are() -> None:
    vectors, targets = _data()
    fitted = kernel.fit(kernel.gram(vectors, vectors, 1.0), targets, 0.1)
    blocks = np.random.default_rng(1).permuted(np.tile(np.arange(40), (300, 1)), axis=1)[:, :5]
    many = kernel.without_block(fitted, targets, blocks)
    few = [kernel.without_block(fitted, targets, blocks[[row]])[0] for row in range(300)]
    np.testing.assert_allclose(many, np.stack(few), atol=1e-9)


def test_refitting_from_the_spectrum_equals_fitting() -> None:
    vectors, targets = _data()
    parts = kernel.spectrum(kernel.gram(vectors, vectors, 2.0))
    direct = kernel.fit(kernel.gram(vectors, vectors, 2.0), targets, 0.3)
    again = kernel.refit(parts, targets, 0.3)
    np.testing.assert_allclose(again.weights, direct.weights, atol=1e-9)
    np.testing.assert_allclose(np.tril(again.inverse), np.tril(direct.inverse), atol=1e-9)
