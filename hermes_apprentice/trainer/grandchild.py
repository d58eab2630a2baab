"""What the programs of the training environment share: how they begin, tell, and fail.

Each is a process of its own that another of ours started: it reads a task from a file, tells its
progress and its error as JSON lines on standard output, and ends with whoever started it.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.storage.parentage import die_with_parent

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def told(arguments: list[str], work: Callable[[dict[str, Any]], None]) -> int:
    """Do ``work`` with the task in a file, and return the exit status.

    Args:
        arguments: Path of the task's JSON, and the parent's process id.
        work: What to do; its error becomes the last line of standard output.
    """
    try:
        die_with_parent(int(arguments[1]))
        work(json.loads(Path(arguments[0]).read_bytes()))
    except ApprenticeError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}), flush=True)
        return 1
    except OSError as error:
        full = error.errno in _NO_ROOM
        said = "the disk is full; make room and try again" if full else str(error)
        print(json.dumps({"error": said, "kind": "TrainingError"}), flush=True)
        return 1
    return 0


def report_progress(share: float, doing: str) -> None:
    """Tell how far the work is, 0 to 1, and what is being done."""
    print(json.dumps({"progress": round(share, 4), "doing": doing}), flush=True)


def is_full(error: BaseException) -> bool:
    """Whether an error of torch means that the memory was not enough."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return "out of memory" in said or "can't allocate memory" in said
