"""One version of a specialist as one signed file, to be carried to another machine.

A tar archive of plain files in a fixed order with fixed times, so that the same version gives the
same bytes. The first two files are a list of all others with their digests, and its signature.
**Nothing is parsed before the signature was verified**, and from then on the archive must be,
byte for byte, the one that this list describes: each header is compared with the only one that we
would write. So a link, a second entry of one name, an entry too many, or compressed data
cannot occur in a file that is accepted, whatever tar allows.

Knows nothing about patterns; whoever writes a bundle may add values and small files of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from hermes_apprentice.domain.specialist import FileDigest, Manifest
from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.registry import sealed
from hermes_apprentice.registry.registry import RegisteredVersion, from_canonical
from hermes_apprentice.registry.shelf import FORMAT as MANIFEST_FORMAT
from hermes_apprentice.registry.signing import Document, Keys, canonical, signer_of
from hermes_apprentice.storage.files import flush_folder

FORMAT = 1
MAX_BYTES = 32 << 30
MAX_EXTRA_BYTES = 64 << 20

_INDEX = "bundle.json"
_SIGNATURE = "bundle.sig"
_EXTRA = "extra"
_HEADER = 512
_BLOCK = 1 << 20
_DIGESTS = TypeAdapter(tuple[FileDigest, ...])
_WHAT = "the exported specialist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose signatures and bytes were in order."""

    manifest: Manifest
    """The version, as the other machine signed it."""

    manifest_sha256: str
    """Digest of the signed bytes, which tells this version from every other."""

    signer: str
    """Id of the key that signed the bundle."""

    about: Mapping[str, Any]
    """The values that were added; signed, but not checked for their meaning."""

    extras: Mapping[str, bytes]
    """The small files that were added, by name."""

    folder: Path
    """A private copy of the version's files."""


def write_bundle(
    path: Path,
    version: RegisteredVersion,
    about: Mapping[str, Any],
    extras: Mapping[str, bytes],
    keys: Keys,
) -> int:
    """Write a version with what was added as one file, and return its size in bytes.

    Raises:
        RegistryError: The file exists, a name or a size does not fit, or the disk refused.
        SignatureError: The version is not as it was signed.
    """
    if path.exists():
        raise RegistryError(f"{path} exists already; remove it, or choose another name")
    manifest = sealed.open_document(version.folder, Document.MANIFEST, keys, _WHAT)
    if from_canonical(manifest) != version.manifest:
        raise SignatureError(f"{_WHAT} changed while it was read; nothing was written")
    small = {
        sealed.DOCUMENT: manifest,
        sealed.SIGNATURE: (version.folder / sealed.SIGNATURE).read_bytes(),
        **{f"{_EXTRA}/{name}": data for name, data in extras.items()},
    }
    large = tuple(
        FileDigest(path=f"{sealed.FILES}/{one.path}", sha256=one.sha256, size=one.size)
        for one in version.manifest.files
    )
    listed = (*sealed.digests_of(small), *large)
    index = canonical(
        {"about": dict(about), "files": _DIGESTS.dump_python(listed), "format": FORMAT}
    )
    with version.checkout() as folder:
        try:
            with _new_file(path) as stream:
                for name, data in (
                    (_INDEX, index),
                    (_SIGNATURE, keys.sign(Document.BUNDLE, index)),
                    *((one.path, small[one.path]) for one in sealed.digests_of(small)),
                ):
                    stream.write(_header(name, len(data)) + data + _padding(len(data)))
                for one in large:
                    stream.write(_header(one.path, one.size))
                    with (folder / one.path.removeprefix(f"{sealed.FILES}/")).open("rb") as reader:
                        shutil.copyfileobj(reader, stream, _BLOCK)
                    stream.write(_padding(one.size))
                stream.write(bytes(2 * _HEADER))
        except OSError as exc:
            raise RegistryError(f"{path} could not be written: {exc}") from exc
    return path.stat().st_size


@contextmanager
def open_bundle(path: Path, keys: Keys) -> Iterator[Bundle]:
    """Give what a file holds, verified; its private copy is gone afterwards.

    Raises:
        SignatureError: It is not signed by a trusted key, or not as it was signed.
        RegistryError: It is no such file, too large, of another format, or the disk refused.
    """
    with tempfile.TemporaryDirectory(prefix="apprentice-") as private:
        try:
            with path.open("rb") as stream:
                bundle = _read(stream, path, keys, Path(private))
        except OSError as exc:
            raise RegistryError(f"{path} cannot be read, or not be unpacked: {exc}") from exc
        yield bundle


def _read(stream: BinaryIO, path: Path, keys: Keys, private: Path) -> Bundle:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_BYTES:
        raise RegistryError(f"{path} is larger than {MAX_BYTES >> 30} GiB; it is refused")
    index = _first(stream, _INDEX, path)
    signature = _first(stream, _SIGNATURE, path)
    keys.verify(Document.BUNDLE, index, signature, str(path))
    listed, about = _read_index(index, path)
    _require_room(listed, size, path)
    small = _unpack(stream, listed, private, path)
    return Bundle(
        manifest=_manifest(small, listed, keys, path),
        manifest_sha256=hashlib.sha256(small[sealed.DOCUMENT]).hexdigest(),
        signer=signer_of(signature),
        about=about,
        extras={
            name.removeprefix(f"{_EXTRA}/"): data
            for name, data in small.items()
            if name.startswith(f"{_EXTRA}/")
        },
        folder=private / sealed.FILES,
    )


# --- the layout -----------------------------------------------------------------------


def _header(name: str, size: int) -> bytes:
    """Return the only header that an entry may have."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, 0
    try:
        data = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError as exc:
        raise RegistryError(f"{name[:80]!r} with {size} bytes does not fit: {exc}") from exc
    return data


def _padding(size: int) -> bytes:
    return bytes(-size % _HEADER)


def _first(stream: BinaryIO, name: str, path: Path) -> bytes:
    """Return one of the two entries before the list is known."""
    header = stream.read(_HEADER)
    try:
        size = int(header[124:135].decode("ascii"), 8)
    except ValueError:
        size = -1
    if not 0 <= size <= sealed.MAX_DOCUMENT_BYTES or header != _header(name, size):
        raise RegistryError(
            f"{path} is no specialist that was written by: apprentice specialists export"
        )
    data = _exactly(stream, size, path)
    _skip(stream, size, path)
    return data


def _skip(stream: BinaryIO, size: int, path: Path) -> None:
    if stream.read(-size % _HEADER) != _padding(size):
        raise _changed(path, "has bytes where none belong")


def _exactly(stream: BinaryIO, size: int, path: Path) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise _changed(path, "is cut off")
    return data


def _changed(path: Path, how: str) -> SignatureError:
    return SignatureError(f"{path} {how}, so it is not as it was signed; export it again")


# --- reading --------------------------------------------------------------------------


def _read_index(index: bytes, path: Path) -> tuple[tuple[FileDigest, ...], dict[str, Any]]:
    """Return the list of files; it is signed, yet whoever signed it may mean harm."""
    try:
        record = json.loads(index)
        layout = record["format"]
        if layout != FORMAT:
            raise RegistryError(
                f"{path} has format {layout!r}, this release reads {FORMAT}; use the release that "
                "wrote it"
            )
        listed = _DIGESTS.validate_python(record["files"])
        about = record["about"]
        if not isinstance(about, dict):
            raise ValueError("no values")
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise RegistryError(f"{path} has a layout that this release does not know") from exc
    names = [one.path for one in listed]
    odd = next((name for name in names if not _is_expected(name)), None)
    if odd is not None:
        raise RegistryError(f"{path} holds {odd[:80]!r}, a name that is not accepted")
    if len({name.casefold() for name in names}) != len(names):
        raise RegistryError(f"{path} holds two files of one name; it is refused")
    if len(names) > sealed.MAX_FILES:
        raise RegistryError(f"{path} holds more than {sealed.MAX_FILES} files; it is refused")
    return listed, about


def _is_expected(name: str) -> bool:
    if name in (sealed.DOCUMENT, sealed.SIGNATURE):
        return True
    folder, _, rest = name.partition("/")
    return folder in (sealed.FILES, _EXTRA) and sealed.is_plain(rest)


def _require_room(listed: tuple[FileDigest, ...], size: int, path: Path) -> None:
    if any(one.size < 0 for one in listed) or sum(one.size for one in listed) > size:
        raise RegistryError(f"{path} claims to hold more than it does; it is refused")
    small = sum(one.size for one in listed if not one.path.startswith(f"{sealed.FILES}/"))
    if small > MAX_EXTRA_BYTES:
        raise RegistryError(f"{path} holds more beside the model than is accepted; it is refused")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise RegistryError(
            f"{path} needs {size / 1e9:.1f} GB in {tempfile.gettempdir()}, where {free / 1e9:.1f} "
            "GB are free"
        )


def _unpack(
    stream: BinaryIO, listed: tuple[FileDigest, ...], private: Path, path: Path
) -> dict[str, bytes]:
    """Write the version's files below ``private`` and return the small ones."""
    small: dict[str, bytes] = {}
    for one in listed:
        if stream.read(_HEADER) != _header(one.path, one.size):
            raise _changed(path, f"has something else where {one.path!r} belongs")
        if one.path.startswith(f"{sealed.FILES}/"):
            digest = _copy(stream, one.size, private / one.path, path)
        else:
            small[one.path] = _exactly(stream, one.size, path)
            digest = hashlib.sha256(small[one.path]).hexdigest()
        if digest != one.sha256:
            raise _changed(path, f"has another {one.path!r} than the one that was signed")
        _skip(stream, one.size, path)
    if stream.read(2 * _HEADER) != bytes(2 * _HEADER) or stream.read(1):
        raise _changed(path, "has more in it than was signed")
    return small


def _copy(stream: BinaryIO, size: int, target: Path, path: Path) -> str:
    digest, left = hashlib.sha256(), size
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as writer:
        while left:
            block = _exactly(stream, min(left, _BLOCK), path)
            digest.update(block)
            writer.write(block)
            left -= len(block)
    return digest.hexdigest()


def _manifest(
    small: Mapping[str, bytes], listed: tuple[FileDigest, ...], keys: Keys, path: Path
) -> Manifest:
    """Return the manifest, after verifying its own signature and that it lists these files."""
    if sealed.DOCUMENT not in small or sealed.SIGNATURE not in small:
        raise RegistryError(f"{path} holds no manifest; it is refused")
    payload = small[sealed.DOCUMENT]
    what = f"the manifest in {path}"
    keys.verify(Document.MANIFEST, payload, small[sealed.SIGNATURE], what)
    manifest = from_canonical(payload, what)
    if manifest.format != MANIFEST_FORMAT:
        raise RegistryError(
            f"{what} has format {manifest.format}, this release reads {MANIFEST_FORMAT}"
        )
    files = {
        FileDigest(path=one.path.removeprefix(f"{sealed.FILES}/"), sha256=one.sha256, size=one.size)
        for one in listed
        if one.path.startswith(f"{sealed.FILES}/")
    }
    if files != set(manifest.files):
        raise SignatureError(f"{what} lists other files than those in it; it is refused")
    return manifest


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a stream that becomes ``path`` only when the block succeeds; never replaces a file."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    flush_folder(path.parent)
