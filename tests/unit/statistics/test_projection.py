from __future__ import annotations

import numpy as np
import pytest

from hermes_apprentice.statistics.projection import principal_directions


def unit_rows(rows: int, dimension: int, rank: int) -> np.ndarray:
    generator = np.random.default_rng(7)
    values = generator.standard_normal((rows, rank)) @ generator.standard_normal((rank, dimension))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float32)


@pytest.mark.parametrize(("rows", "dimension", "limit"), [(5, 40, 8), (60, 40, 8), (3, 2, 8)])
def test_directions_are_orthonormal_and_no_more_than_allowed(
    rows: int, dimension: int, limit: int
) -> None:
    found = principal_directions(
        unit_rows(rows, dimension, dimension), limit, np.random.default_rng(1)
    )
    assert found.shape == (dimension, min(rows, dimension, limit))
    assert np.allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-4)


def test_nothing_is_lost_where_the_rows_span_no_more_directions() -> None:
    rows = unit_rows(200, 64, 12)
    found = principal_directions(rows, 12, np.random.default_rng(1))
    short = rows @ found
    assert np.allclose(short @ short.T, rows @ rows.T, atol=1e-4)


def test_it_finds_what_a_full_decomposition_finds() -> None:
    rows = unit_rows(300, 64, 64) * np.linspace(1, 0.05, 64, dtype=np.float32)
    found = principal_directions(rows, 8, np.random.default_rng(1))
    kept = float(((rows @ found) ** 2).sum())
    values = np.linalg.svd(rows, compute_uv=False)
    assert kept > 0.99 * float((values[:8] ** 2).sum())
