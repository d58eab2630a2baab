"""What a training run had reached, on disk: whole or not at all.

Runs only in the training environment. Knows nothing about what is trained.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from hermes_apprentice.storage.files import new_folder

CHECKPOINT_DIR = "checkpoint"
STATE_FILE = "state.json"
TENSORS_FILE = "tensors.pt"


class Checkpoint(NamedTuple):
    """Everything that going on takes."""

    now: list[Any]
    """The trained weights."""

    best: list[Any]
    """Those that did best on the validation split."""

    optimizer: dict[str, Any]
    """State of the optimiser."""

    steps: int
    """Steps taken."""

    best_loss: float
    """Loss of the best weights."""

    worse: int
    """Looks in a row that did not improve it."""

    batch: int
    """Examples at once that the memory was enough for."""

    losses: list[tuple[int, float]]
    """Step and loss of every look."""


def write_checkpoint(folder: Path, identity: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of an older one.

    Args:
        folder: In which it lies.
        identity: Digest of everything that the run depends on.
        checkpoint: What to write.

    Raises:
        OSError: The disk is full, or refused.
    """
    import torch

    with new_folder(folder / CHECKPOINT_DIR) as working:
        # Torch's own writer has no error of its own for a full disk.
        buffer = io.BytesIO()
        tensors = {"now": checkpoint.now, "best": checkpoint.best}
        torch.save({**tensors, "optimizer": checkpoint.optimizer}, buffer)
        (working / TENSORS_FILE).write_bytes(buffer.getbuffer())
        state = {
            "identity": identity,
            "steps": checkpoint.steps,
            "best_loss": checkpoint.best_loss,
            "worse": checkpoint.worse,
            "batch": checkpoint.batch,
            "losses": checkpoint.losses,
        }
        (working / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """Return the checkpoint of the very same run, or ``None`` where there is none."""
    import torch

    source = folder / CHECKPOINT_DIR
    try:
        state = json.loads((source / STATE_FILE).read_bytes())
        if state["identity"] != identity:
            return None
        stored = torch.load(source / TENSORS_FILE, map_location="cpu", weights_only=True)
        return Checkpoint(
            now=stored["now"],
            best=stored["best"],
            optimizer=stored["optimizer"],
            steps=int(state["steps"]),
            best_loss=float(state["best_loss"]),
            worse=int(state["worse"]),
            batch=int(state["batch"]),
            losses=[(int(step), float(loss)) for step, loss in state["losses"]],
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None  # damaged, so training begins anew
