"""Where a demo lives: a temporary Hermes home and a temporary Apprentice home.

Nothing of the user's is read or written but the cache with the embedder, so that
a second run need not fetch it again.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from ruamel.yaml import YAML

from hermes_apprentice.errors import MissingExtraError
from hermes_apprentice.settings import Settings, child_environment, load_settings
from hermes_apprentice.storage.files import write_atomically

SETTINGS = """\
# Written by `apprentice demo`: the traffic of weeks comes within a minute, so steps may
# follow each other at once. The CRF needs no torch, so the demo takes as long on any machine.
[upstream]
base_url = "{base_url}"
api_key_env = "{key_variable}"

[server]
port = 0

[rollout]
min_step_seconds = 0

[trainer]
method = "crf"

[generator]
fallback = false

[models]
embedder = "all-MiniLM-L6-v2"
folder = "{models}"
"""

CONTEXT = 131_072


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folders of one demo."""

    root: Path
    """Holds everything; removed at the end unless it is kept."""

    live: bool = False
    """Whether a real upstream is asked."""

    @property
    def hermes_home(self) -> Path:
        """What the demo's Hermes takes for its home."""
        return self.root / "hermes"

    @property
    def apprentice_home(self) -> Path:
        """What the demo's Apprentice takes for its home."""
        return self.root / "apprentice"

    def environment(self) -> dict[str, str]:
        """Return the environment for child processes: the demo's homes, nobody else's."""
        return child_environment(
            HERMES_HOME=str(self.hermes_home),
            APPRENTICE_HOME=str(self.apprentice_home),
            NO_COLOR="1",
        )

    def write_settings(self, base_url: str) -> Settings:
        """Write and read Apprentice's settings for an upstream at ``base_url``."""
        text = SETTINGS.format(
            base_url=base_url,
            key_variable="OPENROUTER_API_KEY" if self.live else "",
            models=platformdirs.user_cache_path("hermes-apprentice") / "models",
        )
        write_atomically(self.apprentice_home / "settings.toml", text.encode())
        return load_settings(self.environment())

    def write_hermes_config(self, sidecar: str, model: str, skills: Path) -> None:
        """Point the demo's Hermes at the sidecar, with our plugin and our skills."""
        config = {
            "model": {"provider": "apprentice", "default": model, "context_length": CONTEXT},
            "providers": {
                "apprentice": {
                    "name": "apprentice",
                    "base_url": f"{sidecar}/v1",
                    "api_key": "unused",
                }
            },
            "plugins": {"enabled": ["apprentice"]},
            "skills": {"external_dirs": [str(skills)]},
        }
        self.hermes_home.mkdir(parents=True, exist_ok=True)
        with (self.hermes_home / "config.yaml").open("w", encoding="utf-8") as stream:
            YAML().dump(config, stream)


def command(name: str) -> str:
    """Return the path of a command that is installed beside this interpreter.

    Raises:
        MissingExtraError: It is not there.
    """
    path = Path(sys.executable).with_name(name)
    if not os.access(path, os.X_OK):
        raise MissingExtraError(f"The demo's '{name}' command", "demo")
    return str(path)
