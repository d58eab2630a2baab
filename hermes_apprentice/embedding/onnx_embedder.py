"""The embedder that runs: a tokenizer and an ONNX graph on the CPU.

Knows nothing about where models come from or which texts matter. Texts go
through the network one at a time, never padded: activations are quantised with
one scale per tensor, so in a batch a text's vector would depend on its
neighbours. One at a time, the same text always has the same vector. Several
threads work on several texts.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.embedding import graph as encoder_graph
from hermes_apprentice.embedding import quantisation
from hermes_apprentice.embedding.base import Encoding, FloatArray
from hermes_apprentice.embedding.catalogue import FETCH_ORDER, TOKENIZER, WEIGHTS, Model
from hermes_apprentice.embedding.store import ModelStore, Progress, StoredModel
from hermes_apprentice.errors import ModelStoreError
from hermes_apprentice.settings import without_telemetry

AUTO = "auto"
"""The name that lets the store decide."""

Precision = Literal["int8", "float32"]

_MAX_TOKENS = 256
_CHARACTERS_PER_TOKEN = 32
_SURROGATES = re.compile("[\ud800-\udfff]")

_Result = TypeVar("_Result")


class OnnxEmbedder:
    """An encoder on the CPU, safe to share between threads.

    Of a text longer than ``max_tokens`` tokens (the two special ones
    included), or longer than 32 times as many characters, the head is read
    and the rest ignored; ``offsets`` then cover the head.
    """

    def __init__(
        self,
        graph: Path,
        tokenizer: Path,
        *,
        name: str,
        digest: str,
        dimension: int,
        state_dimension: int,
        threads: int = 1,
        max_tokens: int = _MAX_TOKENS,
    ) -> None:
        """Hold the paths; both files are opened when the first text arrives.

        Args:
            graph: A graph with the outputs ``embedding`` and ``states``.
            tokenizer: The ``tokenizer.json`` that belongs to it.
            name: The model's name.
            digest: See `graph_digest`.
            dimension: Length of an embedding.
            state_dimension: Length of one token's states.
            threads: How many texts of one call are worked on at once.
            max_tokens: How much of a text is read.
        """
        self._graph = graph
        self._tokenizer_file = tokenizer
        self._name = name
        self._digest = digest
        self._dimension = dimension
        self._state_dimension = state_dimension
        self._threads = max(1, threads)
        self._max_tokens = max_tokens
        self._max_characters = max_tokens * _CHARACTERS_PER_TOKEN
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Any = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self._name

    @property
    def digest(self) -> str:
        """What everything learned from this embedder is tied to."""
        return self._digest

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    @property
    def state_dimension(self) -> int:
        """Length of one token's states."""
        return self._state_dimension

    def load(self) -> None:
        """Open both files now, so that the first request need not wait.

        Raises:
            ModelStoreError: One of them is not what it should be.
        """
        if self._session is not None:
            return
        with self._lock:
            if self._session is None:
                self._tokenizer = _open_tokenizer(self._tokenizer_file, self._max_tokens)
                self._session = open_session(self._graph)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return unit-length embeddings, shape ``(len(texts), dimension)``, float32."""
        self.load()
        if not texts:
            return np.empty((0, self._dimension), np.float32)
        return np.concatenate(self._each(self._embed_one, texts))

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return embedding, tokens, character offsets and token states of each text."""
        self.load()
        return self._each(self._encode_one, texts)

    def _each(self, work: Callable[[str], _Result], texts: Sequence[str]) -> list[_Result]:
        if self._threads == 1 or len(texts) == 1:
            return [work(text) for text in texts]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, texts))

    def _embed_one(self, text: str) -> FloatArray:
        (embedding,) = self._run(["embedding"], self._tokenize(text).ids)
        return embedding

    def _encode_one(self, text: str) -> Encoding:
        pieces = self._tokenize(text)
        embedding, states = self._run(["embedding", "states"], pieces.ids)
        return Encoding(
            embedding=embedding[0],
            tokens=tuple(pieces.tokens[1:-1]),
            offsets=_offsets(text, pieces.offsets[1:-1]),
            states=states[0, 1:-1],
        )

    def _tokenize(self, text: str) -> Any:
        head = text[: self._max_characters]
        try:
            return self._tokenizer.encode(head)
        except (UnicodeEncodeError, TypeError):
            # Half a surrogate pair, as broken JSON may hold; replaced one for one, offsets stay.
            return self._tokenizer.encode(_SURROGATES.sub("\ufffd", head))

    def _run(self, outputs: list[str], ids: list[int]) -> list[FloatArray]:
        row = np.array([ids], np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
        result: list[FloatArray] = self._session.run(outputs, feed)
        return result


def open_embedder(
    store: ModelStore,
    name: str | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    *,
    pull: bool = True,
    precision: Precision = "int8",
) -> OnnxEmbedder:
    """Return the embedder called ``name``, building its graph once per store.

    Args:
        store: Where the model files lie.
        name: A name of the catalogue. ``None`` and ``auto`` take what the store holds (the
            first in the catalogue's order), and otherwise fetch the first that can be had.
        threads: How many texts of one call are worked on at once.
        progress: Told what happens while files are fetched or built.
        pull: Whether a missing model may be fetched.
        precision: ``int8`` to serve; ``float32`` to compare with.

    Raises:
        ModelStoreError: The model is missing, cannot be fetched, or is damaged.
    """
    say = progress or (lambda _: None)
    stored = _choose(store, name, say, pull=pull)
    model = store.catalogue[stored.name]
    tokenizer = store.file(model.name, TOKENIZER)
    digest = graph_digest(model, stored, precision)
    graph = store.graph(digest, partial(_build, store, model, precision, say))
    return OnnxEmbedder(
        graph,
        tokenizer,
        name=model.name,
        digest=digest,
        dimension=model.dimension,
        state_dimension=model.dimension * len(model.encoder.state_layers),
        threads=threads,
    )


def graph_digest(model: Model, stored: StoredModel, precision: Precision) -> str:
    """Return what names an embedder: the sha256 of everything its vectors follow from.

    That is: the weights' and the tokenizer's sha256, the network's form, the version of the
    writer, the precision and how much of a text is read. The bytes of the graph file are
    left out on purpose, since they follow from the installed ONNX version as well.
    So the digest is the same on every machine. The vectors are too, up to the
    rounding of different processors and runtimes.
    """
    facts = {
        "config": asdict(model.encoder),
        "max_tokens": _MAX_TOKENS,
        "precision": precision,
        "recipe": [encoder_graph.RECIPE, *([quantisation.RECIPE] if precision == "int8" else [])],
        "tokenizer": stored.files[TOKENIZER],
        "weights": stored.files[WEIGHTS],
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def open_session(graph: Path) -> Any:
    """Open a graph on the CPU, one thread per run.

    Raises:
        ModelStoreError: The file is not a graph this runtime can run.
    """
    without_telemetry()
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile) as exc:
        raise ModelStoreError(f"the graph {graph} cannot be opened; delete it") from exc


def _choose(store: ModelStore, name: str | None, say: Progress, *, pull: bool) -> StoredModel:
    if name is not None and name != AUTO:
        return store.pull(name, progress=say) if pull else store.get(name)
    for found in store.list():
        return found
    if not pull:
        raise ModelStoreError(
            f"no embedding model is on this machine; run: apprentice models pull {FETCH_ORDER[0]}"
        )
    failures = []
    for candidate in FETCH_ORDER:
        try:
            return store.pull(candidate, progress=say)
        except ModelStoreError as exc:
            failures.append(str(exc))
    raise ModelStoreError(" ".join(failures))


def _build(
    store: ModelStore, model: Model, precision: Precision, say: Progress, target: Path
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    say(f"Building the {precision} graph of {model.name}")
    weights = store.file(model.name, WEIGHTS)
    try:
        tensors = load_file(weights)
    except SafetensorError as exc:
        raise ModelStoreError(f"{WEIGHTS} of {model.name} cannot be read: {exc}") from exc
    if precision == "float32":
        encoder_graph.write_encoder(tensors, model.encoder, target)
        return
    plain = target.with_suffix(".float32")
    encoder_graph.write_encoder(tensors, model.encoder, plain)
    quantisation.quantize(plain, target)
    plain.unlink()


def _offsets(text: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.int32]:
    """Return spans that never part a letter from the marks that combine with it.

    The tokenizer drops such marks, so that its spans end before a trailing one.
    """
    offsets = np.array(spans, np.int32).reshape(-1, 2)
    if text.isascii():
        return offsets
    limits = [*offsets[1:, 0].tolist(), len(text)]
    for span, limit in zip(offsets, limits, strict=False):
        while span[1] < limit and unicodedata.combining(text[span[1]]):
            span[1] += 1
    return offsets


def _open_tokenizer(path: Path, max_tokens: int) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises plain Exception, nothing narrower
        raise ModelStoreError(f"the tokenizer {path} cannot be read") from exc
    # The file pads every text to 128 tokens and cuts there; neither is wanted.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
