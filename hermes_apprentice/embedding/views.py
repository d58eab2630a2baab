"""The vector that the matcher compares: a request seen whole, at its beginning and at its end.

A sentence embedding of a long mail is about the mail. What is asked of it
("extract the order", "which number should I call?") stands before or after it,
and weighs little in the mean over all tokens. Three views of the same pass
through the network keep the question visible; for texts shorter than a view
they are one and the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hermes_apprentice.embedding.base import Encoding, FloatArray

RECIPE = "whole-head16-tail16"
"""Names this way of making vectors; those of different recipes never mix."""

_TOKENS = 16
_TINY = 1e-9


def matching_vector(encoding: Encoding) -> FloatArray:
    """Return the three views side by side, of unit length, shape ``(3 * dimension,)``."""
    whole = encoding.embedding
    last_layer = encoding.states[:, -len(whole) :]
    if len(last_layer) <= _TOKENS:
        return _unit(np.concatenate([whole, whole, whole]))
    head, tail = last_layer[:_TOKENS].mean(axis=0), last_layer[-_TOKENS:].mean(axis=0)
    return _unit(np.concatenate([whole, _unit(head), _unit(tail)]))


def matching_vectors(encodings: Sequence[Encoding]) -> FloatArray:
    """Return one row per encoding."""
    return np.stack([matching_vector(encoding) for encoding in encodings])


def _unit(vector: FloatArray) -> FloatArray:
    length = max(float(np.linalg.norm(vector)), _TINY)
    return np.asarray(vector / length, dtype=np.float32)
