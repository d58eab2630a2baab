"""The written graph computes what BERT computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.embedding.graph import Head, write_encoder
from hermes_apprentice.errors import ModelStoreError

IDS = np.array([[2, 5, 6, 7, 8, 3], [2, 9, 10, 3, 0, 0], [2, 3, 0, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])


def run(path: Path, ids: Any = IDS, mask: Any = MASK) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"input_ids": ids, "attention_mask": mask})
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_graph_agrees_with_bert_written_in_numpy(
    tmp_path: Path,
    make_tensors: Callable[..., Any],
    config: EncoderConfig,
    reference: Callable[..., Any],
    pooling: Any,
    prefix: str,
) -> None:
    tensors = make_tensors(prefix=prefix)
    form = replace(config, pooling=pooling, prefix=prefix)
    write_encoder(tensors, form, tmp_path / "encoder.onnx")

    found = run(tmp_path / "encoder.onnx")

    expected = reference(tensors, form, IDS, MASK)
    np.testing.assert_allclose(found["embedding"], expected.embedding, atol=2e-6)
    states = np.concatenate([expected.layers[0], expected.layers[2]], axis=-1)
    kept = MASK == 1
    np.testing.assert_allclose(found["states"][kept], states[kept], atol=2e-5)


def test_padding_changes_nothing(tmp_path: Path, tensors: Any, config: EncoderConfig) -> None:
    write_encoder(tensors, config, tmp_path / "encoder.onnx")

    padded = run(tmp_path / "encoder.onnx")
    alone = run(tmp_path / "encoder.onnx", IDS[1:2, :4], MASK[1:2, :4])

    np.testing.assert_allclose(padded["embedding"][1], alone["embedding"][0], atol=1e-6)
    np.testing.assert_allclose(padded["states"][1, :4], alone["states"][0], atol=1e-5)


def test_heads_read_tokens_or_the_pooled_vector(
    tmp_path: Path, tensors: Any, config: EncoderConfig, reference: Callable[..., Any]
) -> None:
    random = np.random.default_rng(3)
    tags = Head(
        name="tags",
        weight=random.standard_normal((5, 32)).astype(np.float32),
        bias=random.standard_normal(5).astype(np.float32),
        input="tokens",
    )
    field = Head(
        name="field.size",
        weight=random.standard_normal((3, 32)).astype(np.float32),
        bias=random.standard_normal(3).astype(np.float32),
        input="pooled",
    )
    write_encoder(tensors, config, tmp_path / "encoder.onnx", heads=(tags, field), outputs=())

    found = run(tmp_path / "encoder.onnx")

    assert set(found) == {"tags", "field.size"}
    expected = reference(tensors, config, IDS, MASK)
    kept = MASK == 1
    tagged = expected.layers[-1] @ tags.weight.T + tags.bias
    np.testing.assert_allclose(found["tags"][kept], tagged[kept], atol=1e-4)
    fields = expected.pooled @ field.weight.T + field.bias
    np.testing.assert_allclose(found["field.size"], fields, atol=1e-4)


def test_half_precision_weights_are_read(tmp_path: Path, tensors: Any, config: Any) -> None:
    halves = {name: value.astype(np.float16) for name, value in tensors.items()}
    write_encoder(tensors, config, tmp_path / "whole.onnx")
    write_encoder(halves, config, tmp_path / "half.onnx")

    whole, half = run(tmp_path / "whole.onnx"), run(tmp_path / "half.onnx")

    assert half["embedding"].dtype == np.float32
    np.testing.assert_allclose(half["embedding"], whole["embedding"], atol=2e-3)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, tensors: Any, config: Any) -> None:
    write_encoder(tensors, config, tmp_path / "one.onnx")
    write_encoder(dict(reversed(tensors.items())), config, tmp_path / "two.onnx")

    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_missing_array_is_named(tmp_path: Path, tensors: Any, config: EncoderConfig) -> None:
    with pytest.raises(ModelStoreError, match=r"encoder\.layer\.3\.attention"):
        write_encoder(tensors, replace(config, layers=4), tmp_path / "encoder.onnx")


def test_a_head_of_another_width_is_refused(tmp_path: Path, tensors: Any, config: Any) -> None:
    head = Head(
        name="tags",
        weight=np.zeros((2, 7), np.float32),
        bias=np.zeros(2, np.float32),
        input="tokens",
    )
    with pytest.raises(ModelStoreError, match="'tags' does not read 32 values"):
        write_encoder(tensors, config, tmp_path / "encoder.onnx", heads=(head,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"heads": 5}, "does not divide into 5 heads"), ({"state_layers": (1, 4)}, "no layer 4")],
)
def test_a_form_that_does_not_fit_is_refused(
    tmp_path: Path, tensors: Any, config: EncoderConfig, changes: Any, message: str
) -> None:
    with pytest.raises(ModelStoreError, match=message):
        write_encoder(tensors, replace(config, **changes), tmp_path / "encoder.onnx")
