"""The vector that the matcher compares: several views of one pass through the network.

A sentence embedding says what a text is about, and blurs what tells its words apart; of a long
mail it is the mail that is seen and not what is asked about it. So three more views stand
beside it:

* the mean of each earlier layer over the first and the last tokens, where a request is
  usually put: earlier layers keep more of the words and of their order (Jawahar, Sagot and
  Seddah, "What does BERT learn about the structure of language?", 2019);
* the last layer with the first tokens weighing most, in a long text the last ones as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hermes_apprentice.embedding.base import Embedder, Encoding, FloatArray

RECIPE = "whole-layers-frame16-fade8"
"""Names this way of making vectors; those of different recipes never mix."""

_FRAME = 16
"""Tokens at either end of a text whose earlier layers are read."""
_FADE = 8.0
"""In tokens: the weight of the last layer falls to a third over so many."""
_EDGE_SHARE = 0.5
"""Weight of the view that fades; each of the others has 1."""
_TINY = 1e-9


def matching_dimension(embedder: Embedder) -> int:
    """Return the length of an embedder's matching vectors."""
    return embedder.state_dimension + embedder.dimension


def matching_vector(encoding: Encoding) -> FloatArray:
    """Return the views side by side, of unit length, shape ``(matching_dimension,)``."""
    whole = encoding.embedding
    tokens, width = encoding.states.shape
    layers = encoding.states.reshape(tokens, width // len(whole), len(whole))
    if not tokens:
        views = [whole] * (layers.shape[1] + 1)
    else:
        ends, last = layers, layers[:, -1]
        fading = np.exp(-np.arange(tokens, dtype=np.float32) / np.float32(_FADE))
        opening = _unit(fading @ last)
        if tokens > _FRAME:
            ends = np.concatenate([layers[:_FRAME], layers[-_FRAME:]])
            opening += _unit(fading @ last[::-1])
        views = [whole, *ends[:, :-1].mean(axis=0), opening]
    weights = np.array([1.0] * (len(views) - 1) + [_EDGE_SHARE], dtype=np.float32)
    scaled = np.stack([_unit(view) for view in views]) * np.sqrt(weights)[:, None]
    return _unit(scaled.reshape(-1))


def matching_vectors(encodings: Sequence[Encoding]) -> FloatArray:
    """Return one row per encoding."""
    return np.stack([matching_vector(encoding) for encoding in encodings])


def _unit(vector: FloatArray) -> FloatArray:
    length = max(float(np.linalg.norm(vector)), _TINY)
    return np.asarray(vector / length, dtype=np.float32)
