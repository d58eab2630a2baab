"""Lines of Hermes' .env: what it sets, and the block that a setup adds. Pure."""

from __future__ import annotations

import json


def env_values(text: str) -> dict[str, str]:
    """Return what a file like .env sets, as it is written there."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.strip().removeprefix("export ").partition("=")
        if sign and not name.startswith("#"):
            found[name.strip()] = value.strip()
    return found


def without_addition(text: str, env_text: str) -> str:
    """Return the text of .env without what a setup added to it."""
    if not env_text or env_text not in text:
        return text
    start, _, rest = text.partition(env_text)
    return start + ("\n" if rest and env_text.startswith("\n") else "") + rest


def addition(text: str, values: dict[str, str]) -> str:
    """Return the lines that tell plugin and jobs where Apprentice is, unless the user does.

    Hermes can give its children another HOME, so the place is written down.
    """
    start = "\n" if text and not text.endswith("\n") else ""
    present = env_values(text)
    lines = [
        f"{name}={json.dumps(value, ensure_ascii=False)}\n"
        for name, value in values.items()
        if not present.get(name)
    ]
    return start + "".join(lines)
