"""Ed25519 signatures over canonical JSON.

A signature names the key that made it and covers the kind of document together
with its bytes, so that a signed matcher can never pass for a signed manifest.
Public keys of earlier days stay in ``trusted``; what they signed stays valid.
Knows nothing about manifests, folders or versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.storage.files import flush_folder, write_atomically

PRIVATE_KEY = "signing.pem"
TRUSTED = "trusted"

_KEY_ID = re.compile(r"[0-9a-f]{16}")


class Document(StrEnum):
    """The kinds of documents that are signed."""

    MANIFEST = "manifest"
    """What makes up a version of a specialist."""

    MATCHER = "matcher"
    """What makes up the matcher."""

    ALIAS = "alias"
    """Which version of a specialist is the current one."""

    BUNDLE = "bundle"
    """What makes up a version that is carried to another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """One key to sign with, and all keys whose signatures count."""

    private: Ed25519PrivateKey = field(repr=False)
    """Signs."""

    trusted: Mapping[str, Ed25519PublicKey]
    """Verify, by key id; the signing key's own is among them."""

    @property
    def key_id(self) -> str:
        """The id of the signing key."""
        return key_id(self.private.public_key())

    def sign(self, kind: Document, payload: bytes) -> bytes:
        """Return the signature file for a document."""
        signature = self.private.sign(_covered(kind, payload))
        return canonical({"format": 1, "key": self.key_id, "signature": signature.hex()})

    def verify(self, kind: Document, payload: bytes, signature: bytes, what: str) -> None:
        """Check a document against its signature file.

        Args:
            kind: The kind that the document must be of.
            payload: Its bytes as they were read.
            signature: The bytes of the signature file.
            what: Names the document in the error.

        Raises:
            SignatureError: The signature is unreadable, by an unknown key, or of other bytes.
        """
        try:
            record = json.loads(signature)
            name, value = record["key"], bytes.fromhex(record["signature"])
            known = record["format"] == 1 and isinstance(name, str)
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise SignatureError(
                f"the signature of {what} cannot be read; train it again, or remove it"
            ) from exc
        public = self.trusted.get(name) if known else None
        if public is None:
            raise SignatureError(
                f"{what} is signed by the key {_shown(name)}, which is not trusted here; if it "
                f"comes from another machine of yours, bring the file {_shown(name)}.pem from the "
                f"folder '{TRUSTED}' of its keys, and run: apprentice keys trust {_shown(name)}.pem"
            )
        try:
            public.verify(value, _covered(kind, payload))
        except InvalidSignature as exc:
            raise SignatureError(
                f"{what} does not match its signature, so it was changed or damaged after it was "
                "signed; it is not served. Train it again, or remove it"
            ) from exc


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        RegistryError: The value has no such text.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError) as exc:
        raise RegistryError(f"this cannot be written as canonical JSON: {exc}") from exc


def key_id(public: Ed25519PublicKey) -> str:
    """Return the name of a key: the first digits of the sha256 of its bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def signer_of(signature: bytes) -> str:
    """Return the id of the key that a verified signature file names."""
    return str(json.loads(signature)["key"])


def _shown(name: object) -> str:
    """Return a key's id for a message; what stands in an unverified file may be anything."""
    return name if isinstance(name, str) and _KEY_ID.fullmatch(name) else "KEY"


def load_or_create_keys(folder: Path) -> Keys:
    """Return the keys in ``folder``; the first call makes a key that only its owner can read.

    Raises:
        RegistryError: A key is damaged, readable by others, or cannot be written.
    """
    path = folder / PRIVATE_KEY
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create(path)
        private = _read_private(path)
        own = private.public_key()
        trusted = {key_id(own): own}
        public_path = folder / TRUSTED / f"{key_id(own)}.pem"
        if not public_path.exists():
            write_atomically(public_path, _public_pem(own))
        for other in sorted((folder / TRUSTED).glob("*.pem")):
            public = _read_public(other)
            trusted[key_id(public)] = public
    except OSError as exc:
        raise RegistryError(f"the keys in {folder} cannot be read or written: {exc}") from exc
    return Keys(private=private, trusted=trusted)


def rotate_keys(folder: Path) -> Keys:
    """Make a new key to sign with; what the earlier one signed stays valid.

    Only the earlier public key is kept, so that nobody can sign with it any more.

    Raises:
        RegistryError: There is no key yet, or the disk refused to write.
    """
    path = folder / PRIVATE_KEY
    if not path.exists():
        raise RegistryError(f"there is no key in {folder} to replace; run: apprentice keys new")
    load_or_create_keys(folder)  # leaves its public key among the trusted ones
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    try:
        # In this order a process that is cut off between the two steps has lost nothing.
        write_atomically(folder / TRUSTED / f"{key_id(public)}.pem", _public_pem(public))
        write_atomically(path, _private_pem(private))
    except OSError as exc:
        raise RegistryError(f"the new key could not be written: {exc}") from exc
    return load_or_create_keys(folder)


def trust_key(folder: Path, source: Path) -> str:
    """Count signatures of another machine's public key from now on; returns its id.

    Raises:
        RegistryError: The file holds no Ed25519 public key, or the disk refused to write.
    """
    try:
        public = _read_public(source)
        write_atomically(folder / TRUSTED / f"{key_id(public)}.pem", _public_pem(public))
    except OSError as exc:
        raise RegistryError(f"{source} cannot be taken in: {exc}") from exc
    return key_id(public)


def distrust_key(folder: Path, name: str) -> None:
    """Stop counting a key's signatures; what only it signed is no longer served.

    Raises:
        RegistryError: It is the key that signs now, or none that is trusted.
    """
    keys = load_or_create_keys(folder)
    if name == keys.key_id:
        raise RegistryError(
            f"{name} is the key that signs now; replace it first with: apprentice keys rotate"
        )
    if name not in keys.trusted:
        raise RegistryError(f"no trusted key is called {name!r}; see: apprentice keys show")
    try:
        for path in (folder / TRUSTED).glob("*.pem"):
            if key_id(_read_public(path)) == name:
                path.unlink()
        flush_folder(folder / TRUSTED)
    except OSError as exc:
        raise RegistryError(f"the key {name} could not be removed: {exc}") from exc


def _covered(kind: Document, payload: bytes) -> bytes:
    return f"hermes-apprentice signed {kind} 1\n".encode() + payload


def _create(path: Path) -> None:
    """Write a new key unless another process was faster; a link never replaces a file."""
    pem = _private_pem(Ed25519PrivateKey.generate())
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".signing.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        Path(name).unlink()
    flush_folder(path.parent)


def _read_private(path: Path) -> Ed25519PrivateKey:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RegistryError(
            f"the signing key {path} can be read by others; run: chmod 600 '{path}'"
        )
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise RegistryError(
            f"the signing key {path} is damaged; restore it from a backup, or move it away, then "
            "train the specialists again"
        ) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise RegistryError(f"{path} is no Ed25519 key; move it away")
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise RegistryError(f"the public key {path} is damaged; remove or replace it") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise RegistryError(f"{path} is no Ed25519 key; remove it")
    return key


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
