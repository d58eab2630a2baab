"""Export a generator for other servers: merged with its base in 16 bit, or as one GGUF file.

The work is done in the training environment, GGUF by llama.cpp's own converter. Knows nothing
about registries.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from hermes_apprentice.errors import ConfigError, MissingExtraError, TrainingError
from hermes_apprentice.inference.generator import ADAPTER_DIR, CARD_FILE, read_card
from hermes_apprentice.settings import child_environment

CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf")
"""Names of llama.cpp's converter."""

EXTRA = "gguf"
"""The extra that has what the converter imports."""

_IMPORTED = ("sentencepiece", "yaml", "requests", "tqdm")
"""What it needs beside torch and transformers; its own ``gguf`` lies beside it."""


def export_merged(python: str, artefact: Path, target: Path) -> None:
    """Write a generator and its base as one 16-bit model to the folder ``target``.

    Args:
        python: Interpreter of the training environment.
        artefact: Folder with card and adapter.
        target: Must not be there yet.

    Raises:
        ConfigError: There is something at ``target`` already.
        TrainingError: It failed, and why.
    """
    if target.exists():
        raise ConfigError(f"{target} is there already; name a new folder")
    card = read_card(artefact)
    module = "hermes_apprentice.trainer.merging"
    _do(
        [
            *(python, "-m", module, card.base_model),
            *(str(artefact / ADAPTER_DIR), str(artefact / CARD_FILE), str(target)),
        ],
        "merging",
    )


def export_gguf(python: str, artefact: Path, target: Path, converter: str = "") -> None:
    """Write a generator and its base as one 16-bit GGUF file.

    Args:
        python: Interpreter of the training environment; runs the converter.
        artefact: Folder with card and adapter.
        target: The file; must not be there yet.
        converter: Path of llama.cpp's converter, or of the sources it lies in; empty looks for it.

    Raises:
        ConfigError: The converter is not there, or there is something at ``target`` already.
        MissingExtraError: The training environment lacks what the converter imports.
        TrainingError: It failed, and why.
    """
    command = _converting(python, find_converter(converter))
    if target.exists():
        raise ConfigError(f"{target} is there already; name a new file")
    _check(python, command)
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=target.resolve().parent) as scratch:
        merged = Path(scratch) / "model"
        export_merged(python, artefact, merged)
        half = Path(scratch) / "model.gguf"
        _do(
            [*command, str(merged), "--outfile", str(half), "--outtype", "f16"],
            "the conversion to GGUF",
        )
        if not half.is_file():
            raise TrainingError("the converter ended well but wrote no file")
        half.replace(target)


def find_converter(setting: str) -> Path:
    """Return llama.cpp's converter.

    Raises:
        ConfigError: It is not there; says what to install.
    """
    if setting:
        path = Path(setting).expanduser()
        for candidate in (path, *(path / name for name in CONVERTERS)):
            if candidate.is_file():
                return candidate
        raise ConfigError(
            f"generator.gguf_converter is {setting}, which is neither {CONVERTERS[0]} nor a folder "
            "that holds it"
        )
    for name in CONVERTERS:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise ConfigError(
        f"GGUF export needs {CONVERTERS[0]} of llama.cpp, which is not on PATH: get llama.cpp's "
        "sources, install 'hermes-apprentice[gguf]' in the training environment, and set "
        "generator.gguf_converter to their folder"
    )


def _converting(python: str, converter: Path) -> list[str]:
    """Return the command that runs a converter; packages wrap the script into a program."""
    return [python, str(converter)] if converter.suffix == ".py" else [str(converter)]


def _check(python: str, command: list[str]) -> None:
    """Find out before gigabytes are merged whether the converter can run.

    Raises:
        MissingExtraError: Something that it imports is missing.
        TrainingError: It does not start.
    """
    missing = []
    if command[0] == python:
        asked = (
            f"import importlib.util as u; print(*[x for x in {_IMPORTED} if not u.find_spec(x)])"
        )
        missing = _do([python, "-c", asked], "the training environment").split()
    if missing:
        raise MissingExtraError(
            f"the conversion to GGUF ({', '.join(missing)} not found by {python})", EXTRA
        )
    _do([*command, "--help"], f"{command[-1]}, asked for its help,")


def _do(command: list[str], what: str) -> str:
    """Run a command and return what it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=child_environment(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false"),
        )
    except OSError as exc:
        raise TrainingError(f"{what} could not be started: {exc}") from exc
    if done.returncode == 0:
        return done.stdout
    last = done.stdout.strip().splitlines()[-1:]
    try:
        problem = str(json.loads(last[0])["error"])
    except (IndexError, ValueError, KeyError, TypeError):
        problem = " | ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
    raise TrainingError(f"{what} failed: {problem}")
