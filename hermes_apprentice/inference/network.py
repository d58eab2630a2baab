"""A fine-tuned encoder that labels words, run by ONNX Runtime.

Knows nothing about fields or answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hermes_apprentice.errors import ArtefactError, ModelStoreError
from hermes_apprentice.inference.perceptron import log_softmax
from hermes_apprentice.inference.pieces import lay_out, open_tokenizer
from hermes_apprentice.inference.words import Word

GRAPH_FILE = "encoder.onnx"
TOKENIZER_FILE = "tokenizer.json"


def head_name(track: int) -> str:
    """Return the name of the graph's output for a track."""
    return f"track{track}"


class Network:
    """A graph with one output per track and its tokenizer; safe to share between threads."""

    def __init__(self, graph: Path, tokenizer: Path, tracks: int) -> None:
        """Open both files.

        Raises:
            ArtefactError: One of them is missing or damaged.
        """
        from hermes_apprentice.embedding.onnx_embedder import open_session

        self._tokenizer = open_tokenizer(tokenizer)
        try:
            self._session: Any = open_session(graph)
        except ModelStoreError as exc:
            raise ArtefactError(f"{graph.name} is damaged; train the specialist again") from exc
        self._outputs = [head_name(track) for track in range(tracks)]
        known = {output.name: output.shape[-1] for output in self._session.get_outputs()}
        if not set(self._outputs) <= set(known):
            raise ArtefactError()
        self._widths = [int(known[name]) for name in self._outputs]

    @property
    def widths(self) -> tuple[int, ...]:
        """How many labels each track has."""
        return tuple(self._widths)

    def text_log_probabilities(self, request: str) -> NDArray[np.float64]:
        """Return the log-probability of every label of the whole text, shape ``(labels,)``.

        The first window decides; the scores of its pieces are averaged.
        """
        window = lay_out(self._tokenizer, request, ()).windows[0]
        row = np.array([window], np.int64)
        feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
        (scores,) = self._session.run(self._outputs[:1], feed)
        return log_softmax(scores[0].mean(axis=0))

    def log_probabilities(self, request: str, words: Sequence[Word]) -> list[NDArray[np.float64]]:
        """Return per track the log-probability of every label, shape ``(words, labels)``.

        A word that the network did not read has zeros: no opinion.
        """
        layout = lay_out(self._tokenizer, request, words)
        tables = [np.zeros((len(words), width)) for width in self._widths]
        for number, window in enumerate(layout.windows):
            inside = np.flatnonzero(layout.places[:, 0] == number)
            if not len(inside):
                continue
            row = np.array([window], np.int64)
            feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
            for table, scores in zip(tables, self._session.run(self._outputs, feed), strict=True):
                table[inside] = log_softmax(scores[0][layout.places[inside, 1]])
        return tables
