"""Settings: defaults, then the file, then the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.settings import Settings, load_settings


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


def written(tmp_path: Path, text: str, **variables: str) -> Settings:
    (tmp_path / "settings.toml").write_text(text)
    return load_settings({"APPRENTICE_HOME": str(tmp_path), **variables})


@pytest.mark.parametrize(
    ("provider", "url", "variable"),
    [
        ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
        ("minimax", "https://api.minimax.io/v1", "MINIMAX_API_KEY"),
        ("together", "https://api.together.ai/v1", "TOGETHER_API_KEY"),
    ],
)
def test_a_providers_address_and_key_are_known_by_its_name(
    tmp_path: Path, provider: str, url: str, variable: str
) -> None:
    text = f'[upstream]\nprovider = "{provider}"\n'
    settings = written(tmp_path, text, **{variable: "sk-invented"})
    assert (settings.upstream.base_url, settings.upstream.label) == (url, provider)
    assert settings.upstream_api_key is not None
    text = f'[[upstream.fallbacks]]\nprovider = "{provider}"\nmodel = "m"\n'
    settings = written(tmp_path, text, **{variable: "sk-invented"})
    assert settings.upstream.base_url == "https://openrouter.ai/api/v1"
    assert settings.upstream.fallbacks[0].base_url == url
    assert settings.fallback_api_keys[0] is not None


def test_a_known_providers_key_is_not_sent_to_another_address(tmp_path: Path) -> None:
    text = """
    [upstream]
    base_url = "https://models.example.test/v1"
    [[upstream.fallbacks]]
    base_url = "https://other.example.test/v1"
    [[upstream.fallbacks]]
    base_url = "https://api.together.ai/v1/"
    [[upstream.fallbacks]]
    base_url = "https://openrouter.ai.example.test/api/v1"
    """
    settings = written(tmp_path, text, OPENROUTER_API_KEY="sk-or", TOGETHER_API_KEY="sk-to")
    assert settings.upstream_api_key is None
    keys = [key and key.get_secret_value() for key in settings.fallback_api_keys]
    assert keys == [None, "sk-to", None]
    names = [settings.upstream.label, *(tier.label for tier in settings.upstream.fallbacks)]
    assert names[:3] == ["models.example.test", "other.example.test", "together"]


def test_a_key_can_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("  sk-from-file\n")
    text = f"""
    [upstream]
    api_key_file = "{tmp_path / "key"}"
    [[upstream.fallbacks]]
    provider = "together"
    api_key_file = "{tmp_path / "missing"}"
    """
    settings = written(tmp_path, text, OPENROUTER_API_KEY="sk-or", TOGETHER_API_KEY="sk-to")
    assert settings.upstream_api_key is not None
    assert settings.upstream_api_key.get_secret_value() == "sk-from-file"
    assert settings.fallback_api_keys == (None,)
    assert "sk-" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[upstream]\nprovider = "nobody"\n', "upstream.provider"),
        ('[upstream]\nbase_url = "models.example.test/v1"\n', "upstream.base_url"),
        ('[upstream]\nbase_url = ""\n', "name a provider, or give base_url"),
        ("[[upstream.fallbacks]]\nmodel = 'm'\n", "upstream.fallbacks.0: .*name a provider"),
        ("[[upstream.fallbacks]]\nprovider = 'together'\nfallbacks = []\n", "fallbacks"),
    ],
)
def test_a_wrong_endpoint_names_the_setting(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        written(tmp_path, text)


def test_a_key_that_is_not_in_the_environment_is_read_where_setup_put_it(tmp_path: Path) -> None:
    environment = {"APPRENTICE_HOME": str(tmp_path), "HERMES_HOME": str(tmp_path / "hermes")}
    (tmp_path / "settings.toml").write_text(
        '[upstream]\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "INVENTED_KEY"\n'
    )
    assert load_settings(environment).upstream_api_key is None
    (tmp_path / "hermes").mkdir()
    (tmp_path / "hermes" / ".env").write_text("# mine\nexport INVENTED_KEY='k-1'\n")
    assert _secret(load_settings(environment)) == "k-1"
    (tmp_path / "upstream.env").write_text("INVENTED_KEY=k-2\n")
    assert _secret(load_settings(environment)) == "k-2"
    assert _secret(load_settings({**environment, "INVENTED_KEY": "k-3"})) == "k-3"


def _secret(settings: Settings) -> str:
    assert settings.upstream_api_key is not None
    return settings.upstream_api_key.get_secret_value()


def test_a_misspelt_setting_is_named_and_said_to_be_unknown(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[upstream]\nbase_ulr = 'http://127.0.0.1:9/v1'\n")
    with pytest.raises(ConfigError, match=r"upstream\.base_ulr: there is no such setting"):
        load_settings({"APPRENTICE_HOME": str(tmp_path)})
