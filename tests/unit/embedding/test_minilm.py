"""The real MiniLM: the written graph is the published network, and int8 stays close to it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from hermes_apprentice.embedding.catalogue import MINILM, TOKENIZER, WEIGHTS
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.settings import Settings

TEXTS = (
    "Could you set an alarm for twenty to seven?",
    "please wake me up at 6:40",
    "Which gate does the train to Ghent leave from?",
    "label this ticket: the invoice was charged twice",
    "no",
    "Zoë übersetzt 3 Sätze für das Café in Łódź 🙂",
    "SELECT name FROM staff WHERE hired > '2031-02-01';",
    "Mirela Okafor wrote on Tuesday that the boiler on the third floor leaks again, that the"
    " plumber came twice without success, and that she would like to know who pays for the damage"
    " to the carpet before the end of the month. " * 3,
)


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return ModelStore(settings.models_dir)


@pytest.fixture
def exact(store: ModelStore) -> OnnxEmbedder:
    return open_embedder(store, MINILM.name, precision="float32")


def test_the_float_graph_is_minilm_as_numpy_computes_it(
    store: ModelStore, exact: OnnxEmbedder, reference: Callable[..., Any]
) -> None:
    tensors = load_file(store.file(MINILM.name, WEIGHTS))
    tokenizer = Tokenizer.from_file(str(store.file(MINILM.name, TOKENIZER)))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)

    for text, found in zip(TEXTS, exact.encode(TEXTS), strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        expected = reference(tensors, MINILM.encoder, ids, np.ones_like(ids))
        assert float(found.embedding @ expected.embedding[0]) > 0.999999
        states = np.concatenate([expected.layers[layer - 1] for layer in (2, 4, 6)], axis=-1)
        np.testing.assert_allclose(found.states, states[0, 1:-1], atol=1e-3)


def test_int8_stays_close_to_float(embedder: OnnxEmbedder, exact: OnnxEmbedder) -> None:
    small, whole = embedder.encode(TEXTS), exact.encode(TEXTS)

    cosines = [float(a.embedding @ b.embedding) for a, b in zip(small, whole, strict=True)]
    assert min(cosines) > 0.99
    assert sum(cosines) / len(cosines) > 0.995
    for a, b in zip(small, whole, strict=True):
        assert np.linalg.norm(a.states - b.states) / np.linalg.norm(b.states) < 0.12


def test_the_int8_graph_is_a_quarter_of_the_float_one(
    store: ModelStore, embedder: OnnxEmbedder, exact: OnnxEmbedder
) -> None:
    sizes = [
        (store.root / "graphs" / f"{one.digest}.onnx").stat().st_size for one in (embedder, exact)
    ]

    assert sizes[0] < 25_000_000
    assert sizes[0] < 0.28 * sizes[1]


def test_near_meanings_are_near(embedder: OnnxEmbedder) -> None:
    alarm, wake, train, *_ = embedder.embed(TEXTS)

    assert float(alarm @ wake) > float(alarm @ train) + 0.15


def test_the_digest_is_the_same_on_every_machine(embedder: OnnxEmbedder) -> None:
    # A new value here means that everything learned so far has to be learned again.
    assert embedder.digest == "f45cc181beb44086f82e5a692c04709c29f185672e932f49cdf5045e7b040f47"
    assert (embedder.name, embedder.dimension, embedder.state_dimension) == (MINILM.name, 384, 1152)


def test_long_texts_are_read_up_to_254_words_and_pieces(embedder: OnnxEmbedder) -> None:
    (encoding,) = embedder.encode([TEXTS[-1] * 3])

    assert len(encoding.tokens) == 254
    starts = encoding.offsets[:, 0].tolist()
    assert all(before < after for before, after in pairwise(starts))
