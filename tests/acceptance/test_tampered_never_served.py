"""Whatever somebody does to a registered specialist on the disk, it is never loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.evaluation import Outcome, Verdict
from hermes_apprentice.domain.shape import Kind, Shape, ShapeKind
from hermes_apprentice.domain.specialist import Envelope, Manifest
from hermes_apprentice.errors import RegistryError, SignatureError
from hermes_apprentice.privacy.redaction import Redactor
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.serving.cpu import load_runtime
from hermes_apprentice.testing import FakeEmbedder

SLUG = "ticket-labels"


def manifest(slug: str = SLUG) -> Manifest:
    return Manifest(
        format=1,
        slug=slug,
        version=0,
        pattern_id="pt-00aa11bb22cc",
        label="ticket, label",
        kind=Kind.CLASSIFIER,
        base="fake",
        embedder=FakeEmbedder().digest,
        dataset="0" * 64,
        redaction="none",
        recipe=(),
        shape=Shape(kind=ShapeKind.LABEL, agreement=1.0, labels=("bug", "billing")),
        envelope=Envelope(max_turn_index=5, min_chars=1, max_chars=500, ascii_only=False),
        verdict=Verdict(outcome=Outcome.PASSED, reasons=("ok",), scores=None, threshold=0.5),
        created_at=1_790_000_000.0,
        files=(),
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    artefact = tmp_path / "artefact"
    (artefact / "more").mkdir(parents=True)
    (artefact / "weights.npz").write_bytes(bytes(range(200)))
    (artefact / "more" / "labels.json").write_text('["bug", "billing"]', encoding="utf-8")
    registry = Registry(tmp_path / "registry", load_or_create_keys(tmp_path / "keys"))
    for slug in (SLUG, SLUG, "other-labels"):
        registry.publish(artefact, manifest(slug))
    return registry


def serve(registry: Registry) -> None:
    """Do what the sidecar does on promotion, up to the first byte of the model."""
    load_runtime(registry.open_version(SLUG, 2), FakeEmbedder(), Redactor)


def _flip_a_weight(folder: Path) -> None:
    path = folder / "files" / "weights.npz"
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.write_bytes(data)


def _swap_two_files(folder: Path) -> None:
    one, two = folder / "files" / "weights.npz", folder / "files" / "more" / "labels.json"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _add_a_file(folder: Path) -> None:
    (folder / "files" / "extra.json").write_text("{}", encoding="utf-8")


def _add_a_hidden_file(folder: Path) -> None:
    (folder / "files" / ".pth").write_text("import evil", encoding="utf-8")


def _add_beside_the_files(folder: Path) -> None:
    (folder / "note.txt").touch()


def _drop_a_file(folder: Path) -> None:
    (folder / "files" / "weights.npz").unlink()


def _link_to_a_copy(folder: Path) -> None:
    path = folder / "files" / "weights.npz"
    copy = folder.parent.parent.parent / "copy"
    shutil.move(path, copy)
    path.symlink_to(copy)


def _link_the_files(folder: Path) -> None:
    elsewhere = folder.parent.parent.parent / "elsewhere"
    shutil.move(folder / "files", elsewhere)
    (folder / "files").symlink_to(elsewhere)


def _link_the_version(folder: Path) -> None:
    elsewhere = folder.parent.parent.parent / "elsewhere"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)


def _edit_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_bytes())
    record["verdict"]["threshold"] = 0.0
    path.write_text(json.dumps(record, sort_keys=True, separators=(",", ":")), encoding="utf-8")


def _reformat_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1), encoding="utf-8")


def _cut_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])


def _drop_the_signature(folder: Path) -> None:
    (folder / "manifest.sig").unlink()


def _empty_the_signature(folder: Path) -> None:
    (folder / "manifest.sig").write_bytes(b"")


def _drop_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _replay_the_older_version(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "1", folder)


def _move_another_specialist_here(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.parent.parent / "other-labels" / "1", folder)


def _borrow_the_signature(folder: Path) -> None:
    shutil.copy(folder.parent / "1" / "manifest.sig", folder / "manifest.sig")


def _replace_a_file_by_a_pipe(folder: Path) -> None:
    path = folder / "files" / "weights.npz"
    path.unlink()
    os.mkfifo(path)


TAMPERINGS: list[Callable[[Path], None]] = [
    _flip_a_weight,
    _swap_two_files,
    _add_a_file,
    _add_a_hidden_file,
    _add_beside_the_files,
    _drop_a_file,
    _link_to_a_copy,
    _link_the_files,
    _link_the_version,
    _edit_the_manifest,
    _reformat_the_manifest,
    _cut_the_manifest,
    _drop_the_signature,
    _empty_the_signature,
    _drop_the_manifest,
    _replay_the_older_version,
    _move_another_specialist_here,
    _borrow_the_signature,
    _replace_a_file_by_a_pipe,
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__.strip("_"))
def test_a_tampered_version_is_never_served(
    registry: Registry, tamper: Callable[[Path], None]
) -> None:
    registry.open_version(SLUG, 2)
    tamper(registry.root / SLUG / "2")
    with pytest.raises(SignatureError) as refused:
        serve(registry)
    assert any(way in str(refused.value) for way in ("emove it", "rain it again", "not served"))
    assert registry.open_version(SLUG, 1).manifest.version == 1


def test_a_file_swapped_between_checking_and_loading_is_never_served(registry: Registry) -> None:
    opened = registry.open_version(SLUG, 2)
    _flip_a_weight(opened.folder)
    with pytest.raises(SignatureError, match="not the file that was signed"), opened.checkout():
        raise AssertionError("the changed file was handed over")


def test_a_file_swapped_after_the_private_copy_changes_nothing(registry: Registry) -> None:
    opened = registry.open_version(SLUG, 2)
    with opened.checkout() as folder:
        _flip_a_weight(opened.folder)
        assert (folder / "weights.npz").read_bytes() == bytes(range(200))
        assert folder.stat().st_mode & 0o077 == 0


def test_no_single_changed_byte_goes_unnoticed(registry: Registry) -> None:
    generator = np.random.default_rng(9)
    folder = registry.root / SLUG / "2"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for _ in range(400):
        path = paths[generator.integers(len(paths))]
        original = path.read_bytes()
        data = bytearray(original)
        place = int(generator.integers(len(data)))
        data[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        if path.name == "manifest.sig":
            # White space and the case of a digit carry no meaning: they may read the same.
            try:
                same = json.loads(data.lower()) == json.loads(original)
            except ValueError:
                same = False
            if same:
                path.write_bytes(original)
                continue
        with pytest.raises(RegistryError):
            registry.open_version(SLUG, 2)
        path.write_bytes(original)
    assert registry.open_version(SLUG, 2).manifest.version == 2
