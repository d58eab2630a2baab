"""What a setup did to one profile of Hermes, kept in Apprentice's own home.

With it a setup can be taken back, also after the user went on editing. Beside it
lies the configuration as it was before.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hermes_apprentice.errors import ConfigError
from hermes_apprentice.interfaces.install.edits import Edit
from hermes_apprentice.interfaces.install.yaml_text import ABSENT

FOLDER = "install"
"""Below Apprentice's home."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EditRecord(_Record):
    """An edit in a form that JSON can hold."""

    path: tuple[str, ...]
    """Keys from the root."""

    item: bool
    """Whether it is about a list's item."""

    named: bool
    """Whether it is an entry of our own name."""

    rooted: int
    """How many of the mappings on the way were there before."""

    before: list[Any]
    """What stood there; empty for nothing."""

    after: Any
    """What stands there now."""


class JobRecord(_Record):
    """A job for Hermes' scheduler."""

    name: str
    """Its name there."""

    schedule: str
    """When it runs, in Hermes' words."""

    script: str
    """File below Hermes' folder of scripts."""

    deliver: str
    """Where its output goes."""


class Receipt(_Record):
    """What was done to one profile."""

    profile: str
    """Its name."""

    home: str
    """Its folder."""

    had_config: bool
    """Whether there was a config.yaml before."""

    config_sha256: str
    """Of config.yaml as the setup left it."""

    edits: tuple[EditRecord, ...]
    """Changes to config.yaml."""

    had_env: bool
    """Whether there was a file .env before."""

    env_text: str
    """What was added to it."""

    scripts: dict[str, str]
    """Names and sha256 of the scripts that were copied."""

    tab: dict[str, str] = {}
    """Paths and sha256 of the files for Hermes' dashboard."""

    jobs: tuple[JobRecord, ...]
    """Jobs that were made."""


def digest(data: bytes) -> str:
    """Return the sha256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def as_record(edit: Edit) -> EditRecord:
    """Put an edit into a form that JSON can hold."""
    return EditRecord(
        path=edit.path,
        item=edit.item,
        named=edit.named,
        rooted=edit.rooted,
        before=[] if edit.before is ABSENT else [edit.before],
        after=edit.after,
    )


def as_edit(record: EditRecord) -> Edit:
    """Read an edit back."""
    return Edit(
        path=record.path,
        item=record.item,
        named=record.named,
        rooted=record.rooted,
        before=record.before[0] if record.before else ABSENT,
        after=record.after,
    )


def receipt_path(home: Path, profile_home: Path) -> Path:
    """Return where the receipt of a profile lies; two Hermes homes never share one."""
    return home / FOLDER / f"{digest(str(profile_home).encode())[:16]}.json"


def backup_path(home: Path, profile_home: Path) -> Path:
    """Return where the configuration lies as it was before."""
    return receipt_path(home, profile_home).with_suffix(".config.yaml")


def read_receipts(home: Path) -> list[Receipt]:
    """Return every receipt in Apprentice's home, by profile.

    Raises:
        ConfigError: One cannot be read.
    """
    found = [
        receipt
        for path in sorted((home / FOLDER).glob("*.json"))
        if (receipt := _read(path)) is not None
    ]
    return sorted(found, key=lambda receipt: (receipt.profile != "default", receipt.profile))


def read_receipt(home: Path, profile_home: Path) -> Receipt | None:
    """Return the receipt of a profile, or ``None`` where nothing was done to it.

    Raises:
        ConfigError: It cannot be read.
    """
    return _read(receipt_path(home, profile_home))


def _read(path: Path) -> Receipt | None:
    try:
        return Receipt.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"{path}, which says what the setup changed, cannot be read: {error}. "
            f"The configuration as it was before lies beside it."
        ) from error
