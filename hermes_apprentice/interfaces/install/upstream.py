"""Finds the model endpoint that a Hermes uses today, so that the sidecar can use it.

Pure: works on the parsed configuration and on what Hermes' own provider list says.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.wishes import ProviderFacts, Wishes

OUR_NAME = "apprentice"
"""Our provider, plugin and MCP server in Hermes' configuration."""

UPSTREAM_NAME = "apprentice-upstream"
"""Our name for an endpoint that Hermes knows as ``custom``, without a name of its own."""

INLINE_KEY_ENV = "APPRENTICE_UPSTREAM_KEY"
"""Variable for a key that stood in Hermes' configuration itself."""

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RealUpstream:
    """What Hermes asks today."""

    base_url: str
    """OpenAI-compatible endpoint, without a trailing slash."""

    key_env: str
    """Variable with its key; empty where it needs none."""

    inline_key: SecretStr | None
    """A key that stands in the configuration itself."""

    model: str
    """The model's name."""

    fallback: dict[str, Any]
    """The entry that lets Hermes ask it without the sidecar."""

    provider: dict[str, Any] | None = None
    """A provider entry for it, where Hermes has no name for it.

    To Hermes the sidecar is ``custom``, and a fallback that is ``custom`` as well, with the same
    model, counts as the endpoint that has just failed: it is skipped.
    """


def model_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the section ``model``, of which Hermes knows a short form as well."""
    found = config.get("model")
    if isinstance(found, str):
        return {"default": found}
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError("'model' in Hermes' config.yaml is neither a name nor a mapping.")
    return found


def provider_name(config: dict[str, Any]) -> str:
    """Return the provider that the configuration names; ``auto`` where it names none."""
    return str(model_settings(config).get("provider") or "auto").strip()


def find_upstream(
    config: dict[str, Any],
    wishes: Wishes,
    facts: ProviderFacts | None,
    variables: Collection[str],
) -> RealUpstream:
    """Return the endpoint that Hermes uses today.

    Args:
        config: Hermes' configuration, without anything of ours.
        wishes: What the operator asked for; goes before what is found.
        facts: What Hermes' own list says about the configured provider.
        variables: Names of the environment variables that are set for Hermes.

    Raises:
        ConfigError: It cannot be told, or the sidecar cannot speak to it.
    """
    section = model_settings(config)
    model = wishes.model or str(
        section.get("default") or section.get("model") or section.get("name") or ""
    )
    if not model:
        raise ConfigError(
            "Hermes has no model yet. Choose one with `hermes model`, or name it with --model."
        )
    provider = provider_name(config)
    if provider.lower() == OUR_NAME:
        raise ConfigError(
            f"Hermes' model.provider is already '{OUR_NAME}', and not by this setup. Set it to "
            "your real provider (`hermes model`), then run the command again."
        )
    own = _named(config, provider)
    entry: dict[str, Any] = {"provider": provider, "model": model}
    source: dict[str, Any] = {}
    added: dict[str, Any] | None = None
    base_url = ""
    key_envs: tuple[str, ...] = ()
    if provider.lower() == "custom" or (provider == "auto" and section.get("base_url")):
        source = section
        entry["provider"] = UPSTREAM_NAME
        keys = ("base_url", "api_key", "key_env", "api_key_env", "api_mode")
        added = {"name": UPSTREAM_NAME} | {key: section[key] for key in keys if section.get(key)}
    elif own is not None:
        source = own
    elif provider == "auto":
        if "OPENROUTER_API_KEY" not in variables and not wishes.upstream_url:
            raise ConfigError(
                "Hermes chooses its provider by itself (model.provider is not set). Name it with "
                "`hermes model`, or give --upstream-url and --key-env."
            )
        if "OPENROUTER_API_KEY" in variables:
            entry["provider"] = "openrouter"
            base_url, key_envs = "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)
    elif facts is not None:
        base_url = str(section.get("base_url") or facts.base_url)
        key_envs = facts.env_vars
    if wishes.upstream_url:
        if not source and not base_url and provider == "auto":
            entry["provider"] = UPSTREAM_NAME
            added = {"name": UPSTREAM_NAME, "base_url": wishes.upstream_url}
            if wishes.key_env:
                added["key_env"] = wishes.key_env
        return RealUpstream(
            base_url=wishes.upstream_url.rstrip("/"),
            key_env=wishes.key_env or "",
            inline_key=None,
            model=model,
            fallback=entry,
            provider=added,
        )
    mode = str(source.get("api_mode") or source.get("transport") or "chat_completions")
    if facts is not None and not source:
        mode = facts.api_mode
        if facts.auth_type != "api_key":
            raise ConfigError(
                f"The provider '{provider}' signs in with an account instead of a key. Start "
                "`hermes proxy start` and give its address with --upstream-url."
            )
    base_url = base_url or str(
        source.get("base_url") or source.get("url") or source.get("api") or ""
    )
    if not base_url:
        raise ConfigError(
            f"The address of the provider '{provider}' is not known. Give it with --upstream-url, "
            "and the variable that holds its key with --key-env."
        )
    if mode != "chat_completions":
        raise ConfigError(
            f"The provider '{provider}' does not speak chat completions (but {mode}). Give an "
            "OpenAI-compatible endpoint with --upstream-url, and its key's variable with --key-env."
        )
    key_env, inline = _key(source, key_envs, variables)
    return RealUpstream(
        base_url=base_url.rstrip("/"),
        key_env=wishes.key_env or key_env,
        inline_key=None if wishes.key_env else inline,
        model=model,
        fallback=entry,
        provider=added,
    )


def _named(config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the user's own provider of that name, from either of the two places."""
    providers = config.get("providers")
    if isinstance(providers, dict) and isinstance(providers.get(name), dict):
        return dict(providers[name])
    custom = config.get("custom_providers")
    for item in custom if isinstance(custom, list) else ():
        if isinstance(item, dict) and str(item.get("name")) in (name, name.removeprefix("custom:")):
            return item
    return None


def _key(
    source: dict[str, Any], key_envs: Collection[str], variables: Collection[str]
) -> tuple[str, SecretStr | None]:
    """Return the variable with the key, and the key itself where no variable has it."""
    inline = str(source.get("api_key") or "").strip()
    if reference := _REFERENCE.match(inline):
        return reference[1], None
    if inline:
        return INLINE_KEY_ENV, SecretStr(inline)
    named = str(source.get("key_env") or source.get("api_key_env") or "").strip()
    if named:
        return named, None
    known = [name for name in key_envs if name in variables]
    return (known or [*key_envs, ""])[0], None
