"""Find the homes of all Hermes profiles."""

from __future__ import annotations

from pathlib import Path

from hermes_apprentice.errors import SessionDBError


def discover_profiles(hermes_home: Path) -> list[tuple[str, Path]]:
    """Return the profiles of a Hermes home with the paths of their session databases.

    The root home is called ``default``. A home without any database gives the
    root's path, so that reading it says what is missing.

    Raises:
        SessionDBError: The folder of profiles cannot be listed.
    """
    root = hermes_home / "state.db"
    try:
        folders = sorted((hermes_home / "profiles").iterdir())
        found = [(path.name, path / "state.db") for path in folders]
        found = [(name, path) for name, path in found if path.exists()]
        has_root = root.exists()
    except (FileNotFoundError, NotADirectoryError):
        found, has_root = [], True
    except OSError as error:
        raise SessionDBError(f"{hermes_home} cannot be listed: {error.strerror}.") from error
    named = [(f"profiles/{name}" if name == "default" else name, path) for name, path in found]
    return [("default", root), *named] if has_root or not named else named
