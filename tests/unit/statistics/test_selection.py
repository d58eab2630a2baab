"""Which rows of a class stand for the same request."""

from __future__ import annotations

import numpy as np

from hermes_apprentice.statistics.risk_control import BACKGROUND
from hermes_apprentice.statistics.selection import near_copies


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_near_copies_are_left_out_with_a_row_and_nothing_else_is() -> None:
    generator = np.random.default_rng(1)
    contents = generator.standard_normal((12, 64))
    rows = unit(np.repeat(contents, 3, axis=0) + 0.1 * generator.standard_normal((36, 64)))
    other = unit(contents[:4] + 0.1 * generator.standard_normal((4, 64)))
    labels = np.repeat([BACKGROUND, 0], [4, 36])
    blocks = near_copies(np.vstack([other, rows]), labels, 0)
    assert [int(block[0]) for block in blocks] == list(range(4, 40))
    assert all(
        {(int(row) - 4) // 3 for row in block} == {place // 3} for place, block in enumerate(blocks)
    )
    assert all(len(block) == 3 for block in blocks)


def test_rows_that_differ_as_much_as_they_always_do_are_no_copies() -> None:
    generator = np.random.default_rng(2)
    for spread in (0.05, 1.0):
        rows = unit(generator.standard_normal(256) + spread * generator.standard_normal((40, 256)))
        assert all(len(block) == 1 for block in near_copies(rows, np.zeros(40, np.int64), 0))


def test_a_class_of_copies_alone_keeps_most_of_its_rows() -> None:
    rows = unit(np.vstack([np.ones((30, 8)), np.eye(8)[:1]]))
    blocks = near_copies(rows, np.zeros(31, np.int64), 0)
    assert max(map(len, blocks)) <= 9


def test_one_row_and_very_many_are_both_possible() -> None:
    one = near_copies(np.eye(1, 4, dtype=np.float32), np.zeros(1, np.int64), 0)
    assert [block.tolist() for block in one] == [[0]]
    rows = unit(np.random.default_rng(3).standard_normal((1_500, 16)))
    blocks = near_copies(rows, np.zeros(1_500, np.int64), 0)
    assert len(blocks) == 200
    assert max(map(len, blocks)) <= 251
