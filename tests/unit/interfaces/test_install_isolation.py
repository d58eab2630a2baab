"""Where Apprentice runs: what differs, what is refused, and what the files say."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hermes_apprentice import __version__
from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.containers import compose_text, start_command
from hermes_apprentice.interfaces.install.machine import _no_hermes, in_container
from hermes_apprentice.interfaces.install.microvm import MAC, TAP, vm_text
from hermes_apprentice.interfaces.install.placement import (
    GUEST_HERMES,
    GUEST_HOME,
    TAP_ADDRESS,
    job_command,
    place,
    reachable_upstream,
)
from hermes_apprentice.interfaces.install.settings_file import with_isolation
from hermes_apprentice.interfaces.install.wishes import Machine
from hermes_apprentice.settings import (
    IsolationSettings,
    Settings,
    TierSettings,
    UpstreamSettings,
    load_settings,
)

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


def machine(**changes: Any) -> Machine:
    values: dict[str, Any] = {
        "gpus": (),
        "kvm": True,
        "docker": "28.1",
        "free_bytes": 50_000_000_000,
        "user_services": False,
        "docker_command": "/usr/bin/docker",
        "ssh_command": "/usr/bin/ssh",
    }
    return Machine(**values | changes)


def isolated(settings: Settings, profile: str, **changes: Any) -> Settings:
    section = IsolationSettings.model_validate({"profile": profile, **changes})
    return settings.model_copy(update={"isolation": section})


@pytest.mark.parametrize(
    ("profile", "changes", "url", "keyed", "tools"),
    [
        ("none", {}, "http://127.0.0.1:8765/v1", False, None),
        ("docker", {}, "http://127.0.0.1:8765/v1", True, "/usr/bin/docker exec -i "),
        ("docker", {"docker_host": "unix:///run/user/7/d.sock"}, "http://127.0.0.1:8765/v1", True,
         "/usr/bin/docker --host unix:///run/user/7/d.sock exec -i hermes-apprentice python -m "),
        ("firecracker", {}, "http://172.31.80.2:8765/v1", True, "/usr/bin/ssh -T "),
        ("firecracker", {"guest": "me@10.1.2.3"}, "http://10.1.2.3:8765/v1", True, "me@10.1.2.3"),
        ("none", {"sidecar_url": "http://10.9.9.9:1/v1/"}, "http://10.9.9.9:1/v1", True, None),
    ],
)  # fmt: skip
def test_each_profile_has_its_address_its_key_and_its_commands(
    settings: Settings,
    profile: str,
    changes: dict[str, str],
    url: str,
    keyed: bool,
    tools: str | None,
) -> None:
    found = place(isolated(settings, profile, **changes), machine())
    assert (found.url, found.keyed) == (url, keyed)
    assert (tools or "-m hermes_apprentice.interfaces.mcp_tools") in " ".join(found.tools)
    crossing = list(job_command(found, "apprentice_tick.py"))
    assert crossing[-2:] == ([] if profile == "none" else ["send", "tick"])


def test_beside_a_hermes_in_a_container_only_the_sidecar_is_elsewhere(settings: Settings) -> None:
    inside = machine(contained=True, docker="")
    found = place(isolated(settings, "docker"), inside)
    assert (found.url, found.keyed, found.contained) == ("http://127.0.0.1:8765/v1", False, True)
    assert job_command(found, "apprentice_tick.py") == ()
    outside = isolated(settings, "docker", sidecar_url="http://host.docker.internal:8765/v1")
    assert place(outside, inside).keyed
    # A container that can start containers is a machine like any other.
    assert not place(isolated(settings, "docker"), machine(contained=True)).contained


@pytest.mark.parametrize(
    ("profile", "lacking", "says"),
    [
        ("docker", {"docker": ""}, "docker version"),
        ("firecracker", {"kvm": False}, "group 'kvm'"),
        ("firecracker", {"ssh_command": ""}, "OpenSSH"),
    ],
)
def test_what_a_profile_needs_and_is_not_here_is_said_with_a_way_out(
    settings: Settings, profile: str, lacking: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        place(isolated(settings, profile), machine(**lacking))
    assert "none" in str(refused.value)


def test_an_upstream_on_the_machine_is_asked_where_the_other_side_reaches_it(
    settings: Settings,
) -> None:
    here = "http://127.0.0.1:8000/v1"
    for profile, seen in (
        ("none", here),
        ("docker", "http://host.docker.internal:8000/v1"),
        ("firecracker", f"http://{TAP_ADDRESS}:8000/v1"),
    ):
        found = place(isolated(settings, profile), machine())
        assert reachable_upstream(here, found) == seen
        assert reachable_upstream("https://model.example/v1", found) == "https://model.example/v1"


def test_a_container_and_a_hermes_in_one_are_recognised(tmp_path: Path) -> None:
    assert not in_container(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert in_container(tmp_path)
    assert "docker exec -it my-hermes" in _no_hermes(["hermes-apprentice", "my-hermes"])
    assert "docker" not in _no_hermes([])


def example() -> Settings:
    return Settings(
        home=Path("/var/lib/hermes-apprentice"),
        hermes_home=Path("/home/operator/.hermes"),
        isolation=IsolationSettings(profile="docker"),
    )


def test_the_shipped_container_files_fit_the_written_ones() -> None:
    shipped = (DEPLOY / "docker" / "compose.yaml").read_text()
    hidden = [Path("/home/operator/.hermes/.env")]
    assert shipped == compose_text(example(), "1000:1000", "OPENROUTER_API_KEY", False, hidden)
    service = yaml.safe_load(shipped)["services"]["apprentice"]
    assert service["ports"] == ["127.0.0.1:8765:8765"]
    assert service["environment"]["OPENROUTER_API_KEY"] == "${OPENROUTER_API_KEY:-}"
    hermes = next(one for one in service["volumes"] if one["target"] == "/home/operator/.hermes")
    assert hermes["read_only"]
    image = f"hermes-apprentice:{__version__}"
    assert service["image"] == image
    assert "--env-file /home/operator/.hermes/.env" in start_command(example(), "K", False)
    beside = yaml.safe_load((DEPLOY / "docker" / "beside-hermes.yaml").read_text())
    assert beside["services"]["sidecar"]["image"] == image
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    for folder in re.findall(r"^COPY (\w+) \./\1$", dockerfile, re.MULTILINE):
        assert (ROOT / folder).is_dir()
    assert 'ENTRYPOINT ["apprentice"]' in dockerfile


def test_the_container_gets_the_keys_of_the_endpoints_that_stand_in() -> None:
    tiers = (
        TierSettings(provider="fireworks"),
        TierSettings(base_url="http://10.0.0.7:8000/v1", api_key_env="K"),
        TierSettings(base_url="http://10.0.0.8:8000/v1", api_key_file=Path("/run/secrets/rack")),
    )
    chain = example().model_copy(update={"upstream": UpstreamSettings(fallbacks=tiers)})

    def passed(key_file: bool) -> set[str]:
        service = yaml.safe_load(compose_text(chain, "1:1", "K", key_file, ()))["services"]
        homes = {"APPRENTICE_HOME", "HERMES_HOME", "APPRENTICE_HOST"}
        return set(service["apprentice"]["environment"]) - homes

    assert passed(False) == {"K", "FIREWORKS_API_KEY"}
    # A key that stands in upstream.env is not replaced by an empty variable.
    assert passed(True) == {"FIREWORKS_API_KEY"}
    assert "--env-file" in start_command(chain, "K", True)
    assert "--env-file" not in start_command(example(), "K", True)


def test_inside_the_container_every_endpoint_on_the_machine_is_asked_there(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        '[upstream]\nbase_url = "http://localhost:8000/v1"\n'
        '[[upstream.fallbacks]]\nbase_url = "http://127.0.0.1:8001/v1"\nname = "second"\n'
        '[[upstream.fallbacks]]\nbase_url = "https://model.example/v1"\n'
        '[vllm]\nserver = "url"\nurl = "http://me@[::1]:8002/v1"\n'
    )
    service = yaml.safe_load(compose_text(example(), "1:1", "K", False, ()))["services"]
    given = service["apprentice"]["environment"]
    homes = {"APPRENTICE_HOME": str(tmp_path), "HERMES_HOME": str(tmp_path / "hermes")}
    inside = load_settings(homes | {"APPRENTICE_HOST": given["APPRENTICE_HOST"]})
    assert inside.upstream.base_url == "http://host.docker.internal:8000/v1"
    assert [one.base_url for one in inside.upstream.fallbacks] == [
        "http://host.docker.internal:8001/v1",
        "https://model.example/v1",
    ]
    assert inside.vllm.url == "http://me@host.docker.internal:8002/v1"
    # The same file says the same as before where there is no container.
    assert load_settings(homes).upstream.fallbacks[0].base_url == "http://127.0.0.1:8001/v1"


def test_paths_with_spaces_quotes_and_dollars_survive_in_the_compose_file() -> None:
    odd = Path('/srv/my "$HOME" files')
    settings = example().model_copy(update={"home": odd})
    text = compose_text(settings, "1:1", "K", True, ())
    service = yaml.safe_load(text)["services"]["apprentice"]
    # A dollar is doubled, because compose puts variables in.
    assert service["environment"]["APPRENTICE_HOME"] == str(odd).replace("$", "$$")
    assert service["env_file"] == [f"{odd}/upstream.env".replace("$", "$$")]


def test_the_shipped_microvm_files_fit_each_other() -> None:
    vm = json.loads((DEPLOY / "firecracker" / "vm.json").read_text())
    assert vm == json.loads(vm_text(Path("/var/lib/hermes-apprentice")))
    (interface,) = vm["network-interfaces"]
    assert (interface["guest_mac"], interface["host_dev_name"]) == (MAC, TAP)
    build = (DEPLOY / "firecracker" / "build_rootfs.sh").read_text()
    network = (DEPLOY / "firecracker" / "network.sh").read_text()
    assert MAC in build
    assert f"Gateway={TAP_ADDRESS}" in build
    assert f"APPRENTICE_HOME={GUEST_HOME} HERMES_HOME={GUEST_HERMES}" in build
    assert f"address add {TAP_ADDRESS}/30 dev {TAP}" in network
    guest = IsolationSettings().guest.partition("@")
    assert f"Address={guest[2]}/30" in build
    assert f"--host {guest[2]}" in build


@pytest.mark.parametrize(
    ("text", "profile", "expected"),
    [
        ("[server]\nport = 1\n", "docker",
         '[server]\nport = 1\n\n[isolation]\nprofile = "docker"\n'),
        ("", "docker", '\n[isolation]\nprofile = "docker"\n'),
        ('[isolation]\nprofile = "docker"\n# x\n[server]\nport = 1\n', "firecracker",
         '[isolation]\nprofile = "firecracker"\n[server]\nport = 1\n'),
        ('[a]\n[isolation]\nprofile = "docker"\n', "none", "[a]\n"),
        ('[isolation]\nprofile = "docker"\n', "docker", '[isolation]\nprofile = "docker"\n'),
    ],
)  # fmt: skip
def test_only_the_section_about_isolation_is_edited(text: str, profile: str, expected: str) -> None:
    wanted = IsolationSettings.model_validate({"profile": profile})
    assert with_isolation(text, wanted, "settings.toml") == expected
    tomllib.loads(expected)


@pytest.mark.parametrize(
    "text", ['isolation = {profile = "docker"}\n', "isolation.guest = 'a@b'\n"]
)
def test_a_section_that_cannot_be_edited_is_asked_for(text: str) -> None:
    with pytest.raises(ConfigError, match="Make it say"):
        with_isolation(text, IsolationSettings(profile="firecracker"), "settings.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        with_isolation("x", IsolationSettings(profile="firecracker"), "settings.toml")
