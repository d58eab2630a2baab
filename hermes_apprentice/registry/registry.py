"""Signed, numbered, unchangeable versions of specialists, and which of them is the current one.

``<root>/<slug>/<version>/`` holds a version (see ``sealed`` for the files inside),
``<root>/<slug>/current.json`` the alias, ``<root>/_matcher/<number>/`` the matcher. Every opening
verifies everything. Several processes may share the folder. Knows nothing about what a model is.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.errors import RegistryError, SignatureError, UnknownVersionError
from hermes_apprentice.registry import sealed
from hermes_apprentice.registry.matchers import Matchers
from hermes_apprentice.registry.shelf import FORMAT, NUMBER, folders, translated
from hermes_apprentice.registry.signing import Document, canonical
from hermes_apprentice.storage.files import new_folder, write_atomically

ALIAS_FILE = "current.json"

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_MANIFEST = TypeAdapter(Manifest)


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


class _Alias(NamedTuple):
    history: tuple[int, ...]
    highest: int


class Registry(Matchers):
    """The registry in one folder."""

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
        with self.writing():
            version = max((above, self._highest(draft.slug), *self.versions(draft.slug))) + 1
            target = self.root / draft.slug / str(version)
            with translated(f"version {version} of '{draft.slug}'"), new_folder(target) as folder:
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
        if not NUMBER.fullmatch(str(version)) or not folder.is_dir():
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
        return tuple(name for name in folders(self.root) if _SLUG.fullmatch(name))

    def versions(self, slug: str) -> tuple[int, ...]:
        """Return the numbers of a specialist's versions, ascending; they are not verified here."""
        check_slug(slug)
        found = folders(self.root / slug)
        return tuple(sorted(int(name) for name in found if NUMBER.fullmatch(name)))

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

        An alias that cannot be verified, such as after its key was distrusted, is replaced.

        Raises:
            UnknownVersionError: There is no such version.
            SignatureError: It cannot be verified.
        """
        self.open_version(slug, version)
        with self.writing():
            try:
                history = self._alias(slug).history
            except SignatureError:
                history = ()  # nobody vouches for what came before
            if not history or history[-1] != version:
                self._write_alias(slug, (*history, version))

    def rollback(self, slug: str) -> int:
        """Go back to the version that was current before, and return it.

        Raises:
            UnknownVersionError: There was none before.
            SignatureError: It cannot be verified.
        """
        with self.writing():
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
        with self.writing():
            history = self._alias(slug).history
            if version not in self.versions(slug):
                raise UnknownVersionError(f"the registry has no version {version} of '{slug}'")
            if history and history[-1] == version and not current:
                raise RegistryError(f"version {version} of '{slug}' is the current one; it stays")
            # First the signed note that the number was used, then the files.
            self._write_alias(slug, tuple(item for item in history if item != version))
            with translated(f"version {version} of '{slug}'"):
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
        highest = max((self._highest(slug), *self.versions(slug)))
        payload = canonical({"highest": highest, "history": history[-100:], "slug": slug})
        record = {
            "alias": payload.decode(),
            "signature": self._keys.sign(Document.ALIAS, payload).decode(),
        }
        with translated(f"the alias of '{slug}'"):
            write_atomically(self.root / slug / ALIAS_FILE, canonical(record))


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
