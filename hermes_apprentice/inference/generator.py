"""What lies in a generator's artefact, for whoever trains one and whoever serves it.

``artefact.json`` says that it is a generator; ``generator.json`` (the card) says which base model
the adapter belongs to, how it is prompted, how long its answers may be, and what a correctly
loaded adapter answers to a known request. Beside them lies ``adapter/`` in PEFT's layout.
Knows nothing about servers or training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.errors import ArtefactError

CARD_FILE = "generator.json"
ADAPTER_DIR = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
FORMAT = "hermes-apprentice/generator/1"


class GeneratorCard(BaseModel):
    """What ``generator.json`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: str = FORMAT
    """Layout of the folder."""

    base_model: str = Field(min_length=1)
    """The base model, by the name or path that it was trained under."""

    base_digest: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 over the base's weights, as `base_digest` of the trainer computes it."""

    rank: int = Field(ge=1, le=1_024)
    """Rank of the adapter; a server must allow at least this."""

    prompt: PromptTemplate
    """How requests are put to it."""

    chat_template: str = Field(min_length=1)
    """The Jinja template that turned messages into text in training; the server gets the same."""

    max_new_tokens: int = Field(ge=1)
    """Longest answer, in tokens."""

    canary_request: str = Field(min_length=1)
    """A training request whose answer is known."""

    canary_answer: str
    """What the adapter answers to it greedily; the bare base answers otherwise."""


def write_card(folder: Path, card: GeneratorCard) -> None:
    """Write ``generator.json``."""
    text = json.dumps(card.model_dump(mode="json"), indent=1, sort_keys=True)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path) -> GeneratorCard:
    """Return what ``generator.json`` says.

    Raises:
        ArtefactError: It is missing, damaged, or of a format this release does not know.
    """
    try:
        card = GeneratorCard.model_validate_json((folder / CARD_FILE).read_bytes())
    except OSError as exc:
        raise ArtefactError(f"{folder.name} has no {CARD_FILE}; train again") from exc
    except ValidationError as exc:
        raise ArtefactError(f"{CARD_FILE} is damaged; train the specialist again") from exc
    if card.format != FORMAT:
        raise ArtefactError(
            f"the generator has the format {card.format!r}, this release reads {FORMAT!r}; "
            "train the specialist again"
        )
    return card


def confidence_of(log_probabilities: Sequence[float]) -> float:
    """Return how sure a generator was of an answer, 0 to 1.

    The geometric mean of the probabilities of the tokens it chose, the end of the answer among
    them; 0 for an answer without tokens, or with a figure that is no number. Length-normalised
    likelihood as a score for selective generation: Malinin and Gales, "Uncertainty Estimation in
    Autoregressive Structured Prediction", 2021.
    """
    if not log_probabilities or any(math.isnan(value) for value in log_probabilities):
        return 0.0
    return min(1.0, math.exp(math.fsum(log_probabilities) / len(log_probabilities)))
