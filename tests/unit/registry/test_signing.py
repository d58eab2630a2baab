from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.registry.signing import (
    Document,
    Keys,
    canonical,
    distrust_key,
    key_id,
    load_or_create_keys,
    rotate_keys,
    trust_key,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=15,
)


@given(json_values)
def test_canonical_json_reads_back_and_is_stable(value: Any) -> None:
    payload = canonical(value)
    assert json.loads(payload) == value
    assert canonical(json.loads(payload)) == payload


@given(st.dictionaries(st.text("abcxyz", max_size=3), st.integers()))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_canonical_json_is_compact_utf8() -> None:
    assert canonical({"b": "é", "a": [1, 2.5]}) == '{"a":[1,2.5],"b":"é"}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", object(), {1: {2}}])
def test_what_json_does_not_know_is_refused(value: object) -> None:
    with pytest.raises(RegistryError, match="canonical JSON"):
        canonical({"value": value})


def test_a_signature_holds_for_its_own_document_only(keys: Keys) -> None:
    signature = keys.sign(Document.MANIFEST, b"payload")
    keys.verify(Document.MANIFEST, b"payload", signature, "it")
    with pytest.raises(SignatureError, match="changed or damaged"):
        keys.verify(Document.MANIFEST, b"payloae", signature, "it")


def test_a_signed_matcher_never_passes_for_a_manifest(keys: Keys) -> None:
    signature = keys.sign(Document.MATCHER, b"payload")
    for kind in (Document.MANIFEST, Document.ALIAS):
        with pytest.raises(SignatureError):
            keys.verify(kind, b"payload", signature, "it")


def test_a_strangers_signature_counts_for_nothing(keys: Keys, tmp_path: Path) -> None:
    stranger = load_or_create_keys(tmp_path / "elsewhere")
    with pytest.raises(SignatureError, match="not trusted"):
        keys.verify(Document.MANIFEST, b"x", stranger.sign(Document.MANIFEST, b"x"), "it")


def test_a_stranger_cannot_borrow_our_key_id(keys: Keys, tmp_path: Path) -> None:
    stranger = load_or_create_keys(tmp_path / "elsewhere")
    record = json.loads(stranger.sign(Document.MANIFEST, b"x")) | {"key": keys.key_id}
    with pytest.raises(SignatureError, match="changed or damaged"):
        keys.verify(Document.MANIFEST, b"x", canonical(record), "it")


def test_signatures_of_a_trusted_earlier_key_stay_valid(tmp_path: Path) -> None:
    earlier = load_or_create_keys(tmp_path / "old")
    folder = tmp_path / "new"
    load_or_create_keys(folder)
    name = f"{earlier.key_id}.pem"
    (folder / "trusted" / name).write_bytes((tmp_path / "old" / "trusted" / name).read_bytes())
    today = load_or_create_keys(folder)
    today.verify(Document.MANIFEST, b"x", earlier.sign(Document.MANIFEST, b"x"), "it")
    assert today.key_id != earlier.key_id


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format":1}',
        b'{"format":1,"key":7,"signature":"aa"}',
        b'{"format":1,"key":"aa","signature":"zz"}',
        b'{"format":2,"key":"aa","signature":"aa"}',
        b"[" * 100_000,
    ],
)
def test_an_unreadable_signature_is_a_clear_error(keys: Keys, junk: bytes) -> None:
    with pytest.raises(SignatureError, match="it"):
        keys.verify(Document.MANIFEST, b"x", junk, "it")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first = load_or_create_keys(tmp_path / "keys")
    again = load_or_create_keys(tmp_path / "keys")
    assert first.key_id == again.key_id == key_id(first.private.public_key())
    assert stat.S_IMODE((tmp_path / "keys" / "signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["signing.pem", "trusted"]


def test_a_key_that_others_can_read_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    load_or_create_keys(tmp_path)
    os.chmod(tmp_path / "signing.pem", 0o640)
    with pytest.raises(RegistryError, match="chmod 600"):
        load_or_create_keys(tmp_path)


@pytest.mark.parametrize("place", ["signing.pem", "trusted/extra.pem"])
def test_a_damaged_key_is_a_clear_error(tmp_path: Path, place: str) -> None:
    load_or_create_keys(tmp_path)
    path = tmp_path / place
    path.touch(mode=0o600)
    path.write_bytes(b"-----BEGIN NONSENSE-----")
    with pytest.raises(RegistryError, match="damaged"):
        load_or_create_keys(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match="cannot be read or written"):
        load_or_create_keys(tmp_path / "file" / "keys")


def test_the_private_key_never_shows_in_a_log(keys: Keys) -> None:
    assert "private" not in repr(keys)


def test_after_a_rotation_earlier_signatures_stay_valid(keys: Keys, tmp_path: Path) -> None:
    earlier = keys.sign(Document.MANIFEST, b"x")
    today = rotate_keys(tmp_path / "keys")
    assert today.key_id != keys.key_id
    today.verify(Document.MANIFEST, b"x", earlier, "it")
    today.verify(Document.MANIFEST, b"x", today.sign(Document.MANIFEST, b"x"), "it")
    assert load_or_create_keys(tmp_path / "keys").key_id == today.key_id


def test_a_rotation_leaves_nothing_that_could_sign_as_before(keys: Keys, tmp_path: Path) -> None:
    private = (tmp_path / "keys" / "signing.pem").read_bytes()
    rotate_keys(tmp_path / "keys")
    left = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert len(left) == 3
    assert all(private not in path.read_bytes() for path in left)
    assert stat.S_IMODE((tmp_path / "keys" / "signing.pem").stat().st_mode) == 0o600


def test_there_must_be_a_key_to_replace(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="apprentice keys new"):
        rotate_keys(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_machines_key_is_trusted_and_distrusted(keys: Keys, tmp_path: Path) -> None:
    stranger = load_or_create_keys(tmp_path / "elsewhere")
    signature = stranger.sign(Document.MANIFEST, b"x")
    public = tmp_path / "elsewhere" / "trusted" / f"{stranger.key_id}.pem"
    assert trust_key(tmp_path / "keys", public) == stranger.key_id
    load_or_create_keys(tmp_path / "keys").verify(Document.MANIFEST, b"x", signature, "it")
    distrust_key(tmp_path / "keys", stranger.key_id)
    with pytest.raises(SignatureError, match="not trusted"):
        load_or_create_keys(tmp_path / "keys").verify(Document.MANIFEST, b"x", signature, "it")


def test_a_private_key_is_not_taken_for_a_public_one(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="damaged"):
        trust_key(tmp_path / "keys", tmp_path / "keys" / "signing.pem")
    with pytest.raises(RegistryError, match="taken in"):
        trust_key(tmp_path / "keys", tmp_path / "nowhere.pem")


def test_the_key_that_signs_cannot_be_distrusted(keys: Keys, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="rotate"):
        distrust_key(tmp_path / "keys", keys.key_id)
    with pytest.raises(RegistryError, match="no trusted key"):
        distrust_key(tmp_path / "keys", "../signing")
