"""What a BERT encoder is, beside its weights.

Apart from the writer of graphs, so that whoever only reads the catalogue needs no numpy. Knows
nothing about files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What the arrays alone do not say about an encoder."""

    layers: int
    """Number of transformer layers."""

    heads: int
    """Attention heads per layer; the hidden size is a multiple of it."""

    pooling: Literal["mean", "cls"]
    """How token states become one vector: their mean over the mask, or the first token's."""

    state_layers: tuple[int, ...]
    """Layers (1 is the first) whose token states the graph gives, side by side."""

    layer_norm_eps: float = 1e-12
    """Added to the variance in every layer normalisation."""

    prefix: str = ""
    """What the arrays' names start with, such as ``bert.``."""
