"""Write a BERT encoder as an ONNX graph, from a mapping of plain arrays.

Needs `onnx` and `numpy` only. Knows nothing about files of weights, tokenizers
or sessions: named arrays go in, a graph file comes out. An encoder that was
fine-tuned elsewhere is written by the same function, its heads included.

The network is BERT as in Devlin et al. (2019), post-norm, with the exact
(erf) GELU. Three things are folded while writing, so that the graph has less
to do: the embedding of token type 0 into the table of positions, the query,
key and value projections into one product, and the attention's
``1 / sqrt(head size)`` into the query projection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.errors import ModelStoreError

RECIPE = "bert-1"
"""Version of this writer: raised whenever the numbers coming out of a graph may change."""

HEAD_PREFIX = "head/"
"""Nodes whose names start so belong to a head; quantisation leaves them in float."""

_OPSET = 17
_IR_VERSION = 8
_MASKED = -10000.0
"""Added to the attention scores of padding: ``exp`` of it is 0 in float32."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A linear layer on top of the encoder, with an output of its own."""

    name: str
    """Name of the graph's output."""

    weight: NDArray[np.float32]
    """Shape ``(labels, hidden)``, the way torch's ``Linear`` stores it."""

    bias: NDArray[np.float32]
    """Shape ``(labels,)``."""

    input: Literal["tokens", "pooled"]
    """``tokens``: each token's last state. ``pooled``: the pooled vector before normalisation."""


def write_encoder(
    tensors: Tensors,
    config: EncoderConfig,
    path: Path,
    heads: Sequence[Head] = (),
    outputs: Sequence[str] = ("embedding", "states"),
) -> None:
    """Write the graph of an encoder to ``path``.

    Inputs, both int64 of shape ``(batch, seq)``: ``input_ids`` and
    ``attention_mask`` (1 for a token, 0 for padding). Outputs, float32:

    - ``embedding``, ``(batch, hidden)``: pooled and of unit length;
    - ``states``, ``(batch, seq, hidden * len(state_layers))``;
    - one per head, ``(batch, seq, labels)`` or ``(batch, labels)``.

    Args:
        tensors: Arrays under their BERT names, of any float type.
        config: The encoder's form.
        path: The file to write.
        heads: Linear layers to add.
        outputs: Which of ``embedding`` and ``states`` the graph gives; heads always are.

    Raises:
        ModelStoreError: An array is missing or its shape does not fit.
    """
    import onnx

    model = _Writer(tensors, config).model(heads, outputs)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


@dataclass
class _Writer:
    """Collects the nodes and constants of one graph."""

    tensors: Tensors
    config: EncoderConfig
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def model(self, heads: Sequence[Head], outputs: Sequence[str]) -> Any:
        from onnx import TensorProto, helper, numpy_helper

        config = self.config
        states = [self._embeddings()]
        self.hidden = self._table("embeddings.word_embeddings").shape[1]
        if self.hidden % config.heads:
            raise ModelStoreError(
                f"a hidden size of {self.hidden} does not divide into {config.heads} heads"
            )
        for layer in config.state_layers:
            if not 1 <= layer <= config.layers:
                raise ModelStoreError(f"an encoder of {config.layers} layers has no layer {layer}")
        bias = self._mask_bias()
        for layer in range(config.layers):
            states.append(self._layer(layer, states[-1], bias))
        pooled = self._pooled(states[-1])

        shapes: dict[str, list[str | int]] = {}
        if "embedding" in outputs:
            self._node("LpNormalization", [pooled], "embedding", axis=-1, p=2)
            shapes["embedding"] = ["batch", self.hidden]
        if "states" in outputs:
            chosen = [states[layer] for layer in config.state_layers]
            self._node("Concat", chosen, "states", axis=-1)
            shapes["states"] = ["batch", "seq", self.hidden * len(chosen)]
        for head in heads:
            self._head(head, states[-1] if head.input == "tokens" else pooled)
            lead: list[str | int] = ["batch", "seq"] if head.input == "tokens" else ["batch"]
            shapes[head.name] = [*lead, int(head.weight.shape[0])]

        graph = helper.make_graph(
            self.nodes,
            "encoder",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
                for name in ("input_ids", "attention_mask")
            ],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in shapes.items()
            ],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(
            graph,
            producer_name="hermes-apprentice",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )

    # -- parts of the network -------------------------------------------------

    def _embeddings(self) -> str:
        positions = self._table("embeddings.position_embeddings")
        types = self._table("embeddings.token_type_embeddings")
        words = self._const("words", self._table("embeddings.word_embeddings"))
        table = self._const("positions", positions + types[0])
        shape = self._node("Shape", ["input_ids"], "shape", start=1, end=2)
        zero = self._const("zero", np.zeros(1, np.int64))
        places = self._node("Slice", [table, zero, shape, zero], "places")
        found = self._node("Gather", [words, "input_ids"], "found")
        total = self._node("Add", [found, places], "embedded")
        return self._norm(total, "embeddings.LayerNorm", "layer0")

    def _mask_bias(self) -> str:
        """Return scores to add before the softmax, shape ``(batch, 1, 1, seq)``."""
        mask = self._cast("attention_mask", "mask")
        axes = self._const("axes12", np.array([1, 2], np.int64))
        wide = self._node("Unsqueeze", [mask, axes], "mask_wide")
        one = self._const("one", np.ones((), np.float32))
        hidden = self._node("Sub", [one, wide], "mask_hidden")
        low = self._const("low", np.array(_MASKED, np.float32))
        return self._node("Mul", [hidden, low], "mask_bias")

    def _layer(self, index: int, state: str, bias: str) -> str:
        name = f"encoder.layer.{index}"
        at = f"layer{index + 1}"
        heads, size = self.config.heads, self.hidden // self.config.heads
        weights, biases = [], []
        for part, scale in (("query", 1 / math.sqrt(size)), ("key", 1.0), ("value", 1.0)):
            weight, offset = self._linear(f"{name}.attention.self.{part}")
            weights.append(weight * np.float32(scale))
            biases.append(offset * np.float32(scale))
        joint = self._product(
            state, np.concatenate(weights, axis=1), np.concatenate(biases), f"{at}/qkv"
        )
        form = self._const("qkv_form", np.array([0, 0, 3 * heads, size], np.int64))
        split = self._node("Reshape", [joint, form], f"{at}/split")
        turned = self._node("Transpose", [split], f"{at}/turned", perm=[0, 2, 1, 3])
        query, key, value = (f"{at}/{part}" for part in ("query", "key", "value"))
        self._node("Split", [turned], [query, key, value], axis=1, name=f"{at}/parts")
        flipped = self._node("Transpose", [key], f"{at}/flipped", perm=[0, 1, 3, 2])
        scores = self._node("MatMul", [query, flipped], f"{at}/scores")
        masked = self._node("Add", [scores, bias], f"{at}/masked")
        shares = self._node("Softmax", [masked], f"{at}/shares", axis=-1)
        mixed = self._node("MatMul", [shares, value], f"{at}/mixed")
        back = self._node("Transpose", [mixed], f"{at}/back", perm=[0, 2, 1, 3])
        flat = self._const("flat", np.array([0, 0, self.hidden], np.int64))
        merged = self._node("Reshape", [back, flat], f"{at}/merged")
        attended = self._product(
            merged, *self._linear(f"{name}.attention.output.dense"), f"{at}/attended"
        )
        total = self._node("Add", [attended, state], f"{at}/attention_sum")
        middle = self._norm(total, f"{name}.attention.output.LayerNorm", f"{at}/middle")
        wide = self._product(middle, *self._linear(f"{name}.intermediate.dense"), f"{at}/wide")
        active = self._gelu(wide, at)
        narrow = self._product(active, *self._linear(f"{name}.output.dense"), f"{at}/narrow")
        total = self._node("Add", [narrow, middle], f"{at}/sum")
        return self._norm(total, f"{name}.output.LayerNorm", at)

    def _pooled(self, state: str) -> str:
        if self.config.pooling == "cls":
            first = self._const("first", np.zeros((), np.int64))
            return self._node("Gather", [state, first], "pooled", axis=1)
        last = self._const("axes2", np.array([2], np.int64))
        mask = self._node("Unsqueeze", ["mask", last], "mask_tall")
        kept = self._node("Mul", [state, mask], "kept")
        middle = self._const("axes1", np.array([1], np.int64))
        total = self._node("ReduceSum", [kept, middle], "total", keepdims=0)
        count = self._node("ReduceSum", [mask, middle], "count", keepdims=0)
        return self._node("Div", [total, count], "pooled")

    def _gelu(self, value: str, at: str) -> str:
        root = self._const("root2", np.array(math.sqrt(2), np.float32))
        one = self._const("one", np.ones((), np.float32))
        half = self._const("half", np.array(0.5, np.float32))
        scaled = self._node("Div", [value, root], f"{at}/gelu_scaled")
        curve = self._node("Erf", [scaled], f"{at}/gelu_curve")
        lifted = self._node("Add", [curve, one], f"{at}/gelu_lifted")
        product = self._node("Mul", [value, lifted], f"{at}/gelu_product")
        return self._node("Mul", [product, half], f"{at}/gelu")

    def _head(self, head: Head, source: str) -> None:
        if head.weight.ndim != 2 or head.weight.shape[1] != self.hidden:
            raise ModelStoreError(f"head {head.name!r} does not read {self.hidden} values")
        weight = self._const(f"{HEAD_PREFIX}{head.name}/weight", _float(head.weight).T)
        bias = self._const(f"{HEAD_PREFIX}{head.name}/bias", _float(head.bias))
        product = self._node("MatMul", [source, weight], f"{HEAD_PREFIX}{head.name}/product")
        self._node("Add", [product, bias], head.name, name=f"{HEAD_PREFIX}{head.name}")

    # -- small steps ----------------------------------------------------------

    def _norm(self, value: str, name: str, output: str) -> str:
        scale = self._const(f"{output}/scale", self._array(f"{name}.weight"))
        shift = self._const(f"{output}/shift", self._array(f"{name}.bias"))
        return self._node(
            "LayerNormalization",
            [value, scale, shift],
            output,
            name=f"{output}/norm",
            axis=-1,
            epsilon=self.config.layer_norm_eps,
        )

    def _product(
        self, value: str, weight: NDArray[np.float32], bias: NDArray[np.float32], output: str
    ) -> str:
        held = self._const(f"{output}/weight", weight)
        product = self._node("MatMul", [value, held], f"{output}/product")
        return self._node("Add", [product, self._const(f"{output}/bias", bias)], output)

    def _cast(self, value: str, output: str) -> str:
        from onnx import TensorProto

        return self._node("Cast", [value], output, to=TensorProto.FLOAT)

    def _node(
        self,
        kind: str,
        inputs: list[str],
        output: str | list[str],
        *,
        name: str | None = None,
        **attributes: Any,
    ) -> str:
        from onnx import helper

        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes)
        )
        return outputs[0]

    def _const(self, name: str, value: NDArray[Any]) -> str:
        self.constants.setdefault(name, np.asarray(value, order="C"))
        return name

    def _linear(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._array(f"{name}.weight").T, self._array(f"{name}.bias")

    def _table(self, name: str) -> NDArray[np.float32]:
        table = self._array(f"{name}.weight")
        if table.ndim != 2:
            raise ModelStoreError(f"the weights' {name!r} is not a table")
        return table

    def _array(self, name: str) -> NDArray[np.float32]:
        full = self.config.prefix + name
        try:
            return _float(self.tensors[full])
        except KeyError:
            raise ModelStoreError(
                f"the weights hold no array {full!r}: this is not a BERT encoder of "
                f"{self.config.layers} layers"
            ) from None


def _float(value: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(value, dtype=np.float32)
