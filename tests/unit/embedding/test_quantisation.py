"""The int8 graph stays close to the float one, and is the same on every processor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.embedding.graph import Head, write_encoder
from hermes_apprentice.embedding.quantisation import quantize
from hermes_apprentice.errors import ModelStoreError


def run(path: Path, ids: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)}))


def constants(path: Path) -> dict[str, Any]:
    graph = onnx.load(path).graph
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


@pytest.fixture
def pair(tmp_path: Path, tensors: Any, config: EncoderConfig) -> tuple[Path, Path]:
    """A float graph and its int8 copy."""
    write_encoder(tensors, config, tmp_path / "float.onnx")
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    return tmp_path / "float.onnx", tmp_path / "int8.onnx"


def test_int8_embeddings_stay_close_to_float(pair: tuple[Path, Path]) -> None:
    random = np.random.default_rng(5)
    cosines = []
    for length in (2, 5, 9, 20):
        ids = random.integers(0, 40, (1, length))
        cosines.append(float(run(pair[0], ids)[0][0] @ run(pair[1], ids)[0][0]))

    assert min(cosines) > 0.995


def test_a_channel_far_wider_than_the_rest_stays_in_float(
    tmp_path: Path, tensors: Any, config: EncoderConfig
) -> None:
    for layer in range(config.layers):
        tensors[f"encoder.layer.{layer}.attention.output.LayerNorm.weight"][3] = 40.0
    write_encoder(tensors, config, tmp_path / "float.onnx")
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx")

    for layer in range(config.layers):
        found = constants(tmp_path / "int8.onnx")
        places = found[f"layer{layer + 1}/wide/places"].tolist()
        assert 3 in places
        assert len(places) <= 8
        weight = tensors[f"encoder.layer.{layer}.intermediate.dense.weight"].T
        np.testing.assert_array_equal(found[f"layer{layer + 1}/wide/wide_weight"], weight[places])
        assert not found[f"layer{layer + 1}/wide/weight"][places].any()
        assert not found[f"layer{layer + 1}/wide/keep"][places].any()


def test_pairs_of_products_fit_sixteen_bits(pair: tuple[Path, Path]) -> None:
    weights = [
        value
        for name, value in constants(pair[1]).items()
        if name.endswith(("/weight", "kv/weight"))
    ]

    assert len(weights) == 12
    for weight in weights:
        assert weight.dtype == np.int8
        assert 2 * 255 * int(np.abs(weight.astype(int)).max()) <= 2**15 - 1
        assert int(np.abs(weight.astype(int)).max()) == 64


def test_the_words_take_one_byte_per_value(pair: tuple[Path, Path], tensors: Any) -> None:
    found = constants(pair[1])

    assert "words" not in found
    assert found["words/int8"].dtype == np.int8
    restored = found["words/int8"] * found["words/scale"]
    table = tensors["embeddings.word_embeddings.weight"]
    assert np.abs(restored - table).max() <= np.abs(table).max() / 64


def test_heads_stay_in_float(
    tmp_path: Path, tensors: Any, config: EncoderConfig, make_tensors: Callable[..., Any]
) -> None:
    head = Head(
        name="tags",
        weight=np.random.default_rng(2).standard_normal((4, 32)).astype(np.float32),
        bias=np.zeros(4, np.float32),
        input="tokens",
    )
    write_encoder(tensors, config, tmp_path / "float.onnx", heads=(head,), outputs=("states",))
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    ids = np.random.default_rng(7).integers(0, 40, (1, 9))

    states, tags = run(tmp_path / "int8.onnx", ids)

    np.testing.assert_allclose(tags, states[..., -32:] @ head.weight.T, atol=1e-4)


def test_the_same_graph_gives_the_same_bytes_and_says_nothing(
    tmp_path: Path, pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = list(logging.getLogger().handlers)

    quantize(pair[0], tmp_path / "again.onnx")

    assert (tmp_path / "again.onnx").read_bytes() == pair[1].read_bytes()
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == before


def test_a_quantised_graph_is_not_quantised_again(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(ModelStoreError, match="quantised already"):
        quantize(pair[1], tmp_path / "again.onnx")
