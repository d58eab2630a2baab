from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hermes_apprentice.errors import ArtefactError
from hermes_apprentice.trainer.hardware import Environment, Gpu, probe, read_gpus, serving_device


def test_what_nvidia_smi_prints_is_read_and_the_rest_passed_over() -> None:
    text = "0, ACME RTX 40, 10240, 24576\n1, Odd, Name, 100, 200\n[N/A]\n2, x, [N/A], 3\n"
    assert read_gpus(text) == (Gpu(0, "ACME RTX 40", 10_240, 24_576), Gpu(1, "Odd, Name", 100, 200))
    assert read_gpus("") == ()
    assert read_gpus(text)[0].free_gb == pytest.approx(10.737, abs=0.01)


def test_the_gpu_with_the_most_free_memory_is_taken() -> None:
    gpus = (Gpu(0, "full", 500, 80_000), Gpu(1, "free", 9_000, 11_000))
    assert Environment(frozenset(), gpus).best_gpu == gpus[1]
    assert Environment(frozenset(), ()).best_gpu is None


def test_an_interpreter_that_does_not_run_has_nothing(tmp_path: Path) -> None:
    assert probe(str(tmp_path / "python")) == Environment(frozenset(), ())
    here = probe(sys.executable)
    assert "hermes_apprentice" in here.packages and "torch" in here.missing


def test_without_a_gpu_the_cpu_is_used_only_if_allowed() -> None:
    if probe(sys.executable).gpus:
        pytest.skip("this machine has a GPU")
    assert serving_device(sys.executable, on_cpu=True) == "cpu"
    with pytest.raises(ArtefactError, match=r"generator\.on_cpu"):
        serving_device(sys.executable, on_cpu=False)
