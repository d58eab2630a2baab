"""How llama.cpp's converter is found and checked; the real one runs in ``make test-gguf``."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError, MissingExtraError, TrainingError
from hermes_apprentice.trainer.exporting import export_gguf, find_converter

NAME = "convert_hf_to_gguf.py"


def test_the_converter_is_found_by_its_path_its_folder_or_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"neither convert_hf_to_gguf\.py nor a folder"):
        find_converter(str(tmp_path))
    script = tmp_path / NAME
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    assert find_converter(str(script)) == script
    assert find_converter(str(tmp_path)) == script
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not on PATH: .* 'hermes-apprentice\[gguf\]'"):
        find_converter("")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    assert find_converter("") == script


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("sentencepiece") is not None,
    reason="sentencepiece is installed here, so nothing is missing",
)
def test_what_the_converter_needs_is_missed_before_anything_is_merged(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("", encoding="utf-8")
    with pytest.raises(MissingExtraError, match=r"sentencepiece not found .*\[gguf\]"):
        export_gguf(sys.executable, tmp_path / "no-artefact", tmp_path / "a.gguf", str(tmp_path))
    assert sorted(one.name for one in tmp_path.iterdir()) == [NAME]


def test_a_converter_that_does_not_start_is_told_before_anything_is_merged(tmp_path: Path) -> None:
    program = tmp_path / "convert-hf-to-gguf"
    program.write_text("#!/bin/sh\necho no module named torch >&2\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(TrainingError, match="asked for its help, failed: no module named torch"):
        export_gguf(sys.executable, tmp_path / "no-artefact", tmp_path / "a.gguf", str(program))
    (tmp_path / "a.gguf").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="there already"):
        export_gguf(sys.executable, tmp_path / "no-artefact", tmp_path / "a.gguf", str(program))
