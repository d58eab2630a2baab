"""The report of a step that failed: what happened, on what machine, and what to do next.

A failure is an error of ours with a sentence for the operator; this page adds what that sentence
does not know. Knows nothing about verdicts, which have reports of their own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hermes_apprentice.domain.specialist import Specialist, Step
from hermes_apprentice.errors import (
    ArtefactError,
    DatasetError,
    MissingExtraError,
    ModelStoreError,
    RedactionError,
    RegistryError,
)
from hermes_apprentice.pipeline.judging import GATE_LOG
from hermes_apprentice.pipeline.workshop import Workshop
from hermes_apprentice.storage.files import write_atomically
from hermes_apprentice.trainer.jobs import LOG_FILE

FAILURE_FILE = "failure.md"

_MAX_CHARS = 4_000
_SMI_SECONDS = 5.0
_MEMORY_INFO = Path("/proc/meminfo")

_STEPS = {
    Step.APPROVED: "building the dataset",
    Step.DATASET_BUILT: "training",
    Step.TRAINED: "judging (the gate)",
    Step.VALIDATED: "registering",
}


class _Advice(NamedTuple):
    fits: Callable[[Exception, str], bool]
    text: str


def _says(pattern: str) -> Callable[[Exception, str], bool]:
    found = re.compile(pattern, re.IGNORECASE)
    return lambda _, words: found.search(words) is not None


def _is(*kinds: type[Exception]) -> Callable[[Exception, str], bool]:
    return lambda error, _: isinstance(error, kinds)


_ADVICE = (
    _Advice(
        lambda error, words: isinstance(error, MissingExtraError) or "needs the extra" in words,
        "Something optional is not installed; the message names the extra. The training "
        "environment is made by: `apprentice setup --with-training --apply`.",
    ),
    _Advice(
        _says(r"out of memory|not enough memory|memoryerror|cannot allocate"),
        "There was not enough memory. Close what else uses the memory below (other processes are "
        "never ended by Apprentice), then take it up again.",
    ),
    _Advice(
        _says(r"signal 9|status -9|was killed"),
        "The process was killed from outside; on a full machine the system does that to save "
        "memory. Compare the free memory below, then take it up again.",
    ),
    _Advice(
        _says(r"\bnan\b|not finite|no finite|diverged|overflow"),
        "The numbers of the training left their range. Try it again from the data with another "
        "`trainer.seed`; if it happens again, look in the dataset for answers of extreme length.",
    ),
    _Advice(
        _says(r"no space left|disk full|disk quota|not enough disk"),
        "The disk is full. Old runs and versions go with: `apprentice specialists gc --apply`.",
    ),
    _Advice(
        _says(r"longer than allowed"),
        "It took longer than allowed; raise `trainer.timeout_seconds` (training) or "
        "`gate.timeout_seconds` (gate) in settings.toml.",
    ),
    _Advice(_says(r"it was asked to"), "It was cancelled; nothing is wrong."),
    _Advice(
        _says(r"\bgpus?\b|\bcuda\b"),
        "The GPU could not be used. Its free memory is listed below; what else runs on it is "
        "shown by `nvidia-smi`.",
    ),
    _Advice(
        _is(ModelStoreError),
        "A model file is missing or damaged; fetch it again with: `apprentice models pull`.",
    ),
    _Advice(
        _is(RedactionError),
        "A text could not be redacted with certainty; see the kinds that are covered in the data "
        "card, or leave the session out.",
    ),
    _Advice(_is(DatasetError), "Build the dataset again: try it again from the data."),
    _Advice(
        _is(ArtefactError),
        "What was trained does not fit what would serve it; train it again from the data.",
    ),
    _Advice(_is(RegistryError), "The registry is checked by: `apprentice doctor`."),
)


def write_failure(shop: Workshop, specialist: Specialist, error: Exception) -> Path:
    """Write the report of a failed step, and return where it lies.

    Args:
        shop: Folders and clock.
        specialist: As it stood before the step.
        error: What the step raised.

    Raises:
        OSError: The disk refused.
    """
    path = report_path(shop, specialist)
    write_atomically(path, render_failure(shop, specialist, error).encode())
    return path


def report_path(shop: Workshop, specialist: Specialist) -> Path:
    """Return where the failure report of a specialist's present run lies."""
    return shop.run_dir(specialist.run_id) / FAILURE_FILE


def render_failure(shop: Workshop, specialist: Specialist, error: Exception) -> str:
    """Return the report as Markdown."""
    words = str(error) or type(error).__name__
    when = datetime.fromtimestamp(shop.clock(), UTC).strftime("%Y-%m-%d %H:%M UTC")
    output = shop.run_dir(specialist.run_id) / str(specialist.kind)
    logs = [output / name for name in (LOG_FILE, GATE_LOG) if (output / name).exists()]
    served = (
        f"Version {specialist.version} is registered and goes on as before."
        if specialist.version is not None
        else "No version is registered, and nothing of this run is served."
    )
    parts = [
        f"# {specialist.slug}: failed",
        f"While {_STEPS.get(specialist.step, specialist.step)} (a {specialist.kind}, run "
        f"{specialist.run_id}), {when}. {served}",
        "## Why",
        _fenced(f"{type(error).__name__}: {words}"),
        "## What to do next",
        "\n".join(f"- {line}" for line in _next_steps(specialist, error, words)),
        "## The machine",
        "\n".join(f"- {line}" for line in _machine(shop)),
    ]
    if logs:
        parts += ["## Logs", "\n".join(f"- `{path}`" for path in logs)]
    return "\n\n".join(parts) + "\n"


def _next_steps(specialist: Specialist, error: Exception, words: str) -> list[str]:
    lines = [advice.text for advice in _ADVICE if advice.fits(error, words)]
    if specialist.step in (Step.DATASET_BUILT, Step.TRAINED):
        lines.append(f"Take it up where it stopped: `apprentice jobs resume {specialist.slug}`.")
        lines.append(f"What it wrote while it ran: `apprentice jobs log {specialist.slug}`.")
    lines.append(f"Try it again from the data: `apprentice tick --retry {specialist.slug}`.")
    return lines


def _machine(shop: Workshop) -> list[str]:
    lines = []
    home = shop.settings.home
    if home.exists():
        lines.append(f"Free on the disk of {home}: {shutil.disk_usage(home).free / 1e9:.1f} GB")
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read(_MEMORY_INFO))
    if found:
        lines.append(f"Free memory: {int(found.group(1)) / 1e6:.1f} GB")
    return lines + _gpus()


def _gpus() -> list[str]:
    """Return the free memory of each GPU now, which may not be what it was then."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ["GPU: none found (no nvidia-smi)"]
    query = "--query-gpu=name,memory.free,memory.total"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SMI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ["GPU: nvidia-smi did not answer"]
    names = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 2]
    return [
        f"GPU {name.strip()}: {free.strip()} of {total.strip()} free" for name, free, total in names
    ] or ["GPU: none found by nvidia-smi"]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fenced(text: str) -> str:
    shown = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} [...]"
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{shown}\n{fence}"
