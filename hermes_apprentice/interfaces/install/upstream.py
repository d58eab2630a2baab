"""Finds the model endpoint that a Hermes uses today, so that the sidecar can use it.

Pure: works on the parsed configuration and on what Hermes' own provider list says.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
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
    source = _source(config, provider, facts, variables)
    if wishes.upstream_url:
        url = wishes.upstream_url.rstrip("/")
        if source is None:
            key = {"key_env": wishes.key_env} if wishes.key_env else {}
            source = _Source(
                provider=UPSTREAM_NAME,
                added={"name": UPSTREAM_NAME, "base_url": url, **key},
            )
        return RealUpstream(
            base_url=url,
            key_env=wishes.key_env or "",
            inline_key=None,
            model=model,
            fallback={"provider": source.provider, "model": model},
            provider=source.added,
        )
    if source is None:
        raise ConfigError(
            "Hermes chooses its provider by itself (model.provider is not set). Name it with "
            "`hermes model`, or give --upstream-url and --key-env."
        )
    if source.auth_type != "api_key":
        raise ConfigError(
            f"The provider '{provider}' signs in with an account instead of a key. Start "
            "`hermes proxy start` and give its address with --upstream-url."
        )
    if not source.base_url:
        raise ConfigError(
            f"The address of the provider '{provider}' is not known. Give it with --upstream-url, "
            "and the variable that holds its key with --key-env."
        )
    if source.api_mode != "chat_completions":
        raise ConfigError(
            f"The provider '{provider}' speaks {source.api_mode} instead of chat completions. Give "
            "an OpenAI-compatible endpoint with --upstream-url, and its key's variable with "
            "--key-env."
        )
    key_env, inline = _key(source.entry, source.key_envs, variables)
    return RealUpstream(
        base_url=source.base_url.rstrip("/"),
        key_env=wishes.key_env or key_env,
        inline_key=None if wishes.key_env else inline,
        model=model,
        fallback={"provider": source.provider, "model": model},
        provider=source.added,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where an endpoint is described."""

    provider: str
    """What Hermes is to call it as a fallback."""

    base_url: str = ""
    """Its address, if that is known."""

    api_mode: str = "chat_completions"
    """How it is spoken to."""

    auth_type: str = "api_key"
    """How one signs in."""

    entry: dict[str, Any] = field(default_factory=dict)
    """What the user wrote about it, possibly with a key."""

    key_envs: tuple[str, ...] = ()
    """Variables that may hold its key."""

    added: dict[str, Any] | None = None
    """A provider entry for it, where Hermes has no name for it."""


def _source(
    config: dict[str, Any],
    provider: str,
    facts: ProviderFacts | None,
    variables: Collection[str],
) -> _Source | None:
    """Find where the present endpoint is described; ``None`` where Hermes chooses it itself."""
    section, own = model_settings(config), _named(config, provider)
    if _address(own):
        mode = own.get("api_mode") or own.get("transport") or "chat_completions"
        return _Source(provider=provider, base_url=_address(own), api_mode=str(mode), entry=own)
    known = facts is not None and bool(facts.base_url)
    if provider.lower() == "custom" or (section.get("base_url") and not known):
        keys = ("base_url", "api_key", "key_env", "api_key_env", "api_mode")
        return _Source(
            provider=UPSTREAM_NAME,
            base_url=_address(section),
            api_mode=str(section.get("api_mode") or "chat_completions"),
            entry=section,
            added={"name": UPSTREAM_NAME} | {key: section[key] for key in keys if section.get(key)},
        )
    if provider == "auto":
        if "OPENROUTER_API_KEY" not in variables:
            return None
        return _Source(
            provider="openrouter",
            base_url="https://openrouter.ai/api/v1",
            key_envs=("OPENROUTER_API_KEY",),
        )
    if facts is None:
        return _Source(provider=provider)
    return _Source(
        provider=provider,
        base_url=str(section.get("base_url") or facts.base_url),
        api_mode=facts.api_mode,
        auth_type=facts.auth_type,
        entry=own,
        key_envs=facts.env_vars,
    )


def _address(entry: dict[str, Any]) -> str:
    return str(entry.get("base_url") or entry.get("url") or entry.get("api") or "")


def _named(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what the user wrote about the provider of that name, in either of the two places."""
    wanted = _plain(name).removeprefix("custom:")
    providers, custom = config.get("providers"), config.get("custom_providers")
    for key, entry in providers.items() if isinstance(providers, dict) else ():
        if isinstance(entry, dict) and _plain(key) == wanted:
            return entry
    for item in custom if isinstance(custom, list) else ():
        if isinstance(item, dict) and _plain(item.get("name")) == wanted:
            return item
    return {}


def _plain(name: object) -> str:
    """Write a provider's name as Hermes compares it."""
    return str(name).strip().lower().replace(" ", "-")


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
