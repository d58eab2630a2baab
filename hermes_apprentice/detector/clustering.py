"""Group requests that ask for the same thing.

Embeddings carry the meaning, words and letter groups tell apart what an
embedder puts close together. Both are smoothed over mutual nearest neighbours,
reduced, and clustered by density. Knows nothing about answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.base import FloatArray

Labels = NDArray[np.int64]

NEIGHBOURS = 16
"""Nearest neighbours that may vouch for each other."""

SMOOTHING_ROUNDS = 2
"""How often every request moves to the mean of itself and its mutual neighbours."""

DIMENSIONS = 48
"""Dimensions that are clustered; density means little in more."""

LEAF_SIZE = 10
"""Smallest cluster that is looked for; smaller patterns have not come back often enough."""

DENSITY_NEIGHBOURS = 8
"""Neighbours that make a region dense."""

WORD_SHARE = 0.1
"""Weight of words and word pairs in the similarity."""

LETTER_SHARE = 0.1
"""Weight of letter groups in the similarity."""

LEXICAL_DIMENSIONS = 200
"""Dimensions that each lexical view is reduced to."""

LEXICAL_CHARS = 1_000
"""Characters of a request whose words are looked at; the embedder sees about as much."""

_BLOCK = 2_048
_NOISE = -1


def cluster(embeddings: FloatArray, texts: Sequence[str], min_size: int = LEAF_SIZE) -> Labels:
    """Group requests; deterministic.

    HDBSCAN (Campello, Moulavi and Sander, 2013) with leaf selection, on the
    first principal components of smoothed vectors.

    Args:
        embeddings: Unit-length rows, shape ``(n, dimension)``.
        texts: The ``n`` requests.
        min_size: Smallest group.

    Returns:
        A group number per request, from 0, and -1 for requests that are in none.
    """
    count = len(texts)
    if count < max(min_size, DENSITY_NEIGHBOURS + 1):
        return np.full(count, _NOISE, dtype=np.int64)
    vectors = smooth(views(embeddings, texts))
    return _densest(_principal(vectors), min_size)


def views(embeddings: FloatArray, texts: Sequence[str]) -> FloatArray:
    """Put embedding, words and letter groups side by side.

    The dot product of two rows is the weighted mean of their three cosines.
    """
    lexical = [
        (WORD_SHARE, _lexical(texts, analyzer="word", ngram_range=(1, 2), max_df=0.3)),
        (LETTER_SHARE, _lexical(texts, analyzer="char_wb", ngram_range=(3, 5), max_df=0.5)),
    ]
    parts = [(share, view) for share, view in lexical if view is not None]
    rest = 1.0 - sum(share for share, _ in parts)
    centred = _unit(embeddings - embeddings.mean(axis=0))
    columns = [np.sqrt(share) * view for share, view in [(rest, centred), *parts]]
    return np.hstack(columns).astype(np.float32)


def smooth(vectors: FloatArray, neighbours: int = NEIGHBOURS) -> FloatArray:
    """Move each row to the mean of itself and its mutual nearest neighbours.

    Requests of one kind come closer together; one-off requests, which nobody
    has among the nearest, stay where they are.
    """
    from scipy.sparse import csr_matrix

    count = len(vectors)
    neighbours = min(neighbours, count - 1)
    for _ in range(SMOOTHING_ROUNDS):
        nearest = _nearest(vectors, neighbours)
        rows = np.repeat(np.arange(count), neighbours)
        ones = np.ones(rows.size, dtype=np.float32)
        knows = csr_matrix((ones, (rows, nearest.ravel())), shape=(count, count))
        vectors = _unit(vectors + knows.multiply(knows.T).tocsr() @ vectors)
    return vectors


def _nearest(vectors: FloatArray, neighbours: int) -> NDArray[np.int64]:
    """Return the row numbers of each row's nearest others, shape ``(n, neighbours)``."""
    found = np.empty((len(vectors), neighbours), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ vectors.T
        own = np.arange(len(similar))
        similar[own, start + own] = -np.inf
        found[start : start + len(similar)] = np.argpartition(-similar, neighbours - 1, axis=1)[
            :, :neighbours
        ]
    return found


def _lexical(texts: Sequence[str], **options: Any) -> FloatArray | None:
    """Return unit-length rows from tf-idf weights, or ``None`` where no terms recur."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=50_000, **options)
    try:
        weights = vectorizer.fit_transform([text[:LEXICAL_CHARS] for text in texts])
    except ValueError:  # no term is left between min_df and max_df
        return None
    dimensions = min(LEXICAL_DIMENSIONS, len(texts) - 1, weights.shape[1] - 1)
    if dimensions < 2:
        return None
    reduced = TruncatedSVD(dimensions, random_state=0).fit_transform(weights)
    return _unit(reduced.astype(np.float32))


def _principal(vectors: FloatArray) -> FloatArray:
    from sklearn.decomposition import PCA

    dimensions = min(DIMENSIONS, *vectors.shape)
    reduced: FloatArray = PCA(dimensions, svd_solver="covariance_eigh").fit_transform(vectors)
    return reduced


def _densest(vectors: FloatArray, min_size: int) -> Labels:
    with warnings.catch_warnings():
        # hdbscan uses names that newer releases of scikit-learn and Python announce to drop.
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN

        labels = HDBSCAN(
            min_cluster_size=min_size,
            min_samples=DENSITY_NEIGHBOURS,
            cluster_selection_method="leaf",
            core_dist_n_jobs=1,
        ).fit_predict(vectors.astype(np.float64))
    return np.asarray(labels, dtype=np.int64)


def _unit(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
