"""Reads everything that a plan depends on: Hermes' files and our own. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hermes_apprentice.embedding.store import ModelStore
from hermes_apprentice.errors import ApprenticeError, ConfigError
from hermes_apprentice.interfaces.install.containers import compose_path
from hermes_apprentice.interfaces.install.env_file import env_values
from hermes_apprentice.interfaces.install.microvm import guest_settings_path, vm_path
from hermes_apprentice.interfaces.install.receipt import (
    Receipt,
    backup_path,
    read_receipt,
)
from hermes_apprentice.interfaces.install.scheduler import Job, read_jobs
from hermes_apprentice.interfaces.install.service import unit_path
from hermes_apprentice.interfaces.install.tab import TabState, survey_tab
from hermes_apprentice.interfaces.install.yaml_text import read_yaml
from hermes_apprentice.settings import Settings
from hermes_apprentice.storage.database import Database
from hermes_apprentice.storage.tenants import Directory, TenantStore, marker_of
from hermes_apprentice.trainer.environment import find_train_python

DEFAULT_PROFILE = "default"
"""Hermes' root home, as opposed to the homes below ``profiles``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileState:
    """One profile of Hermes as it is now."""

    name: str
    """Its name."""

    home: Path
    """Its folder."""

    config: bytes | None
    """config.yaml, or ``None`` where there is none."""

    env: bytes | None
    """.env, or ``None`` where there is none."""

    scripts: dict[str, bytes]
    """Scripts for its scheduler, by name."""

    jobs: tuple[Job, ...]
    """Jobs of its scheduler."""

    tab: TabState
    """What lies in its folder of plugins under our name."""

    chosen: str
    """The profile that Hermes uses when none is named; only the root home says so."""

    receipt: Receipt | None
    """What an earlier setup did to it."""

    backup: bytes | None
    """config.yaml as it was before that."""

    @property
    def config_path(self) -> Path:
        """Where config.yaml lies; behind a link, the file it leads to."""
        return (self.home / "config.yaml").resolve()

    @property
    def env_path(self) -> Path:
        """Where .env lies."""
        return (self.home / ".env").resolve()

    @property
    def text(self) -> str:
        """The configuration's text.

        Raises:
            ConfigError: It is not UTF-8.
        """
        return decoded(self.config or b"", self.home / "config.yaml")

    def parsed(self) -> dict[str, object]:
        """Return the configuration.

        Raises:
            ConfigError: It cannot be parsed.
        """
        return read_yaml(self.text, str(self.home / "config.yaml"))

    def variables(self) -> frozenset[str]:
        """Return the names of the variables that .env sets."""
        found = env_values((self.env or b"").decode("utf-8", errors="replace"))
        return frozenset(name for name, value in found.items() if value)

    def value_of(self, variable: str) -> str:
        """Return what .env sets a variable to; empty where it does not."""
        found = env_values((self.env or b"").decode("utf-8", errors="replace"))
        return found.get(variable, "").strip("\"'")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnState:
    """Apprentice's own home as it is now."""

    settings: bytes | None
    """settings.toml."""

    upstream_env: bytes | None
    """upstream.env, which holds a key that stood in Hermes' configuration."""

    has_keys: bool
    """Whether there is a signing key."""

    has_embedder: bool
    """Whether the embedder is in the model store."""

    has_training: bool
    """Whether there is a training environment."""

    unit_path: Path
    """Where the systemd unit goes."""

    unit: bytes | None
    """The systemd unit."""

    directory: Directory = field(default_factory=Directory)
    """Who may ask the sidecar."""

    isolation_files: dict[Path, bytes] = field(default_factory=dict)
    """Files that run Apprentice in a container or a microVM."""

    env_files: tuple[Path, ...] = ()
    """Every .env below Hermes' home, also of profiles that are not set up."""


def survey_profiles(settings: Settings, names: Sequence[str]) -> list[ProfileState]:
    """Read the profiles of a Hermes.

    Raises:
        ConfigError: One does not exist, or one of its files cannot be read.
    """
    return [survey_profile(settings.home, name, profile_home(settings, name)) for name in names]


def profile_home(settings: Settings, name: str) -> Path:
    """Return the folder of a profile.

    Raises:
        ConfigError: Hermes has no such profile.
    """
    root = settings.hermes_home
    if not root.is_dir():
        raise ConfigError(
            f"There is no Hermes home at {root}. Start Hermes once, or name the folder with "
            "--hermes-home."
        )
    if name == DEFAULT_PROFILE:
        return root
    folder = root / "profiles" / name
    if "/" in name or name in ("", ".", "..") or not folder.is_dir():
        present = ", ".join(profile_names(root))
        raise ConfigError(f"Hermes has no profile '{name}'; there are: {present}.")
    return folder


def profile_names(hermes_home: Path) -> list[str]:
    """Return the names of all profiles, the root's first."""
    folder = hermes_home / "profiles"
    found = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    )
    return [DEFAULT_PROFILE, *(name for name in found if name != DEFAULT_PROFILE)]


def survey_profile(home: Path, name: str, folder: Path) -> ProfileState:
    """Read one profile.

    Raises:
        ConfigError: One of its files cannot be read.
    """
    scripts = {
        path.name: read_file(path) or b"" for path in sorted((folder / "scripts").glob("*.py"))
    }
    receipt = read_receipt(home, folder)
    return ProfileState(
        name=name,
        home=folder,
        config=read_file(folder / "config.yaml"),
        env=read_file(folder / ".env"),
        scripts=scripts,
        jobs=read_jobs(folder),
        tab=_survey_tab(folder, receipt),
        chosen=decoded(read_file(folder / "active_profile") or b"", folder).strip(),
        receipt=receipt,
        backup=read_file(backup_path(home, folder)),
    )


def _survey_tab(folder: Path, receipt: Receipt | None) -> TabState:
    try:
        return survey_tab(folder, receipt)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {error.strerror}.") from error


def survey_own(settings: Settings) -> OwnState:
    """Read Apprentice's own home.

    Raises:
        ConfigError: One of its files cannot be read.
    """
    try:
        has_embedder = bool(ModelStore(settings.models_dir).list())
    except ApprenticeError:
        has_embedder = False
    return OwnState(
        settings=read_file(settings.home / "settings.toml"),
        upstream_env=read_file(settings.home / "upstream.env"),
        has_keys=settings.keys_dir.is_dir() and any(settings.keys_dir.iterdir()),
        has_embedder=has_embedder,
        has_training=_has_training(settings),
        unit_path=unit_path(),
        unit=read_file(unit_path()),
        directory=_directory(settings),
        isolation_files=_isolation_files(settings.home),
        env_files=tuple(sorted(_env_files(settings.hermes_home))),
    )


def _env_files(hermes_home: Path) -> list[Path]:
    found = [hermes_home / ".env", *hermes_home.glob("profiles/*/.env")]
    return [path for path in found if path.is_file()]


def _directory(settings: Settings) -> Directory:
    if not marker_of(settings.database_path).exists():
        return Directory()
    with Database(settings.database_path) as database:
        return TenantStore(database).directory()


def _isolation_files(home: Path) -> dict[Path, bytes]:
    guest = guest_settings_path(home)
    secrets = (guest.with_name(name) for name in ("upstream.env", "hermes.key"))
    paths = (compose_path(home), vm_path(home), guest, *secrets)
    found = {path: read_file(path) for path in paths}
    return {path: content for path, content in found.items() if content is not None}


def _has_training(settings: Settings) -> bool:
    try:
        return find_train_python(settings.trainer.train_python) is not None
    except ConfigError:
        return False  # named in the settings, and not made yet or broken


def read_file(path: Path) -> bytes | None:
    """Return a file's content, or ``None`` where there is none.

    Raises:
        ConfigError: It is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Run this as the user who runs Hermes."
        ) from error


def decoded(data: bytes, path: Path) -> str:
    """Return a text file's content.

    Raises:
        ConfigError: It is not UTF-8.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not valid UTF-8 (byte {error.start}). Nothing was changed; "
            "correct it and run the command again."
        ) from error
