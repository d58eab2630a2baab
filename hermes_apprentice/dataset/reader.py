"""Read a built dataset back, and refuse one that is not as it was built."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

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

    format: int
    dataset_id: str
    digest: str
    pattern_id: str
    shape: Shape
    redacted: bool
    redaction: str
    dropped: dict[str, int]
    splits: dict[str, int]


def read_dataset(folder: Path) -> Dataset:
    """Return the dataset in ``folder``.

    Raises:
        DatasetError: A file is missing, truncated or edited, or of another format.
    """
    try:
        manifest = _Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        lines = (folder / EXAMPLES).read_bytes()
        examples = parse_examples(lines)
    except (OSError, ValidationError, ValueError) as error:
        raise DatasetError(f"{folder} cannot be read: {error}. Build the dataset again.") from error
    if manifest.format != FORMAT:
        raise DatasetError(f"{folder} has the format {manifest.format}, not {FORMAT}.")
    if digest_of(lines, manifest.shape, manifest.redaction) != manifest.digest:
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
