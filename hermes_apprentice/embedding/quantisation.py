"""Turn the products of an encoder graph into int8, and its table of words too.

Knows nothing about models or stores: one graph file goes in, another comes
out. Reads the graphs that `graph.write_encoder` writes.

Weights get one scale per output channel, words one per row; activations are
quantised while running, with one scale per tensor. A few input channels of a
transformer's products are many times wider than the rest, and with one scale
per tensor they leave the rest only a few steps. These few are multiplied in
float instead, which is the decomposition of LLM.int8() (Dettmers et al.,
2022). Their places hardly depend on the text, so sequences of random words
find them: no text of anybody is needed.

Weights use 7 of the 8 bits. x86 processors without VNNI add pairs of 8-bit
products in 16 bits and clip the sum; 7 bits cannot reach that limit, so the
integer arithmetic is the same on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding.graph import HEAD_PREFIX
from hermes_apprentice.errors import ModelStoreError
from hermes_apprentice.settings import without_telemetry

RECIPE = "int8-outliers-1"
"""Version of this quantiser: raised whenever the numbers coming out of a graph may change."""

_WIDE_CHANNELS = 8
_WIDE_FACTOR = 3.0
_PROBE_LENGTHS = (8, 16, 30) * 8
_PROBE_SEED = 20
_STEPS = 64
"""Largest weight: 2 * 255 * 64 still fits a signed 16-bit sum."""

Constants = dict[str, NDArray[Any]]


class _Int8(NamedTuple):
    values: NDArray[np.int8]
    scale: NDArray[np.float32]


def quantize(source: Path, target: Path) -> None:
    """Write a copy of a graph whose products run in int8; heads stay float.

    Raises:
        ModelStoreError: ``source`` is no graph of `graph.write_encoder`, or is quantised already.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    products = [
        node
        for node in model.graph.node
        if node.op_type == "MatMul"
        and node.input[1] in constants
        and not node.name.startswith(HEAD_PREFIX)
    ]
    if not products or any(node.op_type == "MatMulInteger" for node in model.graph.node):
        raise ModelStoreError(f"the graph {source} is no float encoder, or is quantised already")
    widths = _widths(model, sorted({node.input[0] for node in products}), constants)

    quantised = {node.name for node in products}
    biases = {
        node.input[0]: node
        for node in model.graph.node
        if node.op_type == "Add" and node.input[1] in constants
    }
    nodes: list[Any] = []
    done = set()
    for node in model.graph.node:
        if node.name in quantised:
            bias = biases[node.output[0]]
            nodes += _product(node, bias, constants, widths[node.input[0]])
            done.add(bias.name)
        elif node.op_type == "Gather" and node.input[0] in constants:
            nodes += _lookup(node, constants)
        elif node.name not in done:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        model.graph.input,
        model.graph.output,
        [numpy_helper.from_array(constants[name], name) for name in sorted(used & set(constants))],
    )
    result = helper.make_model(
        graph,
        producer_name=model.producer_name,
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
    )
    onnx.checker.check_model(result)
    target.write_bytes(result.SerializeToString(deterministic=True))


def _widths(
    model: Any, names: list[str], constants: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Return how far each channel of each named tensor reaches, over random words."""
    import onnx

    without_telemetry()
    import onnxruntime
    from onnx import TensorProto, helper

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    tables = [
        constants[node.input[0]].shape[0]
        for node in model.graph.node
        if node.op_type == "Gather" and node.input[1] == "input_ids"
    ]
    random = np.random.default_rng(_PROBE_SEED)
    reach = {name: np.zeros((), np.float32) for name in names}
    for length in _PROBE_LENGTHS:
        ids = random.integers(0, tables[0], (1, length))
        found = session.run(names, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        for name, value in zip(names, found, strict=True):
            reach[name] = np.maximum(reach[name], np.abs(value).max(axis=(0, 1)))
    return reach


def _product(node: Any, bias: Any, constants: Constants, reach: NDArray[np.float32]) -> list[Any]:
    """Return the nodes that stand for one float product and the bias added to it.

    The bias comes before the wide channels' share, where the runtime can join it to the product.
    """
    from onnx import TensorProto, helper

    value, weight_name = node.input
    (output,) = bias.output
    weight = constants[weight_name]
    wide = _wide(reach)
    keep = np.ones(len(reach), np.float32)
    keep[wide] = 0
    narrow = _int8(weight * keep[:, None], axis=0)
    nodes: list[Any] = []

    def constant(part: str, array: NDArray[Any]) -> str:
        constants[f"{output}/{part}"] = array
        return f"{output}/{part}"

    def step(kind: str, inputs: list[str], *parts: str, **attributes: Any) -> list[str]:
        outputs = [f"{output}/{part}" for part in parts]
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    rest = [value]
    if wide.size:
        rest = step("Mul", [value, constant("keep", keep)], "rest")
    levels, scale, zero = step("DynamicQuantizeLinear", rest, "levels", "scale", "zero")
    kept = constant("weight", narrow.values)
    middle = constant("weight_zero", np.zeros(weight.shape[1], np.int8))
    total = step("MatMulInteger", [levels, kept, zero, middle], "total")
    real = step("Cast", total, "real", to=TensorProto.FLOAT)
    scales = step("Mul", [scale, constant("weight_scale", narrow.scale)], "scales")
    product = step("Mul", [*real, *scales], "narrow")
    step("Add", [*product, bias.input[1]], "biased")
    if wide.size:
        picked = step("Gather", [value, constant("places", wide)], "picked", axis=-1)
        step("MatMul", [*picked, constant("wide_weight", weight[wide])], "wide")
        nodes.append(
            helper.make_node("Add", [f"{output}/biased", f"{output}/wide"], [output], name=output)
        )
    else:
        nodes[-1].output[0] = output
    return nodes


def _wide(reach: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the places of the channels that reach much further than the others."""
    order = np.argsort(-reach, kind="stable")[:_WIDE_CHANNELS]
    return np.sort(order[reach[order] > _WIDE_FACTOR * np.median(reach)])


def _lookup(node: Any, constants: Constants) -> list[Any]:
    """Return the nodes that look a row up in an int8 table."""
    from onnx import TensorProto, helper

    name, index = node.input
    (output,) = node.output
    table = _int8(constants[name], axis=1)
    constants[f"{name}/int8"] = table.values
    constants[f"{name}/scale"] = table.scale[:, None]
    parts = [f"{output}/{part}" for part in ("row", "scale", "real")]
    return [
        helper.make_node("Gather", [f"{name}/int8", index], [parts[0]], name=parts[0]),
        helper.make_node("Gather", [f"{name}/scale", index], [parts[1]], name=parts[1]),
        helper.make_node("Cast", [parts[0]], [parts[2]], name=parts[2], to=TensorProto.FLOAT),
        helper.make_node("Mul", [parts[2], parts[1]], [output], name=output),
    ]


def _int8(weight: NDArray[np.float32], axis: int) -> _Int8:
    """Return int8 values and the scales that undo them, one per slice along the other axis."""
    reach = np.abs(weight).max(axis=axis, keepdims=True)
    scale = np.where(reach > 0, reach, 1).astype(np.float32) / np.float32(_STEPS)
    return _Int8(np.rint(weight / scale).astype(np.int8), scale.reshape(-1))
