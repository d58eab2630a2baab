"""How much a fine-tuned encoder counts beside the frozen one: a file with one number."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hermes_apprentice.errors import ArtefactError

MIX_FILE = "mix.json"


def write_weight(folder: Path, weight: float) -> None:
    """Write the weight."""
    (folder / MIX_FILE).write_text(json.dumps({"weight": weight}), encoding="utf-8")


def read_weight(folder: Path) -> float:
    """Return the weight that `write_weight` wrote.

    Raises:
        ArtefactError: The file is missing or damaged, or the weight is no number.
    """
    try:
        weight = float(json.loads((folder / MIX_FILE).read_bytes())["weight"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ArtefactError(f"{MIX_FILE} cannot be read; train again") from exc
    if not math.isfinite(weight):
        raise ArtefactError()
    return weight
