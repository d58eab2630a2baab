"""What a tool of the MCP server is: a name, typed arguments, and a plain function.

Knows nothing about the protocol, and imports nothing heavy: a server that takes
long to start is missing from a one-shot turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from hermes_apprentice.domain.money import MICRO
from hermes_apprentice.errors import ApprenticeError
from hermes_apprentice.settings import Settings, load_settings
from hermes_apprentice.storage.database import Database

Report = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, 0 to 1."""

Result = dict[str, Any]
"""A tool's answer: JSON values only."""


class Arguments(BaseModel):
    """What an agent sends; anything that is not asked for is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool."""

    name: str
    """What the agent calls."""

    description: str
    """What the agent reads; every word is in every prompt."""

    arguments: type[Arguments]
    """What it takes."""

    work: Callable[[Any, Report], Result]
    """Does it, in a thread of its own; raises ``ApprenticeError`` with advice."""

    reads: bool = True
    """Whether it changes nothing at all."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of its arguments, without what only costs tokens."""
        return _lean(self.arguments.model_json_schema())

    def call(self, arguments: dict[str, Any], report: Report) -> Result:
        """Check the arguments and do the work.

        Raises:
            ApprenticeError: The arguments do not fit, or the work failed.
        """
        try:
            checked = self.arguments.model_validate(arguments)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'arguments'}: {item['msg']}"
                for item in error.errors()
            )
            takes = ", ".join(self.arguments.model_fields) or "no arguments"
            raise ApprenticeError(f"{problems}. '{self.name}' takes {takes}.") from error
        return self.work(checked, report)


class Opened(NamedTuple):
    """What most tools work on."""

    settings: Settings
    """Read anew for every call, so that a change holds at once."""

    database: Database
    """Closed after the call."""

    now: float
    """Unix time."""


@contextmanager
def opened() -> Iterator[Opened]:
    """Open the settings and the database for one call."""
    settings = load_settings()
    with Database(settings.database_path) as database:
        yield Opened(settings, database, time.time())


def in_dollars(micro: int | None) -> float | None:
    """Return an amount as a number of dollars; unknown stays unknown."""
    return None if micro is None else round(micro / MICRO, 6)


def moment(at: float | None) -> str | None:
    """Write a Unix time as an ISO 8601 minute, UTC."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _lean(schema: dict[str, Any]) -> dict[str, Any]:
    fields = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in schema.get("properties", {}).items()
    }
    kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return {**kept, "properties": fields}
