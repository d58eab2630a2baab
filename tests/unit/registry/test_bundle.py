"""Whatever somebody does to an exported file, it is not accepted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.registry import bundle as module
from hermes_apprentice.registry.bundle import open_bundle, write_bundle
from hermes_apprentice.registry.registry import Registry, to_canonical
from hermes_apprentice.registry.signing import (
    Document,
    Keys,
    canonical,
    load_or_create_keys,
    rotate_keys,
    trust_key,
)

Make = Callable[..., Manifest]
ABOUT = {"what": "for a test", "rows": 3}
EXTRAS = {"members.f16": bytes(range(48))}


@pytest.fixture
def exported(
    tmp_path: Path, registry: Registry, keys: Keys, artefact: Path, make_draft: Make
) -> Path:
    registry.publish(artefact, make_draft())
    path = tmp_path / "order-mails.specialist"
    write_bundle(path, registry.open_version("order-mails", 1), ABOUT, EXTRAS, keys)
    return path


def refused(path: Path, keys: Keys, kind: type[RegistryError] = RegistryError) -> str:
    with pytest.raises(kind) as error, open_bundle(path, keys):
        raise AssertionError("it was accepted")
    return str(error.value)


def test_what_is_exported_can_be_opened(exported: Path, keys: Keys, registry: Registry) -> None:
    with open_bundle(exported, keys) as bundle:
        assert bundle.manifest == registry.open_version("order-mails", 1).manifest
        assert (bundle.signer, bundle.about, bundle.extras) == (keys.key_id, ABOUT, EXTRAS)
        signed = to_canonical(bundle.manifest)
        assert bundle.manifest_sha256 == hashlib.sha256(signed).hexdigest()
        assert (bundle.folder / "deep" / "plan.json").read_text() == "{}"
        folder = bundle.folder
        assert folder.parent.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_the_same_version_gives_the_same_bytes(
    exported: Path, keys: Keys, registry: Registry, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    write_bundle(again, registry.open_version("order-mails", 1), ABOUT, EXTRAS, keys)
    assert again.read_bytes() == exported.read_bytes()


def test_ordinary_tools_can_list_it(exported: Path) -> None:
    with tarfile.open(exported) as archive:
        assert archive.getnames() == [
            "bundle.json",
            "bundle.sig",
            "extra/members.f16",
            "manifest.json",
            "manifest.sig",
            "files/deep/plan.json",
            "files/weights.npz",
        ]


def test_a_file_is_never_overwritten(exported: Path, keys: Keys, registry: Registry) -> None:
    before = exported.read_bytes()
    with pytest.raises(RegistryError, match="exists already"):
        write_bundle(exported, registry.open_version("order-mails", 1), ABOUT, EXTRAS, keys)
    assert exported.read_bytes() == before


def test_a_tampered_version_is_never_exported(
    tmp_path: Path, registry: Registry, keys: Keys, artefact: Path, make_draft: Make
) -> None:
    registry.publish(artefact, make_draft())
    version = registry.open_version("order-mails", 1)
    (version.folder / "files" / "weights.npz").write_bytes(b"other weights")
    with pytest.raises(SignatureError):
        write_bundle(tmp_path / "x", version, ABOUT, EXTRAS, keys)
    assert not (tmp_path / "x").exists()


def test_a_strangers_key_is_named_with_what_to_do(
    exported: Path, keys: Keys, tmp_path: Path
) -> None:
    theirs = load_or_create_keys(tmp_path / "other")
    said = refused(exported, theirs, SignatureError)
    assert f"signed by the key {keys.key_id}, which is not trusted here" in said
    assert f"apprentice keys trust {keys.key_id}.pem" in said
    trust_key(tmp_path / "other", tmp_path / "keys" / "trusted" / f"{keys.key_id}.pem")
    with open_bundle(exported, load_or_create_keys(tmp_path / "other")) as bundle:
        assert bundle.signer == keys.key_id


def test_the_key_of_the_manifest_must_be_trusted_as_well(
    tmp_path: Path, registry: Registry, keys: Keys, artefact: Path, make_draft: Make
) -> None:
    registry.publish(artefact, make_draft())
    newer = rotate_keys(tmp_path / "keys")
    path = tmp_path / "x"
    write_bundle(path, registry.open_version("order-mails", 1), ABOUT, EXTRAS, newer)
    load_or_create_keys(tmp_path / "other")
    trust_key(tmp_path / "other", tmp_path / "keys" / "trusted" / f"{newer.key_id}.pem")
    said = refused(path, load_or_create_keys(tmp_path / "other"), SignatureError)
    assert f"the manifest in {path} is signed by the key {keys.key_id}" in said


def test_a_key_id_in_a_file_cannot_give_orders(exported: Path, keys: Keys) -> None:
    data = exported.read_bytes()
    evil = b"; rm -rf / ;#  "[: len(keys.key_id)].ljust(len(keys.key_id))
    exported.write_bytes(data.replace(f'"key":"{keys.key_id}"'.encode(), b'"key":"' + evil + b'"'))
    assert "rm -rf" not in refused(exported, keys, SignatureError)


def test_no_single_changed_byte_goes_unnoticed(exported: Path, keys: Keys) -> None:
    generator = np.random.default_rng(3)
    original = exported.read_bytes()
    signature = original.index(b"bundle.sig")
    manifest_signature = original.index(b"manifest.sig")
    for _ in range(300):
        place = int(generator.integers(len(original)))
        if any(start <= place < start + 1024 for start in (signature, manifest_signature)):
            continue  # white space and the case of a digit carry no meaning in a signature
        data = bytearray(original)
        data[place] ^= 1 << int(generator.integers(8))
        exported.write_bytes(data)
        refused(exported, keys)
    exported.write_bytes(original)
    with open_bundle(exported, keys):
        pass


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95, 0.999])
def test_a_file_that_is_cut_off_is_refused(exported: Path, keys: Keys, share: float) -> None:
    data = exported.read_bytes()
    exported.write_bytes(data[: int(len(data) * share)])
    refused(exported, keys)


def test_bytes_behind_the_end_are_refused(exported: Path, keys: Keys) -> None:
    exported.write_bytes(exported.read_bytes() + b"\0")
    assert "more in it than was signed" in refused(exported, keys, SignatureError)


def test_an_entry_that_was_added_is_refused(exported: Path, keys: Keys) -> None:
    with tarfile.open(exported, "a", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("files/extra.py")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    refused(exported, keys, SignatureError)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(exported: Path, keys: Keys, kind: bytes) -> None:
    data = exported.read_bytes()
    place = data.rindex(b"files/weights.npz")
    info = tarfile.TarInfo("files/weights.npz")
    info.type, info.linkname = kind, "/etc/passwd"
    header = info.tobuf(tarfile.USTAR_FORMAT)
    exported.write_bytes(data[:place] + header + data[place + 512 :])
    said = refused(exported, keys, SignatureError)
    assert "something else where 'files/weights.npz' belongs" in said


@pytest.mark.parametrize("make", ["zip", "gzip", "text", "empty"])
def test_files_of_another_format_are_refused(
    exported: Path, keys: Keys, tmp_path: Path, make: str
) -> None:
    path = tmp_path / "other"
    if make == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bundle.json", b"\0" * 10_000_000)
    elif make == "gzip":
        with tarfile.open(path, "w:gz") as packed:
            packed.add(exported, "bundle.json")
    else:
        path.write_text("" if make == "empty" else "hello " * 500)
    assert "apprentice specialists export" in refused(path, keys)


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path, keys: Keys) -> None:
    assert "cannot be read" in refused(tmp_path, keys)
    assert "cannot be read" in refused(tmp_path / "nothing", keys)


def forged(path: Path, keys: Keys, entries: list[tuple[str, bytes]], **changes: Any) -> Path:
    """Write a file that a trusted key signed and that means harm."""
    listed = [
        {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in entries
    ]
    index = canonical({"about": {}, "files": listed, "format": 1} | changes)
    data = b""
    for name, content in [
        ("bundle.json", index),
        ("bundle.sig", keys.sign(Document.BUNDLE, index)),
        *entries,
    ]:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        data += info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    path.write_bytes(data + bytes(1024))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/cron.d/evil",
        "files/../../evil",
        "files//evil",
        "files/./evil",
        "files/.hidden",
        "files/a\\b",
        "extra/",
        "elsewhere/evil",
        "manifest.json/evil",
        "files/" + "/".join("abcdefghij"),
        "",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, keys: Keys, name: str) -> None:
    said = refused(forged(tmp_path / "evil", keys, [(name, b"x")]), keys)
    assert "a name that is not accepted" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil", "keys"]


@pytest.mark.parametrize("second", ["files/a.npz", "files/A.npz"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, keys: Keys, second: str) -> None:
    path = forged(tmp_path / "evil", keys, [("files/a.npz", b"x"), (second, b"y")])
    assert "two files of one name" in refused(path, keys)


def test_a_list_that_claims_more_than_there_is_is_refused(tmp_path: Path, keys: Keys) -> None:
    claim = [{"path": "files/a", "sha256": "0" * 64, "size": 1 << 50}]
    said = refused(forged(tmp_path / "evil", keys, [], files=claim), keys)
    assert "claims to hold more" in said
    claim[0]["size"] = -1
    assert "claims" in refused(forged(tmp_path / "evil2", keys, [], files=claim), keys)


def test_too_many_too_large_and_too_much_beside_are_refused(
    tmp_path: Path, keys: Keys, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [{"path": f"files/f{n}", "sha256": "0" * 64, "size": 0} for n in range(10_001)]
    said = refused(forged(tmp_path / "evil", keys, [], files=many), keys)
    assert "more than 10000 files" in said
    monkeypatch.setattr(module, "MAX_EXTRA_BYTES", 100)
    assert "beside the model" in refused(exported, keys)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    assert "larger than" in refused(exported, keys)


@pytest.mark.parametrize(
    "changes", [{"format": 2}, {"files": 3}, {"about": []}, {"files": [{"path": "files/a"}]}]
)
def test_another_layout_is_refused_and_said(
    tmp_path: Path, keys: Keys, changes: dict[str, Any]
) -> None:
    said = refused(forged(tmp_path / "evil", keys, [], **changes), keys)
    assert "layout" in said or "has format 2" in said


def test_a_signed_manifest_of_another_version_is_refused(
    exported: Path, keys: Keys, tmp_path: Path, registry: Registry, artefact: Path, make_draft: Make
) -> None:
    (artefact / "weights.npz").write_bytes(b"newer weights")
    registry.publish(artefact, make_draft())
    newer, older = (registry.open_version("order-mails", number).folder for number in (2, 1))
    files = [
        ("manifest.json", (older / "manifest.json").read_bytes()),
        ("manifest.sig", (older / "manifest.sig").read_bytes()),
        ("files/deep/plan.json", b"{}"),
        ("files/weights.npz", (newer / "files" / "weights.npz").read_bytes()),
    ]
    said = refused(forged(tmp_path / "evil", keys, files), keys, SignatureError)
    assert "lists other files" in said
    assert "no manifest" in refused(forged(tmp_path / "evil2", keys, files[2:]), keys)
    files[1] = ("manifest.sig", (newer / "manifest.sig").read_bytes())
    refused(forged(tmp_path / "evil3", keys, files), keys, SignatureError)


def test_a_signed_matcher_cannot_pass_for_a_bundle(exported: Path, keys: Keys) -> None:
    data = exported.read_bytes()
    size = int(data[124:135], 8)
    index = data[512 : 512 + size]
    wrong = keys.sign(Document.MATCHER, index)
    right = keys.sign(Document.BUNDLE, index)
    assert len(wrong) == len(right)
    exported.write_bytes(data.replace(right, wrong))
    assert "does not match its signature" in refused(exported, keys, SignatureError)


def test_the_signed_list_is_read_as_it_was_written(exported: Path) -> None:
    data = exported.read_bytes()
    size = int(data[124:135], 8)
    index = json.loads(data[512 : 512 + size])
    assert sorted(index) == ["about", "files", "format"]
