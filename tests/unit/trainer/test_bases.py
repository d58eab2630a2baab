from __future__ import annotations

import json
from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import TrainerSettings
from hermes_apprentice.trainer.bases import ALL_LINEAR, find_base, load_bases

ENTRY = """
models:
  - name: acme/tiny
    licence: MIT
    parameters: 0.1
    min_vram_gb: 1
    chat_template: own
    target_modules: [q_proj]
"""


def test_the_shipped_list_has_licences_and_the_default() -> None:
    bases = load_bases()
    assert TrainerSettings().base_model in bases
    assert bases["Qwen/Qwen2.5-1.5B-Instruct"].licence == "Apache-2.0"
    assert "Research" in bases["Qwen/Qwen2.5-3B-Instruct"].licence
    assert bases["meta-llama/Llama-3.2-3B-Instruct"].chat_template == "llama-3"
    assert all(len(base.target_modules) == 7 for base in bases.values())


def test_the_operators_list_extends_and_overrides(tmp_path: Path) -> None:
    own = tmp_path / "supported_models.yaml"
    own.write_text(
        ENTRY + ENTRY.split("models:\n")[1].replace("acme/tiny", "Qwen/Qwen2.5-3B-Instruct"),
        encoding="utf-8",
    )
    bases = load_bases(own)
    assert len(bases) == len(load_bases()) + 1
    assert bases["acme/tiny"].target_modules == ("q_proj",)
    assert bases["Qwen/Qwen2.5-3B-Instruct"].licence == "MIT"
    assert load_bases(tmp_path / "none.yaml") == load_bases()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY.replace("licence: MIT", ""), "acme/tiny: licence: Field required"),
        (ENTRY.replace("0.1", "-1"), "acme/tiny: parameters"),
        (ENTRY.replace("own", "alpaca"), "acme/tiny: chat_template"),
        (ENTRY.replace("[q_proj]", "[]"), "acme/tiny: target_modules"),
        (ENTRY.replace("licence", "license"), "acme/tiny: "),
        (ENTRY + ENTRY.split("models:\n")[1], "acme/tiny is listed twice"),
        ("models: [1", "cannot be read"),
        ("other: 1", "models"),
        ("", "valid dictionary"),
    ],
)
def test_a_wrong_list_is_refused_with_the_entry_and_the_reason(
    text: str, problem: str, tmp_path: Path
) -> None:
    own = tmp_path / "supported_models.yaml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"supported_models\.yaml") as caught:
        load_bases(own)
    assert problem in str(caught.value)


def test_a_folder_is_a_base_if_it_holds_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a folder nor in the list"):
        find_base(str(tmp_path / "nowhere"), load_bases())
    with pytest.raises(ConfigError, match=r"config\.json"):
        find_base(str(tmp_path), load_bases())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="no weights"):
        find_base(str(tmp_path), load_bases())
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2_000)
    base = find_base(str(tmp_path), load_bases())
    assert base.name == str(tmp_path.resolve()) and "q_proj" in base.target_modules
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd"}), encoding="utf-8")
    assert find_base(str(tmp_path), load_bases()).target_modules == ALL_LINEAR
