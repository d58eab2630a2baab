"""A folder of files under a signed list of their digests.

On disk: ``manifest.json`` (the list and whatever else is signed), ``manifest.sig``, and the files
in ``files/``. Nothing may be missing, changed or added, and nothing may be a link.

**No gap between checking and loading.** Files on the disk can change after they were checked. So
what is loaded is never the folder itself: `checkout` copies it into a new folder that only this
user can read and compares the digests of the bytes as they are copied; `read` returns the very
bytes that it compared. Knows nothing about what the documents say.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from hermes_apprentice.domain.specialist import FileDigest
from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.registry.signing import Document, Keys

DOCUMENT = "manifest.json"
SIGNATURE = "manifest.sig"
FILES = "files"
MAX_DOCUMENT_BYTES = 8_000_000
MAX_FILES = 10_000

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}")
_MAX_DEPTH = 8
_BLOCK = 1 << 20


def is_plain(path: str) -> bool:
    """Whether a relative path is one that the registry accepts."""
    parts = path.split("/")
    return 0 < len(parts) <= _MAX_DEPTH and all(_PART.fullmatch(part) for part in parts)


def take_in(source: Path, folder: Path) -> tuple[FileDigest, ...]:
    """Copy every file below ``source`` to ``folder/files`` and return their digests.

    Raises:
        RegistryError: There is no file, or something that is no plain file or has an odd name.
    """
    if source.is_symlink() or not source.is_dir():
        raise RegistryError(f"{source} is not a folder with an artefact")
    digests = []
    for path in _walk(source):
        target = folder / FILES / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open(source / path) as reader, target.open("xb") as writer:
            digests.append(_copy(reader, writer, path))
    if not digests:
        raise RegistryError(f"{source} holds no file; nothing was published")
    return tuple(sorted(digests, key=lambda digest: digest.path))


def digests_of(files: Mapping[str, bytes]) -> tuple[FileDigest, ...]:
    """Return the digests of files in memory, sorted by path."""
    return tuple(
        FileDigest(path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for path, data in sorted(files.items())
    )


def seal(folder: Path, kind: Document, payload: bytes, keys: Keys) -> None:
    """Write the document and its signature."""
    (folder / DOCUMENT).write_bytes(payload)
    (folder / SIGNATURE).write_bytes(keys.sign(kind, payload))


def open_document(folder: Path, kind: Document, keys: Keys, what: str) -> bytes:
    """Return the bytes of a folder's document, after verifying its signature.

    Raises:
        SignatureError: It is missing, unsigned, or changed.
    """
    payload = _read_small(folder / DOCUMENT, what)
    keys.verify(kind, payload, _read_small(folder / SIGNATURE, what), what)
    return payload


def check(folder: Path, files: Iterable[FileDigest], what: str) -> None:
    """Compare every file with its digest.

    Raises:
        SignatureError: A file is missing, changed or extra.
    """
    listed = _listed(folder, files, what)
    for digest in listed:
        with _open_listed(folder, digest, what) as reader:
            _compare(_copy(reader, None, digest.path), digest, what)


def read(folder: Path, files: Iterable[FileDigest], what: str) -> dict[str, bytes]:
    """Return the contents of the files, compared with their digests.

    Raises:
        SignatureError: A file is missing, changed or extra.
    """
    contents = {}
    for digest in _listed(folder, files, what):
        with _open_listed(folder, digest, what) as reader:
            data = reader.read(digest.size + 1)
        found = FileDigest(
            path=digest.path, sha256=hashlib.sha256(data).hexdigest(), size=len(data)
        )
        _compare(found, digest, what)
        contents[digest.path] = data
    return contents


@contextmanager
def checkout(
    folder: Path, files: Iterable[FileDigest], what: str, within: Path | None = None
) -> Iterator[Path]:
    """Give a private copy of the files, its bytes compared while copying; gone afterwards.

    Args:
        folder: The sealed folder.
        files: What was signed.
        what: What messages call it.
        within: Where the copy is made; by default in the folder for temporary files.

    Raises:
        SignatureError: A file is missing, changed or extra.
        RegistryError: The copy could not be written.
    """
    try:
        holder = tempfile.TemporaryDirectory(
            prefix="apprentice-", dir=within, ignore_cleanup_errors=True
        )
    except OSError as exc:
        raise RegistryError(f"{what} could not be copied to check it: {exc}") from exc
    with holder as name:
        private = Path(name)
        try:
            for digest in _listed(folder, files, what):
                target = private / digest.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with _open_listed(folder, digest, what) as reader, target.open("xb") as writer:
                    _compare(_copy(reader, writer, digest.path), digest, what)
        except OSError as exc:
            raise RegistryError(f"{what} could not be copied to {private}: {exc}") from exc
        yield private


def _walk(root: Path) -> Iterator[str]:
    """Yield the relative path of every file; refuse whatever else lies there."""
    count = 0
    pending = [PurePosixPath()]
    while pending:
        inside = pending.pop()
        for entry in sorted(os.scandir(root / inside), key=lambda entry: entry.name):
            path = str(inside / entry.name)
            if not is_plain(path):
                raise RegistryError(
                    f"the name {path!r} is not accepted: use letters, digits, '.', '_' and '-'"
                )
            if entry.is_dir(follow_symlinks=False):
                pending.append(inside / entry.name)
            elif entry.is_file(follow_symlinks=False):
                count += 1
                if count > MAX_FILES:
                    raise RegistryError(f"{root} holds more than {MAX_FILES} files")
                yield path
            else:
                raise RegistryError(f"{path!r} is a link or no plain file; it is not accepted")


def _listed(folder: Path, files: Iterable[FileDigest], what: str) -> tuple[FileDigest, ...]:
    """Return the digests, after checking that exactly these files are there."""
    listed = tuple(files)
    wanted = {digest.path for digest in listed}
    if len(wanted) != len(listed) or not all(is_plain(path) for path in wanted):
        raise SignatureError(f"the list of files of {what} is not acceptable; remove it")
    try:
        top = {entry.name for entry in os.scandir(folder)}
        root = folder / FILES
        if root.is_symlink():
            raise SignatureError(f"{what} is a link; it is not served. Remove it")
        found = set(_walk(root))
    except SignatureError:
        raise
    except (OSError, RegistryError) as exc:
        raise SignatureError(f"{what} is not as it was signed: {exc}; remove it") from exc
    extra = sorted((top - {DOCUMENT, SIGNATURE, FILES}) | (found - wanted))
    missing = sorted(wanted - found)
    if extra or missing:
        problem = f"has the unsigned file {extra[0]!r}" if extra else f"lacks {missing[0]!r}"
        raise SignatureError(f"{what} {problem}; it is not served. Train it again, or remove it")
    return listed


def _open(path: Path) -> BinaryIO:
    """Open a file for reading, but no link and nothing that blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RegistryError(f"{path.name} is no plain file")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _open_listed(folder: Path, digest: FileDigest, what: str) -> BinaryIO:
    try:
        return _open(folder / FILES / digest.path)
    except (OSError, RegistryError) as exc:
        raise SignatureError(f"{digest.path} of {what} cannot be read; it is not served") from exc


def _read_small(path: Path, what: str) -> bytes:
    try:
        with _open(path) as reader:
            data = reader.read(MAX_DOCUMENT_BYTES + 1)
    except (OSError, RegistryError) as exc:
        raise SignatureError(
            f"{path.name} of {what} is missing or unreadable; train it again, or remove it"
        ) from exc
    if len(data) > MAX_DOCUMENT_BYTES:
        raise SignatureError(f"{path.name} of {what} is too large to be ours; remove it")
    return data


def _copy(reader: BinaryIO, writer: BinaryIO | None, path: str) -> FileDigest:
    digest, size = hashlib.sha256(), 0
    while block := reader.read(_BLOCK):
        digest.update(block)
        size += len(block)
        if writer is not None:
            writer.write(block)
    return FileDigest(path=path, sha256=digest.hexdigest(), size=size)


def _compare(found: FileDigest, signed: FileDigest, what: str) -> None:
    if found != signed:
        raise SignatureError(
            f"{signed.path} of {what} is not the file that was signed; it is not served. "
            "Train it again, or remove it"
        )
