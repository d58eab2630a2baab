from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.domain.shape import Kind
from hermes_apprentice.domain.training import Method
from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.inference.arrays import read_groups, write_groups
from hermes_apprentice.inference.artefact import (
    ARTEFACT_FILE,
    Artefact,
    load_model,
    read_artefact,
    write_artefact,
)
from hermes_apprentice.testing import FakeEmbedder


def artefact(**changes: object) -> Artefact:
    values: dict[str, object] = {
        "kind": Kind.EXTRACTOR,
        "method": Method.CRF,
        "embedder": FakeEmbedder().digest,
    }
    return Artefact.model_validate({**values, **changes})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_artefact(tmp_path, artefact())
    assert read_artefact(tmp_path) == artefact()


def test_a_folder_without_an_artefact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"artefact\.json"):
        load_model(tmp_path, FakeEmbedder())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 3}', '{"kind": "extractor"}'])
def test_a_damaged_artefact_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / ARTEFACT_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ArtefactError):
        load_model(tmp_path, FakeEmbedder())


def test_a_foreign_format_is_refused(tmp_path: Path) -> None:
    write_artefact(tmp_path, artefact(format="other/9"))
    with pytest.raises(ArtefactError, match="other/9"):
        load_model(tmp_path, FakeEmbedder())


def test_a_model_of_another_embedder_is_refused(tmp_path: Path) -> None:
    write_artefact(tmp_path, artefact())
    with pytest.raises(ArtefactError, match="train the specialist again"):
        load_model(tmp_path, FakeEmbedder(dimension=32))


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Kind.GENERATOR, Method.HEAD),
        (Kind.CLASSIFIER, Method.CRF),
        (Kind.EXTRACTOR, Method.AUTO),
    ],
)
def test_a_kind_nothing_can_load_is_refused(tmp_path: Path, kind: Kind, method: Method) -> None:
    write_artefact(tmp_path, artefact(kind=kind, method=method))
    with pytest.raises(ArtefactError, match=kind.value):
        load_model(tmp_path, FakeEmbedder())


def test_pickled_objects_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, allow_pickle=True, **{"group/name": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ArtefactError):
        read_groups(path)


def test_groups_of_arrays_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_groups(path, {"one": {"x": np.arange(3)}, "two": {"x": np.zeros((0, 2))}})
    groups = read_groups(path)
    assert groups["one"]["x"].tolist() == [0, 1, 2] and groups["two"]["x"].shape == (0, 2)
