"""The SKILL.md of a specialist: how Hermes learns that it exists.

Hermes puts one line per skill into every prompt, with the first 57 characters of its
description. So that a hundred specialists do not fill it, only the first few have a skill
each; beyond ``OWN_SKILLS`` a single one lists them all in its body, which is read on demand.

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
from collections.abc import Sequence
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
OWN_SKILLS = 8
"""Most specialists that have a skill of their own."""

INDEX = "apprentice-specialists"
"""Name of the skill that lists them, where there are more."""

MAX_LIST_CHARS = 60_000
"""Longest list; Hermes puts the whole of a skill that is read into the conversation."""

_PREFIX = "specialist-"
_WORD = re.compile(r"\w[\w-]{0,39}")
_UNDERSCORES = re.compile(r"_+")
_HYPHENS = re.compile(r"-+")


def skill_name(slug: str) -> str:
    """Return the name of a specialist's skill, which is also that of its folder.

    Raises:
        RegistryError: The slug is no specialist's name.
    """
    check_slug(slug)
    name = f"{_PREFIX}{slug}"
    plain = _HYPHENS.sub("-", name)  # a slug may hold two in a row, a skill's name may not
    if len(name) > MAX_NAME or plain != name:
        digest = hashlib.sha256(slug.encode()).hexdigest()[:8]
        name = f"{plain[: MAX_NAME - 9].rstrip('-')}-{digest}"
    return name


def sync_skills(skills_dir: Path, manifests: Sequence[Manifest]) -> None:
    """Make the folder's skills those of these specialists; the skills of all others go.

    Raises:
        RegistryError: The disk refused.
    """
    wanted = {skill_name(one.slug): render_skill(one) for one in manifests}
    if len(wanted) > OWN_SKILLS:
        wanted = {INDEX: render_index(manifests)}
    for name, text in wanted.items():
        _write(skills_dir / name / "SKILL.md", text)
    for folder in skills_dir.glob("*"):
        ours = folder.name == INDEX or folder.name.startswith(_PREFIX)
        if ours and folder.name not in wanted:
            _remove(folder)


def write_skill(skills_dir: Path, manifest: Manifest) -> Path:
    """Write the skill of a specialist and return its file; an older one is replaced.

    Raises:
        RegistryError: The slug is no specialist's name, or the disk refused to write.
    """
    path = skills_dir / skill_name(manifest.slug) / "SKILL.md"
    _write(path, render_skill(manifest))
    return path


def remove_skill(skills_dir: Path, slug: str) -> bool:
    """Remove the skill of a specialist, and return whether there was one.

    Raises:
        RegistryError: The slug is no specialist's name, or the disk refused.
    """
    return _remove(skills_dir / skill_name(slug))


def _write(path: Path, text: str) -> None:
    data = text.encode()
    try:
        if path.is_file() and path.read_bytes() == data:
            return  # left alone, so that whoever watches the file sees no change
        write_atomically(path, data, mode=0o644)
    except OSError as exc:
        raise RegistryError(f"the skill {path} could not be written: {exc}") from exc


def _remove(folder: Path) -> bool:
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
        f"Answered by itself: {about}. A trained specialist behind the model endpoint does these "
        "recurring requests; send them as they are."
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


def render_index(manifests: Sequence[Manifest]) -> str:
    """Return the text of the skill that lists specialists."""
    ordered = sorted(manifests, key=lambda one: one.slug)
    listed: list[str] = []
    length = 0
    for one in ordered:
        line = f"- {one.slug}: {plain_words(one.label) or one.slug}. {_answers(one.shape, 6)}"
        length += len(line) + 1
        if length > MAX_LIST_CHARS:
            break
        listed.append(line)
    lines = [
        "---",
        f"name: {INDEX}",
        f'description: "The {len(ordered)} recurring tasks that specialists answer by themselves, '
        'behind the model endpoint; send such requests as they are."',
        "metadata:",
        "  author: hermes-apprentice",
        "---",
        "",
        "# Specialists",
        "",
        "There is nothing to call: each is recognised on its way to the model, and what a "
        "specialist is not sure of goes to the usual model.",
        "",
        *listed,
    ]
    if len(listed) < len(ordered):
        lines.append(f"- and {len(ordered) - len(listed)} more.")
    lines += [
        "",
        "Details: use the tools `list_specialists` and `specialist_details` of the MCP server "
        "`apprentice`, or run `apprentice specialists`.",
        "",
    ]
    return "\n".join(lines)


def plain_words(text: str, most: int = MAX_WORDS) -> str:
    """Return the words of a free text, without anything that has a meaning in Markdown or YAML."""
    folded = unicodedata.normalize("NFKC", text)
    words = (_UNDERSCORES.sub(" ", match.group()).strip() for match in _WORD.finditer(folded))
    return ", ".join([word for word in words if word][:most])


def _answers(shape: Shape, most: int = MAX_NAMES) -> str:
    if shape.kind is ShapeKind.LABEL:
        labels = [plain_words(label, 5).replace(",", "") for label in shape.labels]
        named = "; ".join(label for label in labels if label and len(labels) <= most)
        return f"Answers are one of {len(labels)} labels{f': {named}' if named else ''}."
    if shape.kind is ShapeKind.JSON:
        paths = [
            plain_words(leaf.path.replace("[]", " ").replace(".", " "), 5) for leaf in shape.fields
        ]
        named = "; ".join(path.replace(",", "") for path in paths[:most])
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
