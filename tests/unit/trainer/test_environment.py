import sys
from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.trainer.environment import can_train, find_train_python


def test_an_interpreter_without_torch_cannot_train() -> None:
    assert not can_train(Path(sys.executable))


def test_what_is_not_there_or_does_not_run_cannot_train(tmp_path: Path) -> None:
    assert not can_train(tmp_path / "python")
    broken = tmp_path / "broken"
    broken.write_text("#!/does/not/exist\n", encoding="utf-8")
    broken.chmod(0o755)
    assert not can_train(broken)


def test_a_configured_interpreter_that_cannot_train_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hermes-apprentice\[train\]"):
        find_train_python(str(tmp_path / "python"))


def test_a_configured_interpreter_that_can_is_used(tmp_path: Path) -> None:
    willing = tmp_path / "python"
    willing.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    willing.chmod(0o755)
    assert find_train_python(str(willing)) == str(willing)
