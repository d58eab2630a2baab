"""What this machine has for training a generator: GPUs with free memory, and packages.

Looks only; a GPU that other programs use is never taken from them. Knows nothing about recipes.
"""

from __future__ import annotations

import json
import subprocess
from typing import NamedTuple

from hermes_apprentice.errors import ArtefactError

PACKAGES = ("torch", "transformers", "peft", "safetensors", "hermes_apprentice")
"""What training a generator needs at least."""

OPTIONAL = ("unsloth", "bitsandbytes")
"""What makes it faster and smaller on CUDA."""

_MIB_PER_GB = 1e9 / 2**20
_SECONDS = 120
_PROBE = """
import json, os, sys
from importlib.util import find_spec
found = [name for name in sys.argv[1:] if find_spec(name)]
cuda = []
# Importing torch takes seconds, so it is not done where there is no driver either.
if "torch" in found and any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))):
    import torch
    if torch.cuda.is_available():
        for place in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(place)
            name = torch.cuda.get_device_name(place)
            cuda.append([place, name, free // 2**20, total // 2**20])
print(json.dumps({"packages": found, "cuda": cuda}))
"""


class Gpu(NamedTuple):
    """One GPU."""

    number: int
    """Its number among those that torch sees."""

    name: str
    """What its maker calls it."""

    free_mib: int
    """Memory that nothing uses."""

    total_mib: int
    """All of its memory."""

    @property
    def free_gb(self) -> float:
        """Free memory in gigabytes of 10^9 bytes."""
        return self.free_mib / _MIB_PER_GB


class Environment(NamedTuple):
    """What an interpreter can do."""

    packages: frozenset[str]
    """Which of `PACKAGES` and `OPTIONAL` it finds."""

    gpus: tuple[Gpu, ...]
    """The GPUs that its torch can use."""

    @property
    def missing(self) -> tuple[str, ...]:
        """What training a generator needs and is not there."""
        return tuple(name for name in PACKAGES if name not in self.packages)

    @property
    def best_gpu(self) -> Gpu | None:
        """The GPU with the most free memory."""
        return max(self.gpus, key=lambda gpu: gpu.free_mib, default=None)


def find_gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of this machine, none where ``nvidia-smi`` does not run."""
    query = "--query-gpu=index,name,memory.free,memory.total"
    return read_gpus(_output(["nvidia-smi", query, "--format=csv,noheader,nounits"]))


def read_gpus(text: str) -> tuple[Gpu, ...]:
    """Read what ``nvidia-smi`` prints, one GPU per line; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        try:
            index, *name, free, total = parts
            found.append(Gpu(int(index), ", ".join(name), int(free), int(total)))
        except ValueError:
            continue
    return tuple(found)


def probe(python: str) -> Environment:
    """Return what the interpreter ``python`` can do; nothing if it does not run.

    Torch is asked for free memory, because it counts only the GPUs that it can use.
    """
    command = [python, "-I", "-c", _PROBE, *PACKAGES, *OPTIONAL]
    try:
        said = json.loads(_output(command).strip().splitlines()[-1])
        gpus = tuple(
            Gpu(int(index), str(name), int(free), int(total))
            for index, name, free, total in said["cuda"]
        )
        return Environment(frozenset(map(str, said["packages"])), gpus)
    except (ValueError, KeyError, TypeError, IndexError):
        return Environment(frozenset(), ())


def serving_device(python: str, *, on_cpu: bool) -> str:
    """Return the device that generators run on, ``cuda`` or ``cpu``.

    Raises:
        ArtefactError: There is no GPU that the interpreter's torch can use, and the CPU may not
            be used.
    """
    if probe(python).gpus:
        return "cuda"
    if on_cpu:
        return "cpu"
    raise ArtefactError(
        "generators need a GPU that torch can use, and there is none; generator.on_cpu = true "
        "runs them on the CPU"
    )


def _output(command: list[str]) -> str:
    """Return what a command prints, or nothing where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd="/",  # so that an interpreter finds nothing in the current folder
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
