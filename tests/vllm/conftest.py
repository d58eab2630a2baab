"""The real vLLM on the CPU, with a tiny model that is made here. Run by ``make test-vllm``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hermes_apprentice.domain.prompt import PromptTemplate
from hermes_apprentice.inference.generator import ADAPTER_DIR, GeneratorCard, write_card
from hermes_apprentice.serving.vllm import has_vllm
from hermes_apprentice.settings import Settings, VllmSettings

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[1] / ".venv-vllm" / "bin" / "python"


@dataclass(frozen=True)
class Tiny:
    """What was made."""

    folder: Path
    facts: dict[str, Any]

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def answer(self, name: str, request: str) -> str:
        return str(self.facts["adapters"][name][request])


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A tiny Qwen2 and two adapters."""
    if not has_vllm(PYTHON):
        pytest.fail(f"{PYTHON} has no vLLM; run: make test-vllm")
    folder = tmp_path_factory.mktemp("tiny")
    done = subprocess.run(
        [str(PYTHON), str(HERE / "make_tiny.py"), str(folder)],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return Tiny(folder, json.loads((folder / "facts.json").read_text()))


@pytest.fixture
def artefact(tiny: Tiny, tmp_path: Path) -> Callable[..., Path]:
    """A factory of artefacts as a training leaves them, with one of the adapters."""

    def make(name: str, folder: str = "", **changes: Any) -> Path:
        target = tmp_path / (folder or name)
        canary = tiny.facts["requests"][0]
        values: dict[str, Any] = {
            "base_model": str(tiny.base),
            "base_digest": tiny.facts["base_digest"],
            "rank": 8,
            "prompt": PromptTemplate(),
            "chat_template": tiny.facts["template"],
            "max_new_tokens": 24,
            "canary_request": canary,
            "canary_answer": tiny.answer(name, canary),
        }
        (target / ADAPTER_DIR).mkdir(parents=True)
        for part in ("adapter_config.json", "adapter_model.safetensors"):
            data = (tiny.folder / name / part).read_bytes()
            (target / ADAPTER_DIR / part).write_bytes(data)
        write_card(target, GeneratorCard(**{**values, **changes}))
        return target

    return make


@pytest.fixture
def vllm_settings(settings: Settings, tiny: Tiny) -> Settings:
    """Settings for a child on the tiny base with room for one adapter."""
    settings.home.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(
        update={
            "vllm": VllmSettings(
                server="child",
                python=str(PYTHON),
                base_model=str(tiny.base),
                max_loras=1,
                max_lora_rank=8,
                max_context=256,
                deadline_seconds=60,
                start_seconds=250,
                # One thread each, small caches: other work goes on beside this on two cores.
                extra_args=("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"),
            )
        }
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("OMP_NUM_THREADS", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("HF_HUB_OFFLINE", "1"),
    ):
        monkeypatch.setenv(name, value)
