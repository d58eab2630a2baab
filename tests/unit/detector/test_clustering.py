from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hermes_apprentice.detector.clustering import cluster, smooth, views
from hermes_apprentice.embedding.base import FloatArray


def blobs(
    sizes: list[int], scattered: int, *, spread: float = 0.5, seed: int = 0
) -> tuple[FloatArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Draw unit vectors around random centres, and some around none (-1)."""
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for number, size in enumerate(sizes):
        centre = rng.normal(size=64)
        centre /= np.linalg.norm(centre)
        rows.append(centre + spread * rng.normal(size=(size, 64)) / 8)
        truth += [number] * size
    rows.append(rng.normal(size=(scattered, 64)))
    truth += [-1] * scattered
    vectors = np.concatenate(rows)
    order = rng.permutation(len(vectors))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit[order].astype(np.float32), np.array(truth)[order]


def no_words(count: int) -> list[str]:
    """Texts without a common term, so that the vectors decide alone."""
    return [chr(0x4E00 + 2 * at) + chr(0x4E01 + 2 * at) for at in range(count)]


def test_groups_of_requests_come_out_as_clusters_and_the_rest_is_none_or_loose() -> None:
    vectors, truth = blobs([60, 40, 30, 20], 100)
    labels = cluster(vectors, no_words(len(vectors)))

    for number, size in enumerate([60, 40, 30, 20]):
        found = Counter(labels[truth == number].tolist())
        label, hits = found.most_common(1)[0]
        assert label >= 0
        assert hits >= 0.8 * size
        assert Counter(truth[labels == label].tolist())[number] >= 0.9 * (labels == label).sum()
    for label in set(labels[truth == -1].tolist()) - {-1}:
        rows = vectors[labels == label]
        centre = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
        assert float((rows @ centre).mean()) < 0.4  # so loose that it never counts as a pattern


def test_the_same_requests_give_the_same_clusters() -> None:
    vectors, _ = blobs([30, 30], 60)
    texts = [f"request number {at} about {at % 7}" for at in range(len(vectors))]

    assert (cluster(vectors, texts) == cluster(vectors.copy(), list(texts))).all()


def test_words_tell_apart_what_the_embedder_does_not() -> None:
    vectors, _ = blobs([120], 0, spread=1.5)
    half = [
        f"cancel my booking for {at}" if at % 2 else f"change the seat on {at}" for at in range(120)
    ]
    near = views(vectors, half)
    similar = near @ near.T
    same = np.equal.outer(np.arange(120) % 2, np.arange(120) % 2)

    assert similar[same].mean() > similar[~same].mean() + 0.1
    assert np.linalg.norm(near, axis=1) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 5, 9, 16])
def test_few_requests_are_no_error(count: int) -> None:
    vectors, _ = blobs([], max(count, 1))
    labels = cluster(vectors[:count], [f"text {at}" for at in range(count)])

    assert labels.shape == (count,)


def test_equal_requests_are_no_error() -> None:
    vectors = np.tile(blobs([1], 0)[0], (40, 1))

    assert cluster(vectors, ["go on"] * 40).shape == (40,)


def test_smoothing_draws_groups_together_and_leaves_loners_alone() -> None:
    vectors, truth = blobs([40], 40)
    smoothed = smooth(vectors)

    def closeness(rows: FloatArray) -> float:
        inside = rows[truth == 0]
        return float((inside @ inside.T).mean())

    assert closeness(smoothed) > closeness(vectors) + 0.1
    assert np.linalg.norm(smoothed, axis=1) == pytest.approx(1.0, abs=1e-5)
