"""Signed, numbered, unchangeable versions of specialists, and which of them is the current one.

``<root>/<slug>/<version>/`` holds a version (see ``sealed`` for the files inside),
``<root>/<slug>/current.json`` the alias, ``<root>/_matcher/<number>/`` the matcher. Every opening
verifies everything. Several processes may share the folder. Knows nothing about what a model is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.specialist import FileDigest, Manifest
from hermes_apprentice.errors import RegistryError, SignatureError, UnknownVersionError
from hermes_apprentice.registry import sealed
from hermes_apprentice.registry.signing import Document, Keys, canonical
from hermes_apprentice.storage.files import new_folder, write_atomically

FORMAT = 1
MATCHER_FOLDER = "_matcher"
ALIAS_FILE = "current.json"
MATCHERS_KEPT = 3

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_MANIFEST = TypeAdapter(Manifest)
_DIGESTS = TypeAdapter(tuple[FileDigest, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A version whose signature and files were in order when it was opened."""

    manifest: Manifest
    """What was signed."""

    folder: Path
    """Where it lies. Never load from here: files can change after they were verified."""

    def checkout(self, within: Path | None = None) -> AbstractContextManager[Path]:
        """Give a private, verified copy of the artefact to load from; gone afterwards.

        Args:
            within: Where the copy is made; by default in the folder for temporary files.

        Raises:
            SignatureError: A file has changed since.
        """
        return sealed.checkout(self.folder, self.manifest.files, name_of(self.manifest), within)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredMatcher:
    """A matcher whose signature was in order, with the verified bytes of its files."""

    number: int
    """Counts up with every fit."""

    details: Mapping[str, Any]
    """What whoever published it wrote beside the files."""

    files: Mapping[str, bytes]
    """The contents, by name."""


class _Alias(NamedTuple):
    history: tuple[int, ...]
    highest: int


class Registry:
    """The registry in one folder."""

    def __init__(self, root: Path, keys: Keys) -> None:
        self.root = root
        self._keys = keys

    # -- versions -----------------------------------------------------------------

    def publish(self, artefact_dir: Path, draft: Manifest, above: int = 0) -> Manifest:
        """Sign an artefact as the next version of its specialist.

        Args:
            artefact_dir: The folder with the model's files; it is copied.
            draft: The manifest; its ``version`` and ``files`` are filled in here.
            above: A number that was used before, whatever the folder says by now. A number that
                was given twice would let the one signed version take the place of the other.

        Returns:
            The manifest as it was signed.

        Raises:
            RegistryError: The gate did not pass it, a name is odd, a file is a link, or the disk
                refused to write. Nothing was published.
        """
        check_slug(draft.slug)
        if not draft.verdict.passed:
            raise RegistryError(
                f"the gate did not pass '{draft.slug}', so it is not published; see its report"
            )
        with self._writing():
            version = max((above, self._highest(draft.slug), *self.versions(draft.slug))) + 1
            target = self.root / draft.slug / str(version)
            with _translated(f"version {version} of '{draft.slug}'"), new_folder(target) as folder:
                manifest = replace(
                    draft,
                    format=FORMAT,
                    version=version,
                    files=sealed.take_in(artefact_dir, folder),
                )
                payload = to_canonical(manifest)
                if from_canonical(payload) != manifest:
                    raise RegistryError("the manifest cannot be read back as it was written")
                sealed.seal(folder, Document.MANIFEST, payload, self._keys)
        return manifest

    def open_version(self, slug: str, version: int) -> RegisteredVersion:
        """Return a version, after verifying its signature, its place and every file.

        Raises:
            UnknownVersionError: There is no such version.
            SignatureError: Something is not as it was signed; it must not be served.
        """
        check_slug(slug)
        what = f"version {version} of '{slug}'"
        folder = self.root / slug / str(version)
        if folder.is_symlink() or folder.parent.is_symlink():
            raise SignatureError(f"{what} is a link; it is not served. Remove it")
        if not _NUMBER.fullmatch(str(version)) or not folder.is_dir():
            raise UnknownVersionError(
                f"the registry has no {what}; it has {self.versions(slug) or 'none'}"
            )
        manifest = from_canonical(
            sealed.open_document(folder, Document.MANIFEST, self._keys, what), what
        )
        if (manifest.slug, manifest.version) != (slug, version):
            raise SignatureError(
                f"{what} carries the manifest of {name_of(manifest)}; it was moved and is not "
                "served. Remove it"
            )
        if manifest.format != FORMAT:
            raise RegistryError(
                f"{what} has format {manifest.format}, this release reads {FORMAT}; "
                "train it again, or use the release that wrote it"
            )
        sealed.check(folder, manifest.files, what)
        return RegisteredVersion(manifest=manifest, folder=folder)

    def slugs(self) -> tuple[str, ...]:
        """Return the names of all specialists, sorted."""
        return tuple(name for name in _folders(self.root) if _SLUG.fullmatch(name))

    def versions(self, slug: str) -> tuple[int, ...]:
        """Return the numbers of a specialist's versions, ascending; they are not verified here."""
        check_slug(slug)
        found = _folders(self.root / slug)
        return tuple(sorted(int(name) for name in found if _NUMBER.fullmatch(name)))

    # -- aliases ------------------------------------------------------------------

    def alias(self, slug: str) -> int | None:
        """Return the current version of a specialist, ``None`` while it has none.

        Raises:
            SignatureError: The alias was changed by someone else.
        """
        history = self._alias(slug).history
        return history[-1] if history else None

    def set_alias(self, slug: str, version: int) -> None:
        """Make a version the current one, in one step for all readers.

        Raises:
            UnknownVersionError: There is no such version.
            SignatureError: It cannot be verified.
        """
        self.open_version(slug, version)
        with self._writing():
            history = self._alias(slug).history
            if not history or history[-1] != version:
                self._write_alias(slug, (*history, version))

    def rollback(self, slug: str) -> int:
        """Go back to the version that was current before, and return it.

        Raises:
            UnknownVersionError: There was none before.
            SignatureError: It cannot be verified.
        """
        with self._writing():
            history = self._alias(slug).history
            if len(history) < 2:
                raise UnknownVersionError(
                    f"'{slug}' has no earlier version to go back to; take it out of service with: "
                    f'apprentice reply "demote {slug}"'
                )
            self.open_version(slug, history[-2])
            self._write_alias(slug, history[:-1])
        return history[-2]

    def remove(self, slug: str, version: int, *, current: bool = False) -> None:
        """Delete a version; its number is never used again.

        Args:
            slug: The specialist.
            version: The version.
            current: Whether the current version may go, too; the one before it becomes current.

        Raises:
            RegistryError: It is the current version and may not go, or the disk refused.
            UnknownVersionError: There is no such version.
        """
        check_slug(slug)
        with self._writing():
            history = self._alias(slug).history
            if version not in self.versions(slug):
                raise UnknownVersionError(f"the registry has no version {version} of '{slug}'")
            if history and history[-1] == version and not current:
                raise RegistryError(f"version {version} of '{slug}' is the current one; it stays")
            # First the signed note that the number was used, then the files.
            self._write_alias(slug, tuple(item for item in history if item != version))
            with _translated(f"version {version} of '{slug}'"):
                shutil.rmtree(self.root / slug / str(version))

    def history(self, slug: str) -> tuple[int, ...]:
        """Return the versions that were current one after the other, the present one last.

        Raises:
            SignatureError: The alias was changed by someone else.
        """
        return self._alias(slug).history

    def _alias(self, slug: str) -> _Alias:
        check_slug(slug)
        what = f"the alias of '{slug}'"
        path = self.root / slug / ALIAS_FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return _Alias(history=(), highest=0)
        except OSError as exc:
            raise RegistryError(f"{what} cannot be read: {exc}") from exc
        try:
            record = json.loads(data)
            payload, signature = record["alias"].encode(), record["signature"].encode()
            self._keys.verify(Document.ALIAS, payload, signature, what)
            alias = json.loads(payload)
            history = tuple(int(version) for version in alias["history"])
            highest = int(alias.get("highest", max(history, default=0)))
            moved = alias["slug"] != slug
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise SignatureError(f"{what} is damaged; remove {path} and promote again") from exc
        if moved:
            raise SignatureError(f"{what} belongs to another specialist; remove {path}")
        return _Alias(history=history, highest=highest)

    def _highest(self, slug: str) -> int:
        try:
            return self._alias(slug).highest
        except SignatureError:
            return 0  # a damaged alias is reported where it is read; versions on disk still count

    def _write_alias(self, slug: str, history: tuple[int, ...]) -> None:
        highest = max((self._alias(slug).highest, *self.versions(slug)))
        payload = canonical({"highest": highest, "history": history[-100:], "slug": slug})
        record = {
            "alias": payload.decode(),
            "signature": self._keys.sign(Document.ALIAS, payload).decode(),
        }
        with _translated(f"the alias of '{slug}'"):
            write_atomically(self.root / slug / ALIAS_FILE, canonical(record))

    # -- the matcher --------------------------------------------------------------

    def publish_matcher(
        self,
        files: Mapping[str, bytes],
        details: Mapping[str, Any],
        above: int = 0,
        keep: int = MATCHERS_KEPT,
    ) -> int:
        """Sign the matcher's files and return their number.

        Args:
            files: Contents by name.
            details: Values that are signed with them.
            above: A number that was used before, whatever the folder says by now.
            keep: How many stay on disk, this one among them.

        Raises:
            RegistryError: A name is odd, there is no file, or the disk refused to write.
        """
        if not files or not all(sealed.is_plain(name) for name in files):
            raise RegistryError("a matcher needs files with plain names; nothing was published")
        with self._writing():
            numbers = self._matchers()
            number = max((above, *numbers)) + 1
            target = self.root / MATCHER_FOLDER / str(number)
            with _translated("the matcher"), new_folder(target) as folder:
                for name, data in files.items():
                    path = folder / sealed.FILES / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                digests = sealed.digests_of(files)
                payload = canonical(
                    {
                        "details": dict(details),
                        "files": _DIGESTS.dump_python(digests),
                        "format": FORMAT,
                        "number": number,
                    }
                )
                sealed.seal(folder, Document.MATCHER, payload, self._keys)
            self._drop_matchers(numbers[: max(0, len(numbers) + 1 - keep)])
        return number

    def drop_matchers(self) -> None:
        """Delete every matcher; requests go to the upstream until another one is published.

        Raises:
            RegistryError: The disk refused.
        """
        with self._writing():
            self._drop_matchers(self._matchers())

    def _drop_matchers(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            with _translated("the registry"):
                shutil.rmtree(self.root / MATCHER_FOLDER / str(number))

    def open_matcher(self, least: int = 0) -> RegisteredMatcher:
        """Return the newest matcher with the verified bytes of its files.

        Args:
            least: The newest number that is known to exist; an older one was put in its place.

        Raises:
            UnknownVersionError: None was published yet.
            SignatureError: It is not as it was signed, or older than it must be; it must not be
                used.
        """
        number = self.matcher_number()
        if number is None:
            raise UnknownVersionError("no matcher was published yet; run: apprentice tick")
        if number < least:
            raise SignatureError(
                f"matcher {number} is older than matcher {least}, which is gone from the registry; "
                "it is not used. Run: apprentice tick"
            )
        what = f"matcher {number}"
        folder = self.root / MATCHER_FOLDER / str(number)
        payload = sealed.open_document(folder, Document.MATCHER, self._keys, what)
        try:
            record = json.loads(payload)
            digests = _DIGESTS.validate_python(record["files"])
            details, written, layout = record["details"], record["number"], record["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise RegistryError(f"{what} has an unknown layout; run: apprentice tick") from exc
        if layout != FORMAT:
            raise RegistryError(f"{what} has format {layout}; run: apprentice tick")
        if written != number:
            raise SignatureError(f"{what} carries the number {written}; it was moved. Remove it")
        return RegisteredMatcher(
            number=number, details=details, files=sealed.read(folder, digests, what)
        )

    def matcher_number(self) -> int | None:
        """Return the number of the newest matcher; cheap, for noticing a change."""
        return max(self._matchers(), default=None)

    def _matchers(self) -> tuple[int, ...]:
        found = _folders(self.root / MATCHER_FOLDER)
        return tuple(sorted(int(name) for name in found if _NUMBER.fullmatch(name)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one process write at a time; the kernel lets go when it dies."""
        with _translated("the registry"):
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.root / ".lock").open("a")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def check_slug(slug: str) -> None:
    """Raise `RegistryError` unless ``slug`` is a name that is safe everywhere."""
    if not _SLUG.fullmatch(slug):
        raise RegistryError(
            f"{slug[:80]!r} is not a specialist's name: use up to 64 of a-z, 0-9 and '-'"
        )


def name_of(manifest: Manifest) -> str:
    """Return what messages call a version."""
    return f"version {manifest.version} of '{manifest.slug}'"


def to_canonical(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest that are signed.

    Raises:
        RegistryError: It holds a number that JSON does not know, or text that is no Unicode.
    """
    return canonical(_MANIFEST.dump_python(manifest))


def from_canonical(payload: bytes, what: str = "the manifest") -> Manifest:
    """Return the manifest in signed bytes.

    Raises:
        RegistryError: It has another layout.
    """
    try:
        return _MANIFEST.validate_json(payload)
    except ValidationError as exc:
        raise RegistryError(
            f"{what} has a layout that this release does not know; train it again"
        ) from exc


def _folders(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise RegistryError(f"{root} cannot be read: {exc}") from exc


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RegistryError(f"{what} could not be written: {exc}") from exc
