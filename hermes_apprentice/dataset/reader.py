"""Read a built dataset back, and refuse one that is not as it was built."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from hermes_apprentice.dataset.builder import (
    EXAMPLES,
    FORMAT,
    MANIFEST,
    digest_of,
    parse_examples,
)
from hermes_apprentice.domain.dataset import Dataset
from hermes_apprentice.domain.shape import Shape
from hermes_apprentice.errors import DatasetError


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    dataset_id: str
    digest: str
    format: int
    recipe: int
    pattern_id: str
    settings: dict[str, JsonValue]
    redacted: bool
    redaction: str
    not_covered: list[str]
    provenance: dict[str, JsonValue]
    dropped: dict[str, int]
    entities: dict[str, int]
    shape: Shape
    splits: dict[str, int]
    earlier: list[str] = []
    forgotten: int = 0


def read_dataset(folder: Path) -> Dataset:
    """Return the dataset in ``folder``.

    Raises:
        DatasetError: A file is missing, truncated or edited, or of another format.
    """
    try:
        record = json.loads((folder / MANIFEST).read_bytes())
        if isinstance(record, dict) and record.get("format") not in (None, FORMAT):
            raise DatasetError(
                f"{folder} has the format {record['format']}, not {FORMAT}. Build the dataset "
                "again."
            )
        manifest = _Manifest.model_validate(record, strict=False)
        lines = (folder / EXAMPLES).read_bytes()
        examples = parse_examples(lines)
    except OSError as error:
        raise DatasetError(
            f"{error.filename} cannot be read: {error.strerror}. Build the dataset again."
        ) from error
    except ValidationError as error:
        raise DatasetError(
            f"{folder} is incomplete: {_problem(error)}. Build the dataset again."
        ) from error
    except ValueError as error:
        raise DatasetError(f"{folder} is incomplete. Build the dataset again.") from error
    body = {key: value for key, value in record.items() if key not in ("dataset_id", "digest")}
    if digest_of(lines, body) != manifest.digest or not manifest.dataset_id.endswith(
        manifest.digest[:12]
    ):
        raise DatasetError(f"{folder} was changed after it was built. Build the dataset again.")
    return Dataset(
        dataset_id=manifest.dataset_id,
        digest=manifest.digest,
        pattern_id=manifest.pattern_id,
        shape=manifest.shape,
        redacted=manifest.redacted,
        redaction=manifest.redaction,
        dropped=tuple(sorted(manifest.dropped.items())),
        examples=examples,
    )


def _problem(error: ValidationError) -> str:
    """Name the first problem without quoting the file, which may hold a person's words."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
