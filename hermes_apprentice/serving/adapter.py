"""One version's adapter, as a server is asked to load it.

Knows nothing about servers: only what lies in the version's private copy, what it must be, and
under which name it is served. A name carries the digest of the files, so that it never stands for
other weights; servers keep what they computed under a name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hermes_apprentice.domain.specialist import FileDigest
from hermes_apprentice.errors import AdapterError
from hermes_apprentice.inference.generator import (
    ADAPTER_CONFIG,
    ADAPTER_DIR,
    ADAPTER_WEIGHTS,
    GeneratorCard,
    read_card,
)

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Adapter:
    """An adapter, and how to know that it is the right one; each opening is one of its own."""

    slug: str
    """The specialist."""

    label: str
    """What messages call the version."""

    name: str
    """What it is served under."""

    folder: Path
    """The version's private copy, as long as the adapter may be loaded."""

    files: tuple[FileDigest, ...]
    """What must lie in it."""

    card: GeneratorCard
    """How it is asked, and what it answers to the canary."""

    @property
    def weights(self) -> Path:
        """The folder in PEFT's layout, for the server."""
        return self.folder / ADAPTER_DIR

    def check(self) -> None:
        """Compare every file with its digest.

        Raises:
            AdapterError: One is missing or changed; the adapter must not be loaded.
        """
        for file in self.files:
            if _digest(self.folder, file.path) != file:
                raise AdapterError(
                    f"{file.path} of {self.label} is not the file that was signed; it is not loaded"
                )


def open_adapter(
    folder: Path, *, slug: str, version: str, files: tuple[FileDigest, ...] | None = None
) -> Adapter:
    """Return the adapter in an artefact's private copy.

    Args:
        folder: The copy.
        slug: The specialist.
        version: Its number, or another word for a version that has none yet.
        files: What was signed; ``None`` takes what lies there now.

    Raises:
        ArtefactError: The card is missing or damaged.
        AdapterError: The adapter's weights or configuration are missing.
    """
    label = f"{slug} version {version}"
    card = read_card(folder)
    if files is None:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = tuple(_digest(folder, path.relative_to(folder).as_posix()) for path in paths)
    known = {file.path for file in files}
    for needed in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        if f"{ADAPTER_DIR}/{needed}" not in known:
            raise AdapterError(f"{label} has no {ADAPTER_DIR}/{needed}; train it again")
    return Adapter(
        slug=slug,
        label=label,
        name=f"{slug}-v{version}-{digest_of(files)[:12]}",
        folder=folder,
        files=files,
        card=card,
    )


def digest_of(files: Iterable[FileDigest]) -> str:
    """Return the sha256 over the paths and digests of files: it names an artefact."""
    lines = sorted(f"{file.path}\0{file.size}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(folder: Path, path: str) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    try:
        with (folder / path).open("rb") as reader:
            while block := reader.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as exc:
        raise AdapterError(f"{path} in {folder.name} cannot be read; it is not loaded") from exc
    return FileDigest(path=path, sha256=digest.hexdigest(), size=size)
