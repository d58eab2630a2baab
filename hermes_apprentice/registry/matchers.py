"""Signed matchers, numbered; the newest counts, a few older ones stay on disk.

``<root>/_matcher/<number>/`` holds one. Knows nothing about what a matcher is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from hermes_apprentice.domain.specialist import FileDigest
from hermes_apprentice.errors import RegistryError, SignatureError, UnknownVersionError
from hermes_apprentice.registry import sealed
from hermes_apprentice.registry.shelf import FORMAT, NUMBER, Shelf, folders, translated
from hermes_apprentice.registry.signing import Document, canonical
from hermes_apprentice.storage.files import new_folder

MATCHER_FOLDER = "_matcher"
MATCHERS_KEPT = 3

_DIGESTS = TypeAdapter(tuple[FileDigest, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredMatcher:
    """A matcher whose signature was in order, with the verified bytes of its files."""

    number: int
    """Counts up with every fit."""

    details: Mapping[str, Any]
    """What whoever published it wrote beside the files."""

    files: Mapping[str, bytes]
    """The contents, by name."""


class Matchers(Shelf):
    """The matchers of a registry."""

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
        with self.writing():
            numbers = self._matchers()
            number = max((above, *numbers)) + 1
            target = self.root / MATCHER_FOLDER / str(number)
            with translated("the matcher"), new_folder(target) as folder:
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
        with self.writing():
            self._drop_matchers(self._matchers())

    def _drop_matchers(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            with translated("the registry"):
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
        found = folders(self.root / MATCHER_FOLDER)
        return tuple(sorted(int(name) for name in found if NUMBER.fullmatch(name)))
