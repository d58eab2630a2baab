"""A dataset, described for a person. Holds counts, and no text of any request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hermes_apprentice.domain.dataset import Dataset, Split
from hermes_apprentice.domain.shape import ShapeKind
from hermes_apprentice.privacy.redaction import Policy
from hermes_apprentice.storage.files import write_atomically

CARD = "card.md"
"""Name of the file in a dataset's folder."""

_DOUBTED = "\n## Doubtful answers\n\n"

_REASONS = {
    "ineligible": "answered with tools, in several calls, or taken back",
    "corrected": "the user corrected the answer or asked again",
    "refused": "the model refused",
    "old_schema": "JSON with other keys than the newest answers",
    "off_shape": "not of the form that the other answers share",
    "not_in_request": "most copied values are not in the request: it needs earlier turns",
    "contradictory": "the same request got different answers, without a clear majority",
    "secret": "a key, token or password in it",
    "unknowable_personal_data": "personal data in the answer that the request does not hold",
    "too_long": "longer than dataset.max_chars",
    "repeated": "the same request again",
}


def render_card(
    dataset: Dataset,
    provenance: Mapping[str, Any],
    entities: Mapping[str, int],
    policy: Policy | None,
    now: float,
) -> str:
    """Return the data card in Markdown.

    Args:
        dataset: The dataset.
        provenance: Profiles, sources and models of the examples, with counts.
        entities: How often each kind of personal data was replaced.
        policy: What the redactor looked for; ``None`` where nothing was redacted.
        now: Unix time of the build.
    """
    moments = [example.asked_at for example in dataset.examples]
    lines = [
        f"# Dataset {dataset.dataset_id}",
        "",
        f"Built {_day(now)} for pattern {dataset.pattern_id}, from exchanges between "
        f"{_day(min(moments))} and {_day(max(moments))}. Digest `{dataset.digest}`.",
        "",
        "## Where it comes from",
        "",
        f"- {provenance['sessions']} sessions of Hermes",
    ]
    lines += [
        f"- {title}: " + ", ".join(f"{name or 'unknown'} {count}" for name, count in counts.items())
        for title, counts in (
            ("profiles", provenance["profiles"]),
            ("typed in", provenance["sources"]),
            ("answered by", provenance["models"]),
        )
    ]
    lines += ["", "## Splits", "", "| split | examples | groups |", "|---|---|---|"]
    for split in Split:
        part = dataset.of(split)
        lines.append(f"| {split} | {len(part)} | {len({one.group for one in part})} |")
    lines += ["", "Near-duplicates form a group, and a group is never divided.", "", "## Answers"]
    lines += ["", f"Shape: {dataset.shape.kind}; agreement {dataset.shape.agreement:.1%}."]
    if dataset.shape.kind is ShapeKind.JSON:
        lines += ["", "| field | comes from | present | when missing |", "|---|---|---|---|"]
        lines += [
            f"| `{leaf.path}` | {leaf.kind} | {leaf.presence:.0%} | {leaf.missing} |"
            for leaf in dataset.shape.fields
        ]
    lines += ["", "## Left out", "", "| reason | exchanges |", "|---|---|"]
    lines += [f"| {_REASONS.get(reason, reason)} | {count} |" for reason, count in dataset.dropped]
    lines += ["", "## Personal data", ""]
    if policy is None:
        lines.append("**Nothing was redacted**: dataset.redact is off.")
    else:
        lines += ["| kind | replaced |", "|---|---|"]
        lines += [f"| {kind} | {entities.get(kind, 0)} |" for kind in policy.kinds]
        missing = ", ".join(policy.not_covered) or "none"
        lines += ["", f"Not covered, because no language model is installed: {missing}."]
    return "\n".join(lines) + "\n"


def note_doubtful(folder: Path, count: int) -> None:
    """Add to the card of a built dataset how many of its answers were not learnt from.

    Args:
        folder: Of the dataset.
        count: How many; replaces what was noted before.
    """
    path = folder / CARD
    text = path.read_text(encoding="utf-8").partition(_DOUBTED)[0]
    said = (
        f"{count} answers of the training and validation splits were not learnt from: models that "
        "had not seen them give another label with confidence (confident learning). They are in "
        "the file, and count in every figure; trainer.drop_doubtful switches this off."
    )
    write_atomically(path, f"{text}{_DOUBTED}{said}\n".encode())


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
