"""The extractor with a fine-tuned encoder beside its chains.

Both score every label of every word; the scores are added, the encoder's with
a weight that cross-validation chose, and the chain's transitions decide. All
else is as in `Extractor`. Torch is not needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hermes_apprentice.embedding.base import Encoding
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.base import Prediction
from hermes_apprentice.inference.decoding import Decoded
from hermes_apprentice.inference.extractor import Extractor
from hermes_apprentice.inference.mixture import read_weight, write_weight
from hermes_apprentice.inference.network import GRAPH_FILE, TOKENIZER_FILE, Network
from hermes_apprentice.inference.words import split_words


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FinetunedExtractor:
    """A trained extractor with a network of its own."""

    extractor: Extractor
    """Plan, chains, heads, calibration."""

    network: Network
    """The fine-tuned encoder."""

    weight: float
    """How much its log-probabilities count."""

    folder: Path
    """Where the network's files lie."""

    reads_encodings: bool = field(default=True, init=False)
    """The chains and heads live on the embedder's states."""

    def predict(
        self, requests: Sequence[str], encodings: Sequence[Encoding] | None
    ) -> list[Prediction]:
        """Answer every request; see `Extractor.predict`."""
        if encodings is None:
            raise ArtefactError("this extractor needs the embedder's encodings")
        return [
            self.extractor.finish(*self.decode(request, encoding), encoding)
            for request, encoding in zip(requests, encodings, strict=True)
        ]

    def decode(self, request: str, encoding: Encoding) -> tuple[Decoded, bool]:
        """Return the answer with its signals, and whether the window was too short."""
        extra = self.network.log_probabilities(request, split_words(request))
        return self.extractor.decode(request, encoding, [self.weight * table for table in extra])

    def save(self, folder: Path) -> None:
        """Write the model's files into ``folder``."""
        self.extractor.save(folder)
        for name in (GRAPH_FILE, TOKENIZER_FILE):
            shutil.copyfile(self.folder / name, folder / name)
        write_weight(folder, self.weight)

    @classmethod
    def load(cls, folder: Path) -> FinetunedExtractor:
        """Return the model that `save` wrote.

        Raises:
            ArtefactError: A file is missing, damaged or does not fit the others.
        """
        extractor = Extractor.load(folder)
        weight = read_weight(folder)
        network = Network(folder / GRAPH_FILE, folder / TOKENIZER_FILE, len(extractor.chains))
        wanted = tuple(len(chain.labels) for chain in extractor.chains)
        if network.widths != wanted:
            raise ArtefactError()
        return cls(extractor=extractor, network=network, weight=weight, folder=folder)
