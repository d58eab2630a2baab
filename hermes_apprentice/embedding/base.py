"""What the rest of the product may ask of an embedder.

Knows nothing about which network runs underneath.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One text, seen by the embedder."""

    embedding: FloatArray
    """The sentence embedding, shape ``(dimension,)``, of unit length."""

    tokens: tuple[str, ...]
    """Word pieces without the special tokens; continuation pieces start with ``##``."""

    offsets: NDArray[np.int32]
    """Start and end of each token in the text, in characters, shape ``(tokens, 2)``."""

    states: FloatArray
    """Hidden states of several layers side by side, shape ``(tokens, state_dimension)``.

    Which layers is part of what the embedder's digest names: 2, 4 and 6 of a network of six.
    """


class Embedder(Protocol):
    """Turns texts into vectors. Everything learned from one names its ``digest``."""

    @property
    def name(self) -> str:
        """The model's name, such as ``all-MiniLM-L6-v2``."""
        ...

    @property
    def digest(self) -> str:
        """A sha256 of all that the vectors follow from; vectors of different digests never mix."""
        ...

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        ...

    @property
    def state_dimension(self) -> int:
        """Length of the token states of one token."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return unit-length embeddings, shape ``(len(texts), dimension)``."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return embeddings and token states, one ``Encoding`` per text."""
        ...
