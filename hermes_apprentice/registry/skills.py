"""The SKILL.md of a specialist: how Hermes learns that it exists.

Follows agentskills.io: front matter with ``name`` and ``description``, then a body. A skill is read
by a language model, and a pattern's keywords come from requests that anybody may have typed. So
free text is reduced to plain words before it gets in, and never stands where it could end the
front matter, start a heading or be taken for an instruction. Knows nothing about stages.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import unicodedata
from pathlib import Path

from hermes_apprentice.domain.shape import Shape, ShapeKind
from hermes_apprentice.domain.specialist import Manifest
from hermes_apprentice.errors import RegistryError
from hermes_apprentice.registry.registry import check_slug
from hermes_apprentice.storage.files import write_atomically

MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_WORDS = 12
MAX_NAMES = 20

_PREFIX = "specialist-"
_WORD = re.compile(r"\w[\w-]{0,39}")
_UNDERSCORES = re.compile(r"_+")


def skill_name(slug: str) -> str:
    """Return the name of a specialist's skill, which is also that of its folder.

    Raises:
        RegistryError: The slug is no specialist's name.
    """
    check_slug(slug)
    name = f"{_PREFIX}{slug}"
    if len(name) > MAX_NAME:
        digest = hashlib.sha256(slug.encode()).hexdigest()[:8]
        name = f"{name[: MAX_NAME - 9].rstrip('-')}-{digest}"
    return name


def write_skill(skills_dir: Path, manifest: Manifest) -> Path:
    """Write the skill of a specialist and return its file; an older one is replaced.

    Raises:
        RegistryError: The slug is no specialist's name, or the disk refused to write.
    """
    path = skills_dir / skill_name(manifest.slug) / "SKILL.md"
    try:
        write_atomically(path, render_skill(manifest).encode(), mode=0o644)
    except OSError as exc:
        raise RegistryError(f"the skill {path} could not be written: {exc}") from exc
    return path


def remove_skill(skills_dir: Path, slug: str) -> bool:
    """Remove the skill of a specialist, and return whether there was one.

    Raises:
        RegistryError: The slug is no specialist's name, or the disk refused.
    """
    folder = skills_dir / skill_name(slug)
    try:
        if folder.is_symlink() or not folder.is_dir():
            return False
        shutil.rmtree(folder)
    except OSError as exc:
        raise RegistryError(f"the skill {folder} could not be removed: {exc}") from exc
    return True


def render_skill(manifest: Manifest) -> str:
    """Return the text of a specialist's SKILL.md."""
    about = plain_words(manifest.label) or manifest.slug
    description = (
        f"Answers recurring requests about: {about}. A trained specialist behind the model "
        "endpoint does this by itself; send such requests as they are."
    )
    lines = [
        "---",
        f"name: {skill_name(manifest.slug)}",
        f'description: "{description[:MAX_DESCRIPTION]}"',
        "metadata:",
        "  author: hermes-apprentice",
        f'  version: "{manifest.version}"',
        "---",
        "",
        f"# Specialist {manifest.slug}",
        "",
        f"Requests like these come back often; their keywords are: {about}.",
        "A small model was trained on earlier answers and proven on held-out ones.",
        "",
        "- There is nothing to call: requests of this kind are recognised on their way to the "
        "model, and anything the specialist is not sure of goes to the usual model.",
        "- It sees one request at a time, without the conversation before it.",
        f"- {_answers(manifest.shape)}",
        *_proof(manifest),
        "",
        "Details: use the tool `specialist_details` of the MCP server `apprentice`, or run "
        f"`apprentice specialists show {manifest.slug}`.",
        "",
    ]
    return "\n".join(lines)


def plain_words(text: str, most: int = MAX_WORDS) -> str:
    """Return the words of a free text, without anything that has a meaning in Markdown or YAML."""
    folded = unicodedata.normalize("NFKC", text)
    words = (_UNDERSCORES.sub(" ", match.group()).strip() for match in _WORD.finditer(folded))
    return ", ".join([word for word in words if word][:most])


def _answers(shape: Shape) -> str:
    if shape.kind is ShapeKind.LABEL:
        labels = [plain_words(label, 5).replace(",", "") for label in shape.labels]
        named = "; ".join(label for label in labels if label and len(labels) <= MAX_NAMES)
        return f"Answers are one of {len(labels)} labels{f': {named}' if named else ''}."
    if shape.kind is ShapeKind.JSON:
        paths = [
            plain_words(leaf.path.replace("[]", " ").replace(".", " "), 5) for leaf in shape.fields
        ]
        named = "; ".join(path.replace(",", "") for path in paths[:MAX_NAMES])
        return f"Answers are JSON objects with the fields: {named}."
    return "Answers are short texts."


def _proof(manifest: Manifest) -> list[str]:
    scores = manifest.verdict.scores
    if scores is None:
        return []
    return [
        f"- On held-out requests it was sure about {scores.coverage:.0%}, and agreed with the "
        f"usual model on {scores.selective_agreement.value:.0%} of those."
    ]
