"""The training environment: a virtual environment of its own that has torch.

Torch is large and nothing else needs it, so fine-tuning runs in another
interpreter. This module finds that interpreter, or makes the environment.
Knows nothing about training.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from hermes_apprentice.errors import ConfigError, TrainingError

ENVIRONMENT_DIR = ".venv-train"
"""Name of the folder in which it is looked for and made."""

_NEEDED = ("torch", "safetensors", "tokenizers", "hermes_apprentice")
_CHECK = (
    "from importlib.util import find_spec; import sys; "
    f"sys.exit(not all(map(find_spec, {_NEEDED})))"
)
_CHECK_SECONDS = 60


def find_train_python(setting: str) -> str | None:
    """Return the interpreter of the training environment, or ``None`` where there is none.

    Args:
        setting: What the operator configured; empty looks beside the project's
            checkout and beside the running environment.

    Raises:
        ConfigError: An interpreter is configured that cannot train.
    """
    if setting:
        path = Path(setting).expanduser()
        if not can_train(path):
            raise ConfigError(
                f"trainer.train_python is {setting}, which does not run or lacks torch or "
                "hermes-apprentice; install 'hermes-apprentice[train]' there"
            )
        return str(path)
    for path in _usual_places():
        if can_train(path):
            return str(path)
    return None


def can_train(python: Path) -> bool:
    """Whether an interpreter runs and finds what training needs; torch is not imported."""
    if not python.is_file():
        return False
    try:
        # Isolated, so that the current folder does not lend it packages it does not have.
        done = subprocess.run(
            [str(python), "-I", "-c", _CHECK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def make_environment(folder: Path, say: Callable[[str], None] = print) -> str:
    """Make the training environment in ``folder`` and return its interpreter.

    Packages come from wherever pip is configured to get them; how large they are depends on
    the build of torch there.

    Raises:
        TrainingError: A step failed; the message has the end of pip's output.
    """
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    say(f"making the training environment in {folder}")
    _do([sys.executable, "-m", "venv", str(folder)])
    say("installing torch; this takes a few minutes")
    # Torch first: other packages would pull in a build of it for accelerators.
    install = [str(python), "-m", "pip", "install", "--quiet", *_constraints()]
    _do([*install, "torch"])
    _do([*install, *_ourselves()])
    if not can_train(python):
        raise TrainingError(f"the environment in {folder} lacks torch")
    return str(python)


def _usual_places() -> Iterator[Path]:
    checkout = Path(__file__).resolve().parents[2]
    for parent in dict.fromkeys((checkout, Path(sys.prefix).parent)):
        yield parent / ENVIRONMENT_DIR / "bin" / "python"
        yield parent / ENVIRONMENT_DIR / "Scripts" / "python.exe"


def _constraints() -> list[str]:
    """Return pip's arguments for the versions that the checkout was tested with."""
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    return ["-c", str(path)] if path.is_file() else []


def _ourselves() -> list[str]:
    """Return pip's arguments for this very package, from its checkout where there is one."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file():
        return ["-e", f"{checkout}[train,generate]"]
    return [f"hermes-apprentice[train,generate]=={metadata.version('hermes-apprentice')}"]


def _do(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as exc:
        raise TrainingError(f"{command[0]} cannot be run: {exc}") from exc
    if done.returncode != 0:
        end = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise TrainingError(f"{' '.join(command[1:5])} failed: {end}")
