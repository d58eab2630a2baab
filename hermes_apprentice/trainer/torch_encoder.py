"""A BERT encoder in torch, so that its upper layers can be trained.

The same network as `embedding.graph` writes. The lower layers stay as they are:
what they say of a text is computed once. Imported only in the training environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensors = Mapping[str, torch.Tensor]

_LINEAR = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
}
_NORM = {"middle": "attention.output.LayerNorm", "end": "output.LayerNorm"}


class Layer(nn.Module):  # type: ignore[misc]
    """One transformer layer, post-norm."""

    def __init__(
        self, tensors: Tensors, name: str, heads: int, epsilon: float, dropout: float
    ) -> None:
        """Copy the layer called ``name`` from BERT's tensors."""
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        for ours, theirs in _LINEAR.items():
            weight = tensors[f"{name}.{theirs}.weight"].float()
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            _copy(linear, tensors, f"{name}.{theirs}")
            setattr(self, ours, linear)
        for ours, theirs in _NORM.items():
            norm = nn.LayerNorm(tensors[f"{name}.{theirs}.weight"].shape[0], eps=epsilon)
            _copy(norm, tensors, f"{name}.{theirs}")
            setattr(self, ours, norm)

    def forward(self, states: Any, mask: Any) -> Any:
        """Return the next states, ``(texts, pieces, hidden)``; ``mask`` is added to scores."""
        texts, pieces, hidden = states.shape
        shape = (texts, pieces, self.heads, hidden // self.heads)
        query, key, value = (
            linear(states).view(shape).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        rate = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate
        )
        mixed = self.mixed(mixed.transpose(1, 2).reshape(states.shape))
        states = self.middle(states + functional.dropout(mixed, rate))
        narrow = self.narrow(functional.gelu(self.wide(states)))
        return self.end(states + functional.dropout(narrow, rate))

    def to_tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Return the weights under BERT's names."""
        found = {}
        for ours, theirs in (_LINEAR | _NORM).items():
            part = getattr(self, ours)
            found[f"{name}.{theirs}.weight"] = part.weight.detach().contiguous()
            found[f"{name}.{theirs}.bias"] = part.bias.detach().contiguous()
        return found


class Tagger(nn.Module):  # type: ignore[misc]
    """The upper layers of an encoder with one linear layer per track."""

    def __init__(
        self,
        tensors: Tensors,
        layers: Sequence[int],
        heads: int,
        epsilon: float,
        tracks: Sequence[int],
        dropout: float,
    ) -> None:
        """Copy the layers numbered ``layers``; the new linear layers start near zero."""
        super().__init__()
        self.numbers = list(layers)
        self.layers = nn.ModuleList(
            [Layer(tensors, layer_name(number), heads, epsilon, dropout) for number in layers]
        )
        hidden = tensors[_WORDS].shape[1]
        self.dropout = nn.Dropout(dropout)
        self.outputs = nn.ModuleList([nn.Linear(hidden, size) for size in tracks])
        for output in self.outputs:
            nn.init.normal_(output.weight, std=0.02)
            nn.init.zeros_(output.bias)

    def forward(self, states: Any, mask: Any) -> list[Any]:
        """Return every piece's label scores, per track."""
        for layer in self.layers:
            states = layer(states, mask)
        states = self.dropout(states)
        return [output(states) for output in self.outputs]


class Bottom:
    """Everything below the trained layers."""

    def __init__(self, tensors: Tensors, layers: int, heads: int, epsilon: float) -> None:
        """Copy the embeddings and the lowest ``layers`` layers."""
        self._words = tensors[_WORDS].float()
        places = tensors["embeddings.position_embeddings.weight"].float()
        self._places = places + tensors["embeddings.token_type_embeddings.weight"][0].float()
        self._norm = nn.LayerNorm(self._words.shape[1], eps=epsilon)
        _copy(self._norm, tensors, "embeddings.LayerNorm")
        self._layers = [
            Layer(tensors, layer_name(number), heads, epsilon, 0.0).eval()
            for number in range(layers)
        ]

    def states(self, ids: Sequence[int]) -> torch.Tensor:
        """Return the states of one window of pieces, shape ``(pieces, hidden)``."""
        with torch.no_grad():
            states = self._norm(self._words[list(ids)] + self._places[: len(ids)])[None]
            for layer in self._layers:
                states = layer(states, None)
        return states[0]


def layer_name(number: int) -> str:
    """Return BERT's name of a layer, counted from 0."""
    return f"encoder.layer.{number}"


_WORDS = "embeddings.word_embeddings.weight"


def _copy(part: Any, tensors: Tensors, name: str) -> None:
    with torch.no_grad():
        part.weight.copy_(tensors[f"{name}.weight"])
        part.bias.copy_(tensors[f"{name}.bias"])
