from __future__ import annotations

import gc
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from hermes_apprentice.inference.arrays import read_groups, write_groups
from hermes_apprentice.inference.mapped import LEAST_BYTES, mapped

LARGE = np.random.default_rng(3).normal(size=(96, 128)).astype(np.float32)
HALVES = LARGE.astype(np.float16)


def test_large_weights_keep_their_values_and_can_not_be_written() -> None:
    found = mapped({"a": LARGE, "h": HALVES, "t": LARGE.T, "small": LARGE[:1], "ids": LARGE < 0})
    assert np.array_equal(found["a"], LARGE) and np.array_equal(found["t"], LARGE.T)
    assert found["h"].dtype == np.float32 and np.array_equal(found["h"], HALVES)
    assert found["t"].strides == LARGE.T.strides
    for name in ("a", "h", "t"):
        assert found[name].nbytes >= LEAST_BYTES
        with pytest.raises(ValueError, match="read-only"):
            found[name][0, 0] = 1.0
    assert found["small"] is not None and found["ids"].dtype == np.bool_


def test_reading_maps_the_weights_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    write_groups(tmp_path / "weights.npz", {"head": {"dense": LARGE}})
    before = _maps()
    found = read_groups(tmp_path / "weights.npz")["head"]["dense"]
    added = [line for line in _maps() if line not in before and str(room) in line]
    assert list(room.iterdir()) == []
    # Linux says what is behind a mapping, and that nobody can open it any more.
    if Path("/proc/self/maps").exists():
        assert len(added) == 1 and added[0].endswith("(deleted)") and " r--s " in added[0]
    assert np.array_equal(found, LARGE)


def test_a_change_of_the_read_file_in_its_place_changes_no_weight(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    write_groups(path, {"head": {"dense": LARGE}})
    found = read_groups(path)["head"]["dense"]
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert np.array_equal(found, LARGE)


def test_without_room_for_a_file_the_weights_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    found = mapped({"a": LARGE, "h": HALVES})
    assert np.array_equal(found["a"], LARGE) and found["h"].dtype == np.float32


def test_a_thread_that_still_computes_keeps_the_mapping_alive() -> None:
    begun, dropped = threading.Event(), threading.Event()
    sums: list[float] = []

    def compute(weights: np.ndarray) -> None:
        begun.set()
        assert dropped.wait(10)
        sums.append(float(weights.sum()))

    held = {"found": mapped({"a": LARGE})["a"]}
    thread = threading.Thread(target=compute, args=(held["found"],))
    thread.start()
    assert begun.wait(10)
    held.clear()
    gc.collect()
    dropped.set()
    thread.join(10)
    assert sums == [float(LARGE.sum())]


def _maps() -> list[str]:
    maps = Path("/proc/self/maps")
    return maps.read_text().splitlines() if maps.exists() else []
