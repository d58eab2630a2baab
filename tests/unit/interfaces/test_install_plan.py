"""What a setup decides to change, what it refuses, and what it says."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.testing
import yaml
from pydantic import SecretStr

from hermes_apprentice.domain.tenant import Limits
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.cli.installing import _difference
from hermes_apprentice.interfaces.cli.main import app
from hermes_apprentice.interfaces.install.admission import admitted
from hermes_apprentice.interfaces.install.carrying_out import carry_out, check_writable, take_out
from hermes_apprentice.interfaces.install.isolating import hint_about_hermes
from hermes_apprentice.interfaces.install.placement import place, sidecar_url
from hermes_apprentice.interfaces.install.plan import (
    Act,
    FileChange,
    Plan,
    Step,
    script_content,
)
from hermes_apprentice.interfaces.install.receipt import JobRecord, receipt_path
from hermes_apprentice.interfaces.install.scheduler import Job, wanted_jobs
from hermes_apprentice.interfaces.install.setting_up import plan_setup
from hermes_apprentice.interfaces.install.survey import (
    OwnState,
    profile_home,
    survey_own,
    survey_profile,
)
from hermes_apprentice.interfaces.install.taking_back import plan_removal
from hermes_apprentice.interfaces.install.upstream import (
    INLINE_KEY_ENV,
    UPSTREAM_NAME,
    RealUpstream,
    find_upstream,
)
from hermes_apprentice.interfaces.install.wishes import (
    HermesFacts,
    Machine,
    ProviderFacts,
    Wishes,
)
from hermes_apprentice.settings import (
    IsolationSettings,
    ServerSettings,
    Settings,
    TrainerSettings,
    UpstreamSettings,
)
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import TenantStore

OPENROUTER = ProviderFacts(
    base_url="https://openrouter.ai/api/v1",
    api_mode="chat_completions",
    auth_type="api_key",
    env_vars=("OPENROUTER_API_KEY",),
)
CONFIG = "model: {provider: openrouter, default: vendor/large}  # mine\n"


def facts(**changes: Any) -> HermesFacts:
    values: dict[str, Any] = {
        "command": Path("/opt/hermes/bin/hermes"),
        "python": Path("/opt/hermes/bin/python"),
        "version": "0.19.0",
        "has_apprentice": True,
        "has_mcp": True,
        "has_messaging": True,
        "provider": OPENROUTER,
    }
    return HermesFacts(**values | changes)


def machine(**changes: Any) -> Machine:
    values: dict[str, Any] = {
        "gpus": (),
        "kvm": False,
        "docker": "",
        "free_bytes": 50_000_000_000,
        "user_services": False,
    }
    return Machine(**values | changes)


def own(place: Settings, **changes: Any) -> OwnState:
    values: dict[str, Any] = {
        "settings": None,
        "upstream_env": None,
        "has_keys": True,
        "has_embedder": True,
        "has_training": False,
        "unit_path": place.home.parent / "units" / "apprentice.service",
        "unit": None,
    }
    return OwnState(**values | changes)


@pytest.fixture
def home(settings: Settings) -> Path:
    settings.hermes_home.mkdir(parents=True)
    (settings.hermes_home / "config.yaml").write_text(CONFIG)
    return settings.hermes_home


def planned(
    settings: Settings,
    wishes: Wishes | None = None,
    *,
    jobs: tuple[JobRecord, ...] = (),
    hermes: HermesFacts | None = None,
    **changes: Any,
) -> Plan:
    names = (wishes or Wishes()).profiles
    states = [survey_profile(settings.home, n, profile_home(settings, n)) for n in names]
    found = hermes or facts()
    return plan_setup(
        settings,
        wishes or Wishes(),
        states,
        changes.pop("own", None) or own(settings),
        [found] * len(states),
        machine(**changes),
        jobs,
    )


def removal(settings: Settings) -> Plan:
    states = [survey_profile(settings.home, "default", settings.hermes_home)]
    return plan_removal(settings, states, own(settings), services=False)


def done(plan: Plan, settings: Settings) -> list[str]:
    said: list[str] = []
    carry_out(plan, settings, None, said.append)
    return said


def test_a_setup_says_what_hermes_needs_and_a_second_one_says_nothing(
    settings: Settings, home: Path
) -> None:
    plan = planned(settings)
    assert not plan.warnings
    done(plan, settings)
    config = yaml.safe_load((home / "config.yaml").read_text())
    assert config["model"] == {"provider": "apprentice", "default": "vendor/large"}
    assert config["providers"]["apprentice"]["base_url"] == sidecar_url(settings)
    assert config["fallback_model"] == {"provider": "openrouter", "model": "vendor/large"}
    assert config["plugins"]["enabled"] == ["apprentice"]
    assert str(settings.skills_dir) in config["skills"]["external_dirs"]
    environment = config["mcp_servers"]["apprentice"]["env"]
    assert environment["APPRENTICE_HOME"] == str(settings.home)
    toml = (settings.home / "settings.toml").read_bytes()
    assert b'api_key_env = "OPENROUTER_API_KEY"' in toml
    assert planned(settings, own=own(settings, settings=toml)).empty
    take_out(removal(settings), settings, None, print)
    assert (home / "config.yaml").read_text() == CONFIG
    assert sorted(path.name for path in home.iterdir()) == ["config.yaml"]


def test_a_setup_after_further_changes_keeps_both(settings: Settings, home: Path) -> None:
    done(planned(settings), settings)
    path = home / "config.yaml"
    path.write_text(path.read_text() + "mine: 1\n")
    toml = (settings.home / "settings.toml").read_bytes()
    assert planned(settings, own=own(settings, settings=toml)).empty
    moved = settings.model_copy(update={"server": ServerSettings(port=9_999)})
    again = planned(moved, own=own(settings, settings=toml))
    assert not again.empty
    done(again, moved)
    assert yaml.safe_load(path.read_text())["providers"]["apprentice"]["base_url"].endswith(
        ":9999/v1"
    )
    take_out(removal(settings), settings, None, print)
    assert path.read_text() == CONFIG + "mine: 1\n"


def test_what_the_user_adds_to_our_entries_survives_a_setup_and_not_an_uninstall(
    settings: Settings, home: Path
) -> None:
    done(planned(settings), settings)
    path = home / "config.yaml"
    path.write_text(path.read_text().replace("api_key: unused", "api_key: unused\n    extra: 7"))
    toml = (settings.home / "settings.toml").read_bytes()
    assert planned(settings, own=own(settings, settings=toml)).empty
    moved = settings.model_copy(update={"server": ServerSettings(port=9_999)})
    done(planned(moved, own=own(settings, settings=toml)), moved)
    entry = yaml.safe_load(path.read_text())["providers"]["apprentice"]
    assert (entry["extra"], entry["base_url"]) == (7, "http://127.0.0.1:9999/v1")
    path.write_text(path.read_text().replace(":9999", ":7777") + "mine: 1\n")
    take_out(removal(settings), settings, None, print)
    assert path.read_text() == CONFIG + "mine: 1\n"


def test_the_file_behind_a_link_is_changed_and_the_link_stays(
    settings: Settings, home: Path
) -> None:
    kept = settings.hermes_home.parent / "dot files" / "hermes.yaml"
    kept.parent.mkdir()
    (home / "config.yaml").rename(kept)
    (home / "config.yaml").symlink_to(kept)
    kept.chmod(0o640)
    done(planned(settings), settings)
    assert (home / "config.yaml").is_symlink()
    assert "apprentice" in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_home_without_configuration_needs_a_model_and_gets_one(
    settings: Settings, home: Path
) -> None:
    (home / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="--model"):
        planned(settings)
    wishes = Wishes(model="vendor/large", upstream_url="http://127.0.0.1:9/v1", key_env="MY_KEY")
    done(planned(settings, wishes), settings)
    config = yaml.safe_load((home / "config.yaml").read_text())
    assert config["fallback_model"] == {"provider": UPSTREAM_NAME, "model": "vendor/large"}
    assert config["providers"][UPSTREAM_NAME] == {
        "name": UPSTREAM_NAME,
        "base_url": "http://127.0.0.1:9/v1",
        "key_env": "MY_KEY",
    }
    take_out(removal(settings), settings, None, print)
    assert not (home / "config.yaml").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("providers: {apprentice: {base_url: http://x}}\n", "providers.apprentice"),
        ("mcp_servers:\n  apprentice: {command: theirs}\n", "mcp_servers.apprentice"),
        ("custom_providers: [{name: apprentice, base_url: u}]\n", "custom_providers"),
    ],
)
def test_what_is_called_apprentice_and_not_ours_is_never_overwritten(
    settings: Settings, home: Path, text: str, named: str
) -> None:
    (home / "config.yaml").write_text(CONFIG + text)
    with pytest.raises(ConfigError, match=f"{named}.*not touched"):
        planned(settings)


def test_foreign_plugins_scripts_jobs_and_providers_stop_the_setup(
    settings: Settings, home: Path
) -> None:
    (home / "config.yaml").write_text("model: {provider: apprentice, default: m}\n")
    with pytest.raises(ConfigError, match="already 'apprentice'"):
        planned(settings)
    (home / "config.yaml").write_text(CONFIG)
    foreign = home / "plugins" / "apprentice" / "plugin.yaml"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("name: apprentice\n")
    with pytest.raises(ConfigError, match="plugins/apprentice"):
        planned(settings)
    foreign.unlink()
    (home / "scripts").mkdir()
    (home / "scripts" / "apprentice_tick.py").write_text("print('theirs')\n")
    with pytest.raises(ConfigError, match=r"scripts/apprentice_tick\.py"):
        planned(settings, jobs=wanted_jobs())
    (home / "scripts" / "apprentice_tick.py").unlink()
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_text(
        '{"jobs": [{"id": "aaaaaaaaaaaa", "name": "apprentice-tick", "script": "own.py"}]}'
    )
    with pytest.raises(ConfigError, match="runs something else"):
        planned(settings, jobs=wanted_jobs())


def test_jobs_are_made_once_and_brought_up_to_date(settings: Settings, home: Path) -> None:
    job = JobRecord(name="a", schedule="every 5m", script="apprentice_tick.py", deliver="local")
    plan = planned(settings, jobs=(job,))
    assert [(one.act, one.job) for one in plan.profiles[0].jobs] == [(Act.CREATE, job)]
    there = Job(job_id="bbbbbbbbbbbb", name="a", script="apprentice_tick.py")
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_text(
        f'{{"jobs": [{{"id": "{there.job_id}", "name": "a", "script": "{there.script}"}}]}}'
    )
    plan = planned(settings, jobs=(job,))
    assert plan.profiles[0].jobs == ()
    done(plan, settings)
    gone = planned(settings, jobs=())
    assert [(one.act, one.job) for one in gone.profiles[0].jobs] == [(Act.REMOVE, job)]
    removed = [file.path.name for file in gone.profiles[0].files if file.after is None]
    assert removed == ["apprentice_tick.py"]
    later = job.model_copy(update={"schedule": "every 9m"})
    plan = planned(settings, jobs=(later,))
    assert [(one.act, one.job) for one in plan.profiles[0].jobs] == [(Act.EDIT, later)]


@pytest.mark.parametrize(
    "content",
    [
        b"model: [\n",
        b"\xff\xfe\x00bad",
        b"- just\n- a list\n",
        b"model: 3\n",
        b"base: &b {provider: openrouter, default: m}\nmodel: *b\n",
        b"model: {provider: openrouter, default: m}\nplugins: {enabled: all}\n",
        b"model: {provider: openrouter, default: m}\nskills: [a]\n",
    ],
)
def test_a_broken_configuration_is_named_and_left_alone(
    settings: Settings, home: Path, content: bytes
) -> None:
    (home / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        planned(settings)
    assert (home / "config.yaml").read_bytes() == content
    assert not settings.home.exists()


def test_a_configuration_that_is_a_folder_cannot_be_read(settings: Settings, home: Path) -> None:
    (home / "config.yaml").unlink()
    (home / "config.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        planned(settings)


def test_an_unknown_hermes_and_missing_extras_are_warned_about_and_go_on(
    settings: Settings, home: Path
) -> None:
    hermes = facts(version="0.42.1", has_mcp=False, has_messaging=False, has_apprentice=False)
    plan = planned(settings, hermes=hermes, jobs=wanted_jobs())
    text = "\n".join(plan.warnings)
    assert "0.42.1" in text
    assert "/opt/hermes/bin/python -m pip install 'hermes-agent[mcp]'" in text
    assert "'hermes-agent[messaging]'" in text
    assert "pip install hermes-apprentice" in text
    assert not plan.empty
    after = next(file.after for file in plan.profiles[0].files if file.path.suffix == ".yaml")
    assert "plugins" not in yaml.safe_load(after or b"")


def test_scripts_are_handed_over_where_hermes_lacks_the_package(settings: Settings) -> None:
    name = wanted_jobs()[0].script
    here = place(settings, machine())
    compile(script_content(name, facts(has_apprentice=False), here), name, "exec")
    assert b"os.execv" in script_content(name, facts(has_apprentice=False), here)
    assert b"hermes_apprentice" in script_content(name, facts(), here)


def test_a_disabled_plugin_stays_disabled(settings: Settings, home: Path) -> None:
    (home / "config.yaml").write_text(CONFIG + "plugins: {disabled: [apprentice]}\n")
    plan = planned(settings)
    after = next(file.after for file in plan.profiles[0].files if file.path.suffix == ".yaml")
    assert yaml.safe_load(after or b"")["plugins"] == {"disabled": ["apprentice"]}
    assert "stays so" in plan.warnings[0]


@pytest.mark.parametrize(
    "text",
    [
        "fallback_model: {provider: nous, model: n}\n",
        "fallback_providers:\n- {provider: nous, model: n}\n",
    ],
)
def test_the_users_own_fallback_comes_after_the_real_upstream(
    settings: Settings, home: Path, text: str
) -> None:
    (home / "config.yaml").write_text(CONFIG + text)
    done(planned(settings), settings)
    config = yaml.safe_load((home / "config.yaml").read_text())
    chain = config["fallback_providers"] + [config.get("fallback_model")]
    assert [one["provider"] for one in chain if one] == ["openrouter", "nous"]
    take_out(removal(settings), settings, None, print)
    assert (home / "config.yaml").read_text() == CONFIG + text


def test_a_second_profile_with_another_upstream_is_refused(settings: Settings, home: Path) -> None:
    other = home / "profiles" / "side work"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text(
        "model: {provider: custom, default: m, base_url: http://127.0.0.1:5/v1}\n"
    )
    with pytest.raises(ConfigError, match="one upstream"):
        planned(settings, Wishes(profiles=("default", "side work")))
    (other / "config.yaml").write_text(CONFIG)
    plan = planned(settings, Wishes(profiles=("default", "side work")), jobs=wanted_jobs())
    assert [bool(one.jobs) for one in plan.profiles] == [True, False]
    with pytest.raises(ConfigError, match="there are: default, side work"):
        profile_home(settings, "other")
    with pytest.raises(ConfigError, match="no profile"):
        profile_home(settings, "../profiles")


def test_no_hermes_home_is_said_plainly(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="--hermes-home"):
        profile_home(settings, "default")


def test_a_folder_that_cannot_be_written_stops_before_anything_is_changed() -> None:
    with pytest.raises(ConfigError, match="Nothing was changed"):
        check_writable([Path("/proc/1/none")])


def test_a_file_that_changed_meanwhile_is_not_overwritten(settings: Settings, home: Path) -> None:
    plan = planned(settings)
    (home / "config.yaml").write_text(CONFIG + "late: 1\n")
    with pytest.raises(ConfigError, match="just now"):
        done(plan, settings)
    assert (home / "config.yaml").read_text() == CONFIG + "late: 1\n"
    done(planned(settings, own=own(settings, settings=b"")), settings)
    take_out(removal(settings), settings, None, print)
    assert (home / "config.yaml").read_text() == CONFIG + "late: 1\n"


@pytest.mark.parametrize("kept", range(4))
def test_a_setup_or_uninstall_that_was_killed_is_simply_run_again(
    settings: Settings, home: Path, kept: int
) -> None:
    (home / ".env").write_text("A=1")

    def killed(left: int) -> Callable[[str], None]:
        steps = iter(range(left))

        def say(text: str) -> None:
            if next(steps, None) is None:
                raise KeyboardInterrupt

        return say

    def state() -> OwnState:
        return survey_own(settings)

    with contextlib.suppress(KeyboardInterrupt):
        carry_out(planned(settings, own=state()), settings, None, killed(kept))
    carry_out(planned(settings, own=state()), settings, None, killed(99))
    assert planned(settings, own=state()).empty
    with contextlib.suppress(KeyboardInterrupt):
        take_out(removal(settings), settings, None, killed(kept))
    take_out(removal(settings), settings, None, killed(99))
    assert (home / "config.yaml").read_text() == CONFIG
    assert (home / ".env").read_text() == "A=1"


def test_a_damaged_receipt_is_said_plainly(settings: Settings, home: Path) -> None:
    done(planned(settings), settings)
    receipt_path(settings.home, home).write_text("{")
    with pytest.raises(ConfigError, match="what the setup changed"):
        planned(settings)


def test_an_env_file_gets_one_line_and_loses_only_that(settings: Settings, home: Path) -> None:
    path = home / ".env"
    path.write_bytes(b"A=1\nB=\xff")
    done(planned(settings), settings)
    assert path.read_bytes().startswith(b'A=1\nB=\xff\nAPPRENTICE_HOME="')
    path.write_bytes(path.read_bytes() + b"C=3\n")
    take_out(removal(settings), settings, None, print)
    assert path.read_bytes() == b"A=1\nB=\xff\nC=3\n"


def test_the_service_is_written_and_started_where_there_is_systemd(
    settings: Settings, home: Path
) -> None:
    plan = planned(settings, user_services=True)
    assert Step.START in plan.steps
    unit = plan.own[-1]
    there = own(settings, unit=unit.after)
    assert planned(settings, own=there, user_services=True).steps == (Step.START,)
    assert planned(settings, own=there, user_services=True, sidecar_runs=True).steps == ()
    assert Step.START not in planned(settings, Wishes(service=False), user_services=True).steps
    assert "serve" in planned(settings).notes[0]


def test_a_broken_training_environment_is_made_again(settings: Settings, home: Path) -> None:
    broken = TrainerSettings(train_python=str(home / "no" / "python"))
    placed = settings.model_copy(update={"trainer": broken})
    assert not survey_own(placed).has_training
    plan = planned(placed, Wishes(with_training=True))
    assert Step.TRAINING in plan.steps
    assert f"{settings.home}/training/bin/python".encode() in (plan.own[0].after or b"")
    there = own(settings, has_training=True)
    assert Step.TRAINING not in planned(settings, Wishes(with_training=True), own=there).steps


def test_keys_and_the_embedder_are_made_where_they_are_missing(
    settings: Settings, home: Path
) -> None:
    bare = own(settings, has_keys=False, has_embedder=False)
    plan = planned(settings, own=bare)
    assert plan.steps == (Step.KEYS, Step.EMBEDDER)
    said = done(plan, settings)
    assert any("fetch the embedder" in line for line in said)
    there = survey_own(settings)
    assert (there.has_keys, there.has_embedder) == (True, True)
    assert planned(settings, own=there).steps == ()


def test_the_sidecar_is_never_its_own_upstream(settings: Settings, home: Path) -> None:
    with pytest.raises(ConfigError, match="the sidecar itself"):
        planned(settings, Wishes(upstream_url="http://127.0.0.1:8765/v1/"))


def test_the_profile_that_hermes_really_uses_is_pointed_out(settings: Settings, home: Path) -> None:
    (home / "active_profile").write_text("side work\n")
    (home / "profiles" / "side work").mkdir(parents=True)
    (home / "profiles" / "side work" / "config.yaml").write_text(CONFIG)
    assert "--profile 'side work'" in planned(settings).warnings[0]
    assert not planned(settings, Wishes(profiles=("default", "side work"))).warnings


def test_a_port_that_is_not_fixed_cannot_be_written_down(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="fixed"):
        sidecar_url(settings.model_copy(update={"server": ServerSettings(port=0)}))
    six = settings.model_copy(update={"server": ServerSettings(host="::1")})
    assert sidecar_url(six) == "http://[::1]:8765/v1"


def test_settings_that_are_there_are_kept_and_a_difference_is_told(
    settings: Settings, home: Path
) -> None:
    other = settings.model_copy(update={"upstream": UpstreamSettings(base_url="http://old/v1")})
    plan = planned(other, Wishes(budget=5), own=own(settings, settings=b"x"), free_bytes=10)
    assert plan.own == ()
    text = "\n".join(plan.warnings)
    assert "http://old/v1" in text
    assert "monthly_dollars" in text
    assert "GB are free" in text


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"model": {"provider": "custom", "default": "m", "base_url": "u/", "api_key": "k"}},
            ("u", INLINE_KEY_ENV, "k", UPSTREAM_NAME),
        ),
        (
            {"model": {"provider": "custom", "default": "m", "base_url": "u", "api_key": "${K_1}"}},
            ("u", "K_1", None, UPSTREAM_NAME),
        ),
        (
            {
                "model": {"provider": "cellar", "default": "m"},
                "providers": {"cellar": {"url": "u", "key_env": "K"}},
            },
            ("u", "K", None, "cellar"),
        ),
        (
            {
                "model": {"provider": "custom:cellar", "default": "m"},
                "custom_providers": [{"name": "Cellar", "base_url": "u"}],
            },
            ("u", "", None, "custom:cellar"),
        ),
        (
            {"model": {"provider": "vllm", "default": "m", "base_url": "u", "api_key": "k"}},
            ("u", INLINE_KEY_ENV, "k", UPSTREAM_NAME),
        ),
        (
            {"model": "m"},
            ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", None, "openrouter"),
        ),
    ],
)
def test_the_real_upstream_is_found(
    config: dict[str, Any], expected: tuple[str, str, str | None, str]
) -> None:
    found = find_upstream(config, Wishes(), None, {"OPENROUTER_API_KEY"})
    key = found.inline_key.get_secret_value() if found.inline_key else None
    assert (found.base_url, found.key_env, key, found.fallback["provider"]) == expected
    assert found.fallback["model"] == "m"


def test_options_for_a_provider_that_hermes_knows_are_no_provider_of_the_users_own() -> None:
    config = {
        "model": {"provider": "openrouter", "default": "m"},
        "providers": {"openrouter": {"request_timeout_seconds": 600, "key_env": "MINE"}},
    }
    found = find_upstream(config, Wishes(), OPENROUTER, set())
    assert (found.base_url, found.key_env) == (OPENROUTER.base_url, "MINE")
    assert found.fallback == {"provider": "openrouter", "model": "m"}
    assert found.provider is None


def test_the_key_that_is_set_goes_before_the_others() -> None:
    listed = ProviderFacts(
        base_url="u", api_mode="chat_completions", auth_type="api_key", env_vars=("A", "B")
    )
    config = {"model": {"provider": "two", "default": "m"}}
    assert find_upstream(config, Wishes(), listed, {"B"}).key_env == "B"
    assert find_upstream(config, Wishes(), listed, set()).key_env == "A"


@pytest.mark.parametrize(
    ("provider", "changes", "says"),
    [
        ("acct", {"auth_type": "oauth_external"}, "hermes proxy start"),
        ("claude", {"api_mode": "anthropic_messages"}, "--upstream-url"),
        ("vague", {"base_url": ""}, "--upstream-url"),
        ("auto", {}, "hermes model"),
    ],
)
def test_an_upstream_that_the_sidecar_cannot_use_is_explained(
    provider: str, changes: dict[str, Any], says: str
) -> None:
    values: dict[str, Any] = {
        "base_url": "u",
        "api_mode": "chat_completions",
        "auth_type": "api_key",
        "env_vars": ("K",),
    }
    listed = ProviderFacts(**values | changes)
    config = {"model": {"provider": provider, "default": "m"}}
    with pytest.raises(ConfigError, match=says):
        find_upstream(config, Wishes(), listed, set())
    wished = Wishes(upstream_url="http://127.0.0.1:1/v1/", key_env="MINE")
    found = find_upstream(config, wished, listed, set())
    assert (found.base_url, found.key_env) == ("http://127.0.0.1:1/v1", "MINE")


def test_keys_are_hidden_where_a_plan_is_shown(tmp_path: Path) -> None:
    text = (
        b"model: {api_key: sk-1#invented, default: m}\nproviders:\n  x:\n"
        b"    api_key: 'sk-2-invented'\n    token: sk-3-invented\nMY_API_KEY=sk-4-invented\n"
        b'OTHER_TOKEN="sk-5-invented"\n  api_key: unused\n  key_env: SHOWN_KEY\n'
        b"    extra_headers: {Authorization: Bearer sk-6-invented, X: y}\n"
    )
    shown = _difference(FileChange(path=tmp_path / "c.yaml", before=None, after=text))
    assert "invented" not in shown
    assert "unused" in shown
    assert "key_env: SHOWN_KEY" in shown
    upstream = RealUpstream(
        base_url="u", key_env="", inline_key=SecretStr("sk-6"), model="m", fallback={}
    )
    assert "sk-6" not in repr(upstream)


def test_what_is_there_is_surveyed(settings: Settings, home: Path) -> None:
    found = survey_own(settings)
    assert (found.settings, found.upstream_env, found.has_keys) == (None, None, False)


def test_who_may_decide_is_taken_from_hermes_and_the_base_model_is_written(
    settings: Settings, home: Path
) -> None:
    (home / ".env").write_text('TELEGRAM_ALLOWED_USERS="4711, 4712,*"\n# X=1\n')
    written = planned(settings, Wishes(budget=5, base_model="vendor/small")).own[0].after
    told = tomllib.loads((written or b"").decode())
    assert told["approvals"] == {"deciders": ["telegram:4711", "telegram:4712"]}
    assert told["trainer"] == {"base_model": "vendor/small"}
    assert told["budget"] == {"monthly_dollars": 5}
    kept = planned(settings, Wishes(base_model="other"), own=own(settings, settings=b"a = 1\n"))
    assert any("[trainer] base_model" in text for text in kept.warnings)
    assert Settings.model_validate({"home": home, "hermes_home": home, **told})


KEY = "ap-0123456789-" + "5a" * 32


def in_docker(settings: Settings) -> Settings:
    return settings.model_copy(update={"isolation": IsolationSettings(profile="docker")})


def test_where_a_key_is_needed_hermes_gets_one_and_keeps_it(settings: Settings, home: Path) -> None:
    placed = in_docker(settings)
    (home / ".env").write_text("A=1")
    wishes = Wishes(new_key=SecretStr(KEY))
    plan = planned(placed, wishes, own=survey_own(placed), docker="28")
    assert Step.TENANT in plan.steps
    done(plan, placed)
    text = f'A=1\nAPPRENTICE_HOME="{settings.home}"\nAPPRENTICE_KEY="{KEY}"\n'
    assert (home / ".env").read_text() == text
    entry = yaml.safe_load((home / "config.yaml").read_text())["providers"]["apprentice"]
    assert entry["key_env"] == "APPRENTICE_KEY"
    assert "api_key" not in entry
    with Database(placed.database_path) as database:
        assert admitted(TenantStore(database).directory(), KEY)
    other = Wishes(new_key=SecretStr(KEY.replace("5a", "6b")))
    assert planned(placed, other, own=survey_own(placed), docker="28").empty
    # Once there are tenants, loopback wants the key as well.
    left = own(settings, directory=survey_own(placed).directory)
    entry = planned(settings, other, own=left).profiles[0]
    config = next(file.after for file in entry.files if file.path.suffix == ".yaml")
    assert b"key_env" in (config or b"")
    take_out(removal(settings), settings, None, print)
    assert (home / ".env").read_text() == "A=1"
    assert (home / "config.yaml").read_text() == CONFIG


def test_after_everything_was_used_nothing_of_ours_is_left(settings: Settings, home: Path) -> None:
    work = home / "profiles" / "my work"
    work.mkdir(parents=True)
    (work / "config.yaml").write_text(f"# work\r\n{CONFIG}")
    (work / ".env").write_bytes(b"TOKEN=\xff1")
    (home / "plugins" / "other").mkdir(parents=True)
    (home / "plugins" / "other" / "plugin.yaml").write_text("name: other\n")
    (home / "scripts").mkdir()
    (home / "scripts" / "mine.py").write_text("print()\n")
    before = tree(home)
    both = Wishes(profiles=("default", "my work"), new_key=SecretStr(KEY))
    # First beside Hermes, then in a container, with a key and whoever else may ask.
    done(planned(settings, both), settings)
    placed = in_docker(settings)
    plan = planned(placed, both, jobs=(), own=survey_own(placed), docker="28")
    assert Step.TENANT in plan.steps
    done(plan, placed)
    with Database(settings.database_path) as database:
        store = TenantStore(database)
        store.create("ann", Limits(), 1.0)
        store.map_profile("my work", "ann")
        store.rotate_admin(1.0)
    # Hermes compiled the tab, and a skill of a specialist lies in our home.
    for one in (home, work):
        folder = one / "plugins" / "apprentice" / "dashboard" / "__pycache__"
        folder.mkdir()
        (folder / "plugin_api.cpython-311.pyc").write_bytes(b"x")
    assert tree(home) != before
    states = [
        survey_profile(settings.home, name, profile_home(settings, name)) for name in both.profiles
    ]
    take_out(plan_removal(placed, states, survey_own(placed), services=False), placed, None, print)
    assert tree(home) == before
    left = {path.name for path in settings.home.rglob("*") if path.is_file()}
    assert not {name for name in left if name.endswith((".json", ".yaml"))}, left


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder; folders without a content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_setup_that_needs_a_key_later_adds_it_to_its_own_lines(
    settings: Settings, home: Path
) -> None:
    done(planned(settings), settings)
    with (home / ".env").open("a") as file:
        file.write("MINE=1\n")
    placed = in_docker(settings)
    done(
        planned(placed, Wishes(new_key=SecretStr(KEY)), own=survey_own(placed), docker="28"), placed
    )
    text = (home / ".env").read_text()
    assert text.startswith("MINE=1\nAPPRENTICE_HOME=")
    assert text.endswith(f'APPRENTICE_KEY="{KEY}"\n')
    take_out(removal(settings), settings, None, print)
    assert (home / ".env").read_text() == "MINE=1\n"
    assert (home / "config.yaml").read_text() == CONFIG


def test_where_the_tab_needs_the_operators_key_it_is_said_and_on_the_way_out_too(
    settings: Settings, home: Path
) -> None:
    def told(plan: Plan) -> list[str]:
        return [text for text in plan.notes if "APPRENTICE_ADMIN_KEY" in text]

    wishes = Wishes(new_key=SecretStr(KEY))
    placed = in_docker(settings)
    (note,) = told(planned(placed, wishes, docker="28"))
    assert "apprentice tenants admin-key" in note
    assert str(home / ".env") in note
    assert told(planned(settings, wishes)) == []
    assert told(planned(placed, wishes, docker="28", hermes=facts(has_apprentice=False))) == []
    # Once there is an operator's key, loopback wants it as well.
    with Database(settings.database_path) as database:
        TenantStore(database).create("ann", Limits(), 1.0)
        assert told(planned(settings, wishes, own=survey_own(settings))) == []
        TenantStore(database).rotate_admin(1.0)
    assert len(told(planned(settings, wishes, own=survey_own(settings)))) == 1
    (home / ".env").write_text("APPRENTICE_ADMIN_KEY=ap-mine\n")
    there = planned(settings, wishes, own=survey_own(settings))
    assert told(there) == []
    done(there, settings)
    (left,) = told(removal(settings))
    assert "your own line and stays" in left
    take_out(removal(settings), settings, None, print)
    assert (home / ".env").read_text() == "APPRENTICE_ADMIN_KEY=ap-mine\n"


def test_the_first_tenant_says_that_hermes_needs_a_key_from_now_on(
    settings: Settings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPRENTICE_HOME", str(settings.home))
    monkeypatch.setenv("HERMES_HOME", str(settings.hermes_home))
    command = typer.testing.CliRunner()
    assert hint_about_hermes(settings) == ""
    done(planned(settings), settings)
    made = command.invoke(app, ["tenants", "create", "ann"])
    assert "apprentice setup --profile default --apply" in made.stderr
    assert "fallback" not in made.stdout
    wishes = Wishes(new_key=SecretStr(KEY))
    done(planned(settings, wishes, own=survey_own(settings)), settings)
    assert command.invoke(app, ["tenants", "create", "bob"]).stderr.count("Hermes") == 0
    shown = command.invoke(app, ["tenants", "admin-key"])
    assert f"APPRENTICE_ADMIN_KEY=ap-... into {home / '.env'}" in shown.stderr
    assert len(shown.stdout.split()) == 1


def test_hermes_waits_longer_for_tools_in_a_container(settings: Settings, home: Path) -> None:
    for text, wanted in (("", 6.0), ("mcp_discovery_timeout: 2\n", 6.0),
                         ("mcp_discovery_timeout: 9\n", 9)):  # fmt: skip
        (home / "config.yaml").write_text(CONFIG + text)
        plan = planned(in_docker(settings), Wishes(new_key=SecretStr(KEY)), docker="28")
        after = next(file.after for file in plan.profiles[0].files if file.path.suffix == ".yaml")
        assert yaml.safe_load(after or b"")["mcp_discovery_timeout"] == wanted


def test_a_container_sees_no_profiles_env(settings: Settings, home: Path) -> None:
    other = home / "profiles" / "other"
    other.mkdir(parents=True)
    (other / ".env").write_text("TOKEN=invented\n")
    placed = in_docker(settings)
    plan = planned(placed, Wishes(new_key=SecretStr(KEY)), own=survey_own(placed), docker="28")
    written = next(one.after for one in plan.own if one.path.name == "compose.yaml")
    mounts = yaml.safe_load(written or b"")["services"]["apprentice"]["volumes"]
    hidden = {one["target"] for one in mounts if one["source"] == "/dev/null"}
    assert hidden == {str(home / ".env"), str(other / ".env")}


def test_moving_into_a_container_ends_the_service(settings: Settings, home: Path) -> None:
    unit = planned(settings, user_services=True).own[-1].after
    placed = in_docker(settings)
    there = own(settings, unit=unit, settings=b"")
    plan = planned(
        placed, Wishes(new_key=SecretStr(KEY)), own=there, user_services=True, docker="8"
    )
    assert Step.STOP in plan.steps
    assert Step.START not in plan.steps
    assert [file.after for file in plan.own if file.path.suffix == ".service"] == [None]


def test_training_is_made_where_it_runs(settings: Settings, home: Path) -> None:
    wishes = Wishes(with_training=True, new_key=SecretStr(KEY))
    plan = planned(in_docker(settings), wishes, docker="28")
    assert Step.TRAINING not in plan.steps
    assert b'train_python = "/opt/training/bin/python"' in (plan.own[0].after or b"")
    assert "TRAINING=yes" in plan.notes[0]


def test_a_new_key_is_never_shown(tmp_path: Path) -> None:
    for name, text in ((".env", f'APPRENTICE_KEY="{KEY}"\n'), ("hermes.key", f"{KEY}\n")):
        shown = _difference(FileChange(path=tmp_path / name, before=None, after=text.encode()))
        assert "5a5a" not in shown
