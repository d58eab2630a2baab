from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.errors import RegistryError, SignatureError, UnknownVersionError
from hermes_apprentice.registry.registry import Registry, from_canonical, to_canonical
from hermes_apprentice.registry.signing import (
    Document,
    Keys,
    canonical,
    distrust_key,
    load_or_create_keys,
    rotate_keys,
)

Make = Callable[..., Manifest]


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_published_version_opens_as_it_was_published(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    published = registry.publish(artefact, make_draft())
    opened = registry.open_version("order-mails", 1)
    assert opened.manifest == published
    assert published.version == 1
    assert [file.path for file in published.files] == ["deep/plan.json", "weights.npz"]
    with opened.checkout() as folder:
        assert everything(folder) == everything(artefact)
        private = folder
    assert not private.exists()


def test_a_manifest_survives_its_json_to_the_last_type(make_draft: Make) -> None:
    manifest = make_draft()
    again = from_canonical(to_canonical(manifest))
    assert again == manifest
    kinds = [type(value) for value in again.shape.fields[1].values]
    assert kinds == [int, int, float, bool, type(None), str]


def test_versions_count_up_and_are_listed(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    for _ in range(3):
        registry.publish(artefact, make_draft())
    registry.publish(artefact, make_draft(slug="another"))
    (registry.root / "order-mails" / "notes").mkdir()
    (registry.root / ".lock").touch()
    assert registry.versions("order-mails") == (1, 2, 3)
    assert registry.slugs() == ("another", "order-mails")
    assert registry.versions("nobody") == ()


def test_two_publishers_at_once_never_share_a_number(
    registry: Registry, artefact: Path, make_draft: Make, keys: Keys
) -> None:
    others = [Registry(registry.root, keys) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(lambda one: one.publish(artefact, make_draft()), others))
    assert sorted(manifest.version for manifest in published) == list(range(1, 9))


def test_what_the_gate_did_not_pass_is_not_published(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    for outcome in (Outcome.REJECTED, Outcome.INCONCLUSIVE):
        verdict = Verdict(outcome=outcome, reasons=("no",), scores=None, threshold=0.5)
        with pytest.raises(RegistryError, match="did not pass"):
            registry.publish(artefact, make_draft(verdict=verdict))
    assert registry.slugs() == ()


@pytest.mark.parametrize(
    "slug",
    [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "A",
        "a b",
        "-a",
        "a-",
        "a\n",
        "_matcher",
        "a" * 65,
        "é",
        "a\0b",
    ],
)
def test_odd_names_are_refused_everywhere(
    registry: Registry, artefact: Path, make_draft: Make, slug: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: registry.publish(artefact, make_draft(slug=slug)),
        lambda: registry.open_version(slug, 1),
        lambda: registry.versions(slug),
        lambda: registry.alias(slug),
        lambda: registry.set_alias(slug, 1),
        lambda: registry.rollback(slug),
    ]
    for call in calls:
        with pytest.raises(RegistryError, match="not a specialist's name"):
            call()


def _link(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")


def _folder_link(folder: Path) -> None:
    (folder / "deeper").symlink_to(folder / "deep")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _hidden(folder: Path) -> None:
    (folder / ".hidden").touch()


def _odd(folder: Path) -> None:
    (folder / "with space").touch()


def _newline(folder: Path) -> None:
    (folder / "a\nb").touch()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("spoil", [_link, _folder_link, _pipe, _hidden, _odd, _newline, _empty])
def test_odd_artefacts_are_refused_and_leave_nothing_behind(
    registry: Registry, artefact: Path, make_draft: Make, spoil: Callable[[Path], None]
) -> None:
    spoil(artefact)
    with pytest.raises(RegistryError):
        registry.publish(artefact, make_draft())
    assert registry.versions("order-mails") == ()
    assert list((registry.root / "order-mails").iterdir()) == []


def test_a_number_that_json_does_not_know_is_refused(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    with pytest.raises(RegistryError, match="canonical JSON"):
        registry.publish(artefact, make_draft(created_at=float("nan")))
    assert registry.versions("order-mails") == ()


@pytest.mark.parametrize("version", [0, -1, 2, 10**12])
def test_an_unknown_version_says_what_there_is(
    registry: Registry, artefact: Path, make_draft: Make, version: int
) -> None:
    registry.publish(artefact, make_draft())
    with pytest.raises(UnknownVersionError, match=r"it has \(1,\)"):
        registry.open_version("order-mails", version)


def test_the_alias_moves_and_goes_back(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    for _ in range(3):
        registry.publish(artefact, make_draft())
    assert registry.alias("order-mails") is None
    for version in (1, 2, 2, 3):
        registry.set_alias("order-mails", version)
    assert registry.alias("order-mails") == 3
    assert [registry.rollback("order-mails") for _ in range(2)] == [2, 1]
    assert registry.alias("order-mails") == 1
    with pytest.raises(UnknownVersionError, match="no earlier version"):
        registry.rollback("order-mails")


def test_the_alias_never_points_at_what_cannot_be_verified(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    for _ in range(2):
        registry.publish(artefact, make_draft())
    registry.set_alias("order-mails", 1)
    with pytest.raises(UnknownVersionError):
        registry.set_alias("order-mails", 7)
    path = registry.root / "order-mails" / "2" / "files" / "weights.npz"
    path.write_bytes(b"other weights")
    with pytest.raises(SignatureError):
        registry.set_alias("order-mails", 2)
    assert registry.alias("order-mails") == 1


def test_after_a_stolen_key_a_new_version_becomes_the_current_one(
    registry: Registry, artefact: Path, make_draft: Make, tmp_path: Path
) -> None:
    registry.publish(artefact, make_draft())
    registry.set_alias("order-mails", 1)
    folder = tmp_path / "keys"
    stolen = load_or_create_keys(folder).key_id
    rotate_keys(folder)
    distrust_key(folder, stolen)
    renewed = Registry(registry.root, load_or_create_keys(folder))
    with pytest.raises(SignatureError, match=stolen):
        renewed.set_alias("order-mails", 1)
    assert renewed.publish(artefact, make_draft()).version == 2
    renewed.set_alias("order-mails", 2)
    assert renewed.alias("order-mails") == 2
    with pytest.raises(UnknownVersionError, match="no earlier version"):
        renewed.rollback("order-mails")


def test_a_removed_versions_number_is_never_used_again(
    registry: Registry, artefact: Path, make_draft: Make, tmp_path: Path
) -> None:
    for number in (1, 2):
        registry.publish(artefact, make_draft())
        registry.set_alias("order-mails", number)
    stolen = shutil.copytree(registry.root / "order-mails" / "2", tmp_path / "stolen")
    registry.rollback("order-mails")
    registry.remove("order-mails", 2)
    assert registry.versions("order-mails") == (1,)
    assert registry.publish(artefact, make_draft()).version == 3
    shutil.rmtree(registry.root / "order-mails" / "3")
    shutil.copytree(stolen, registry.root / "order-mails" / "3")
    with pytest.raises(SignatureError, match="moved"):
        registry.open_version("order-mails", 3)


def test_the_current_version_is_never_removed(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    registry.publish(artefact, make_draft())
    registry.set_alias("order-mails", 1)
    with pytest.raises(RegistryError, match="current"):
        registry.remove("order-mails", 1)
    with pytest.raises(UnknownVersionError):
        registry.remove("order-mails", 7)
    assert registry.open_version("order-mails", 1).manifest.version == 1


def test_a_removed_version_is_not_gone_back_to(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    for number in (1, 2, 3):
        registry.publish(artefact, make_draft())
        registry.set_alias("order-mails", number)
    registry.remove("order-mails", 2)
    assert registry.history("order-mails") == (1, 3)
    assert registry.rollback("order-mails") == 1


def test_a_rewritten_alias_is_refused(registry: Registry, artefact: Path, make_draft: Make) -> None:
    for slug in ("order-mails", "another"):
        for _ in range(2):
            registry.publish(artefact, make_draft(slug=slug))
            registry.set_alias(slug, max(registry.versions(slug)))
    path = registry.root / "order-mails" / "current.json"
    original = path.read_bytes()
    path.write_bytes(original.replace(b"[1,2]", b"[2,1]"))
    with pytest.raises(SignatureError):
        registry.alias("order-mails")
    shutil.copy(registry.root / "another" / "current.json", path)
    with pytest.raises(SignatureError, match="another specialist"):
        registry.alias("order-mails")
    path.write_bytes(original[:40])
    with pytest.raises(SignatureError, match="damaged"):
        registry.alias("order-mails")


def test_a_matcher_comes_back_byte_for_byte(registry: Registry) -> None:
    with pytest.raises(UnknownVersionError, match="apprentice tick"):
        registry.open_matcher()
    files = {"model.npz": b"\x00\x01" * 500, "notes.json": b"{}"}
    assert registry.publish_matcher(files, {"embedder": "abc", "rate": 0.005}) == 1
    opened = registry.open_matcher()
    assert dict(opened.files) == files
    assert opened.details == {"embedder": "abc", "rate": 0.005}
    assert opened.number == registry.matcher_number() == 1


def test_the_newest_matcher_counts_and_old_ones_are_cleared(registry: Registry) -> None:
    for number in range(1, 6):
        registry.publish_matcher({"model.npz": bytes([number])}, {})
    assert registry.open_matcher().files["model.npz"] == b"\x05"
    kept = sorted(path.name for path in (registry.root / "_matcher").iterdir())
    assert kept == ["3", "4", "5"]


@pytest.mark.parametrize("files", [{}, {"../up": b""}, {"/etc/x": b""}, {"a/../b": b""}, {"": b""}])
def test_odd_matcher_files_are_refused(registry: Registry, files: dict[str, bytes]) -> None:
    with pytest.raises(RegistryError, match="plain names"):
        registry.publish_matcher(files, {})


def test_a_changed_matcher_is_refused(registry: Registry) -> None:
    registry.publish_matcher({"model.npz": b"weights"}, {"rate": 0.005})
    folder = registry.root / "_matcher" / "1"
    original = everything(folder)
    for name, data in original.items():
        (folder / name).write_bytes(data.replace(b"0.005", b"0.500").replace(b"wei", b"WEI")[:-1])
        with pytest.raises(SignatureError):
            registry.open_matcher()
        (folder / name).write_bytes(data)
    assert registry.open_matcher().number == 1


def test_an_old_matcher_under_a_new_number_is_refused(registry: Registry) -> None:
    registry.publish_matcher({"model.npz": b"old"}, {})
    registry.publish_matcher({"model.npz": b"new"}, {})
    shutil.copytree(registry.root / "_matcher" / "1", registry.root / "_matcher" / "3")
    with pytest.raises(SignatureError, match="moved"):
        registry.open_matcher()


def test_a_signed_manifest_never_passes_for_a_matcher(
    registry: Registry, artefact: Path, make_draft: Make
) -> None:
    registry.publish(artefact, make_draft())
    shutil.copytree(registry.root / "order-mails" / "1", registry.root / "_matcher" / "1")
    with pytest.raises(SignatureError):
        registry.open_matcher()


def test_a_version_of_a_later_format_says_so(
    registry: Registry, artefact: Path, make_draft: Make, keys: Keys
) -> None:
    manifest = registry.publish(artefact, make_draft())
    folder = registry.root / "order-mails" / "1"
    payload = to_canonical(replace(manifest, format=2))
    (folder / "manifest.json").write_bytes(payload)
    (folder / "manifest.sig").write_bytes(keys.sign(Document.MANIFEST, payload))
    with pytest.raises(RegistryError, match="format 2"):
        registry.open_version("order-mails", 1)


def test_a_signed_document_with_paths_outside_is_refused(
    registry: Registry, artefact: Path, make_draft: Make, keys: Keys
) -> None:
    manifest = registry.publish(artefact, make_draft())
    folder = registry.root / "order-mails" / "1"
    outside = tuple(replace(file, path=f"../../{file.path}") for file in manifest.files)
    payload = to_canonical(replace(manifest, files=outside))
    (folder / "manifest.json").write_bytes(payload)
    (folder / "manifest.sig").write_bytes(keys.sign(Document.MANIFEST, payload))
    with pytest.raises(SignatureError, match="not acceptable"):
        registry.open_version("order-mails", 1)


def test_a_registry_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, artefact: Path, make_draft: Make, keys: Keys
) -> None:
    (tmp_path / "file").touch()
    registry = Registry(tmp_path / "file" / "registry", keys)
    with pytest.raises(RegistryError, match="could not be written"):
        registry.publish(artefact, make_draft())


def test_signed_junk_is_an_error_of_the_registry_never_a_crash(
    registry: Registry, artefact: Path, make_draft: Make, keys: Keys
) -> None:
    """Even the holder of the key cannot make opening fail in another way."""
    registry.publish(artefact, make_draft())
    folder = registry.root / "order-mails" / "1"
    good = json.loads((folder / "manifest.json").read_bytes())
    generator = np.random.default_rng(5)
    junk: list[object] = [None, 5, [], {}, "x", {"files": []}]
    for _ in range(200):
        name = str(generator.choice(sorted(good)))
        value = [None, -1, "", [], {}, 10**30, [[1]], "é" * 10][generator.integers(8)]
        junk.append(good | {name: value})
    for value in junk:
        payload = canonical(value)
        (folder / "manifest.json").write_bytes(payload)
        (folder / "manifest.sig").write_bytes(keys.sign(Document.MANIFEST, payload))
        try:
            opened = registry.open_version("order-mails", 1)
        except RegistryError:
            continue
        assert (opened.manifest.slug, opened.manifest.version) == ("order-mails", 1)


def test_another_machines_registry_is_not_trusted(
    registry: Registry, artefact: Path, make_draft: Make, tmp_path: Path
) -> None:
    registry.publish(artefact, make_draft())
    elsewhere = Registry(registry.root, load_or_create_keys(tmp_path / "other-keys"))
    with pytest.raises(SignatureError, match="not trusted"):
        elsewhere.open_version("order-mails", 1)
