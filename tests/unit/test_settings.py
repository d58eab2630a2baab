"""Settings: defaults, then the file, then the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import load_settings


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = load_settings({"APPRENTICE_HOME": str(tmp_path)})
    assert settings.home == tmp_path
    assert settings.rollout.target_agreement == 0.80
    assert settings.upstream_api_key is None


def test_the_file_overrides_defaults_and_the_environment_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        'hermes_home = "/from/file"\n[detector]\nmin_exchanges = 20\n'
    )
    environment = {"APPRENTICE_HOME": str(tmp_path)}
    assert load_settings(environment).hermes_home == Path("/from/file")
    assert load_settings(environment).detector.min_exchanges == 20
    environment["HERMES_HOME"] = "/from/environment"
    assert load_settings(environment).hermes_home == Path("/from/environment")


def test_the_key_is_read_by_name_and_never_printed(tmp_path: Path) -> None:
    settings = load_settings(
        {"APPRENTICE_HOME": str(tmp_path), "OPENROUTER_API_KEY": "sk-or-invented"}
    )
    assert settings.upstream_api_key is not None
    assert settings.upstream_api_key.get_secret_value() == "sk-or-invented"
    assert "invented" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[detector\n", "cannot be read"),
        ("[detector]\nmin_exchanges = 1\n", "detector.min_exchanges"),
        ("[detector]\nmin_exchange = 20\n", "detector.min_exchange"),
    ],
)
def test_a_wrong_file_names_the_setting(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings({"APPRENTICE_HOME": str(tmp_path)})
