"""Check every part of an installation, and say how to repair what is wrong.

Reads only. Each check stands alone: one that fails does not hide the others.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime

from pydantic import SecretStr

from hermes_apprentice.domain.money import dollars
from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.ledger.prices import load_prices
from hermes_apprentice.ledger.tenant_accounts import tenant_accounts
from hermes_apprentice.observer.profiles import discover_profiles
from hermes_apprentice.observer.session_db import SessionReader
from hermes_apprentice.registry.registry import Registry
from hermes_apprentice.registry.signing import load_or_create_keys
from hermes_apprentice.serving.model_server import served_now
from hermes_apprentice.serving.vllm import Address, read_note, vllm_python
from hermes_apprentice.settings import ADMIN_KEY_ENV, Settings, TierSettings, key_from_files
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import marker_of
from hermes_apprentice.trainer.environment import find_train_python

_LEAST_FREE = 2_000_000_000
_TIMEOUT = 5.0
_CLOCK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """What was looked at."""

    ok: bool
    """Whether it is in order."""

    found: str
    """What was found."""

    advice: str = ""
    """What to do, where something is wrong."""

    optional: bool = False
    """Whether Apprentice works without it."""


def _count(number: int, what: str) -> str:
    """Write a number with its noun: "1 model", "2 models"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


Check = tuple[str, Callable[[Settings], Iterator[Finding]]]
"""A name, and what looks."""


def examine(
    settings: Settings, further: Sequence[Check] = (), elsewhere: Collection[str] = ()
) -> list[Finding]:
    """Run every check.

    Args:
        settings: Everything that can be set.
        further: Checks that know more than this module may.
        elsewhere: Names of the checks that say nothing on this side, because Apprentice is in a
            container or a microVM.
    """
    checks: tuple[Check, ...] = (
        ("sessions", _sessions),
        ("database", _database),
        ("embedder", _embedder),
        ("registry", _registry),
        ("tenants", _tenants),
        ("prices", _prices),
        ("upstream", _upstream),
        ("sidecar", _sidecar),
        ("training environment", _training),
        ("budget", _budget),
        ("model server", _model_server),
        ("disk", _disk),
        ("clock", _clock),
        *further,
    )
    findings: list[Finding] = []
    for name, check in checks:
        if name in elsewhere:
            continue
        try:
            findings.extend(check(settings))
        except (ApprenticeError, OSError) as error:
            findings.append(Finding(name, False, str(error), "see the message"))
    return findings


def _sessions(settings: Settings) -> Iterator[Finding]:
    profiles = discover_profiles(settings.hermes_home)
    if not profiles:
        yield Finding(
            "sessions",
            False,
            f"no state.db below {settings.hermes_home}",
            "talk to Hermes once, or set HERMES_HOME",
        )
    for profile, path in profiles:
        with closing(SessionReader(path)) as sessions:
            count, _ = sessions.session_tally()
        yield Finding("sessions", True, f"{profile}: {count} sessions")


def _database(settings: Settings) -> Iterator[Finding]:
    with Database(settings.database_path) as database:
        count = database.read("SELECT COUNT(*) FROM exchanges")[0][0]
    yield Finding("database", True, f"{count} exchanges in {settings.database_path}")


def _embedder(settings: Settings) -> Iterator[Finding]:
    present = [row.name for row in ModelStore(settings.models_dir).list()]
    yield Finding(
        "embedder",
        bool(present),
        ", ".join(present) or "no model in the store",
        "" if present else "apprentice models pull",
    )


def _registry(settings: Settings) -> Iterator[Finding]:
    registry = Registry(settings.registry_dir, load_or_create_keys(settings.keys_dir))
    verified = 0
    for slug in registry.slugs():
        for version in registry.versions(slug):
            try:
                registry.open_version(slug, version)
                verified += 1
            except ApprenticeError as error:
                yield Finding("registry", False, str(error), f"apprentice tick --retry {slug}")
    yield Finding("registry", True, f"{_count(verified, 'version')} verified")


def _tenants(settings: Settings) -> Iterator[Finding]:
    marker = marker_of(settings.database_path)
    with Database(settings.database_path) as database:
        known = tenant_accounts(database, time.time())
    if not known:
        yield Finding(
            "tenants",
            not marker.exists(),
            f"none, but {marker} says that there are: every request is refused"
            if marker.exists()
            else "none: this machine only, without a key",
            "restore the database, or create the tenants again" if marker.exists() else "",
        )
        return
    let_in = [one.tenant.name for one in known if one.keys]
    yield Finding("tenants", True, f"{len(let_in)} with a key: {', '.join(let_in) or 'nobody'}")
    for one in known:
        budget = one.tenant.limits.monthly_budget
        if one.keys and budget is not None and one.month.cost >= budget:
            yield Finding(
                "tenants",
                False,
                f"{one.tenant.name} has used up its {dollars(budget)} of this month",
                f"apprentice tenants limit {one.tenant.name} --budget DOLLARS",
                optional=True,
            )


def _prices(settings: Settings) -> Iterator[Finding]:
    with Database(settings.database_path) as database:
        models = [row[0] for row in database.read("SELECT DISTINCT model FROM exchanges")]
    prices = load_prices(settings.prices_path)
    unknown = [model for model in models if prices.price_of(model) is None]
    yield Finding(
        "prices",
        not unknown,
        f"no price for {', '.join(unknown)}"
        if unknown
        else f"{_count(len(models), 'model')} priced",
        f"add them to {settings.prices_path}" if unknown else "",
        optional=True,
    )


def _upstream(settings: Settings) -> Iterator[Finding]:
    """Look at every endpoint: the first one, and those that stand in for it."""
    keys = (settings.upstream_api_key, *settings.fallback_api_keys)
    yield from _endpoint(settings, settings.upstream, keys[0])
    for number, tier in enumerate(settings.upstream.fallbacks, start=1):
        key = keys[number] if number < len(keys) else None
        for finding in _endpoint(settings, tier, key):
            if finding.check == "upstream":
                yield replace(finding, found=f"stands in: {finding.found}", optional=True)


def _endpoint(settings: Settings, tier: TierSettings, read: SecretStr | None) -> Iterator[Finding]:
    key = read.get_secret_value() if read is not None else _noted(settings, tier.api_key_env)
    if not key and tier.api_key_file is not None:
        text = f"{tier.base_url}: {tier.api_key_file} holds no key that can be read"
        yield Finding("upstream", False, text, f"write the key into {tier.api_key_file}")
        return
    if not key and tier.api_key_env:
        text = f"{tier.base_url}: {tier.api_key_env} is not set"
        env = settings.hermes_home / ".env"
        yield Finding("upstream", False, text, f"set {tier.api_key_env}, or write it into {env}")
        return
    request = urllib.request.Request(tier.base_url.rstrip("/") + "/models")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            yield Finding("upstream", True, f"{tier.base_url}: {answer.status}")
            yield from _against(answer.headers.get("Date"), time.time())
    except urllib.error.HTTPError as error:
        reachable = error.code == 404
        yield Finding(
            "upstream",
            reachable,
            f"{tier.base_url}: {error.code}",
            "" if reachable else "check the key and the address",
        )
    except (urllib.error.URLError, TimeoutError) as error:
        advice = "check the address and the network"
        yield Finding("upstream", False, f"{tier.base_url}: {error}", advice)


def _noted(settings: Settings, variable: str) -> str:
    """Return a variable from where services read it, if it is not in our environment."""
    return key_from_files(variable, settings) if variable else ""


def _against(date: str | None, now: float) -> Iterator[Finding]:
    """Compare the clock with the time that a server says it is."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return
    if abs(theirs - now) > _CLOCK_SECONDS:
        yield Finding(
            "clock",
            False,
            f"{abs(theirs - now):.0f} s off the upstream's",
            "set the clock (timedatectl set-ntp true)",
        )


def _clock(settings: Settings) -> Iterator[Finding]:
    with Database(settings.database_path) as database:
        newest = database.read("SELECT MAX(asked_at) FROM exchanges")[0][0]
    ahead = (newest or 0) - time.time()
    ok = ahead <= _CLOCK_SECONDS
    yield Finding(
        "clock",
        ok,
        "plausible" if ok else f"requests are {ahead:.0f} s in the future",
        "" if ok else "set the clock (timedatectl set-ntp true)",
    )


def _sidecar(settings: Settings) -> Iterator[Finding]:
    path = settings.home / "sidecar.json"
    key = settings.admin_key.get_secret_value() if settings.admin_key is not None else ""
    key = key or _noted(settings, ADMIN_KEY_ENV)
    try:
        url = json.loads(path.read_text(encoding="utf-8"))["url"]
        url = url.replace("//0.0.0.0", "//127.0.0.1")  # in a container it listens everywhere
        request = urllib.request.Request(f"{url}/healthz")
        if key:
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            health = json.loads(answer.read())
    except (OSError, ValueError, KeyError):
        yield Finding("sidecar", False, "not running", "apprentice serve", optional=True)
        return
    if "problems" not in health:
        more = f"how it does it tells only with the operator's key ({ADMIN_KEY_ENV})"
        yield Finding("sidecar", True, f"{url}: runs; {more}")
        return
    problems = [f"{name}: {text}" for name, text in (health["problems"] or {}).items()]
    yield Finding(
        "sidecar",
        not problems,
        f"{url}: {'; '.join(problems) or 'healthy'}",
        "see the text; the upstream answers meanwhile" if problems else "",
    )


def _training(settings: Settings) -> Iterator[Finding]:
    python = find_train_python(settings.trainer.train_python)
    yield Finding(
        "training environment",
        python is not None,
        python or "none; extractors are trained as a CRF, without torch",
        "" if python else "apprentice setup --with-training",
        optional=True,
    )


def _budget(settings: Settings) -> Iterator[Finding]:
    limit = settings.budget.monthly_dollars
    yield Finding(
        "budget",
        limit > 0,
        f"{limit:g} dollars a month for paid training" if limit else "none: nothing paid is done",
        "" if limit else f"in {settings.home / 'settings.toml'}: [budget] monthly_dollars = 10",
        optional=True,
    )


def _model_server(settings: Settings) -> Iterator[Finding]:
    wanted = settings.vllm
    name = "model server"
    if wanted.server == "off":
        yield Finding(name, True, "none; generators are not served by one", optional=True)
        return
    if wanted.server == "child":
        python = vllm_python(wanted)
        yield Finding(
            name,
            bool(wanted.base_model),
            f"{python}, started for the first generator, on {wanted.base_model or 'no base model'}",
            "" if wanted.base_model else "set vllm.base_model",
        )
        return
    key = settings.vllm_api_key
    address = (
        read_note(settings.vllm_note)
        if wanted.server == "service"
        else Address(wanted.url, key.get_secret_value() if key is not None else "")
    )
    names = served_now(address)
    missing = sorted(set(wanted.served_names.values()) - set(names))
    yield Finding(
        name,
        not missing,
        f"{address.url} serves {len(names)} models"
        + (f", and not {', '.join(missing)}" if missing else ""),
        "correct vllm.served_names, or put them there" if missing else "",
    )


def _disk(settings: Settings, least: int = _LEAST_FREE) -> Iterator[Finding]:
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(settings.home).free
    yield Finding(
        "disk",
        free > least,
        f"{free / 1e9:.1f} GB free at {settings.home}",
        "" if free > least else "free some space",
    )
