"""Changes to Hermes' configuration as values that can be applied and taken back.

An edit knows what stood there before and what it puts there. Taking edits back
touches a value only where it is still ours; what the user changed since stays.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hermes_apprentice.interfaces.install.yaml_text import (
    ABSENT,
    Path,
    add_item,
    read_yaml,
    remove_item,
    remove_value,
    set_value,
    value_at,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change."""

    path: Path
    """Keys from the root."""

    after: Any
    """What is to stand there (``ABSENT``: nothing), or the item that a list is to have."""

    before: Any = ABSENT
    """What stood there; for an item, what the list was if it was empty or missing."""

    item: bool = False
    """Whether it is about one item of a list instead of a whole value."""

    rooted: int = 0
    """How many of the mappings on the way were there before."""

    def holds(self, data: dict[str, Any]) -> bool:
        """Whether the configuration already says this."""
        found = value_at(data, self.path)
        if self.item:
            return isinstance(found, list) and self.after in found
        if self.after is ABSENT or found is ABSENT:
            return found is self.after
        return bool(found == self.after)


def edit_of(data: dict[str, Any], path: Path, after: Any, *, item: bool = False) -> Edit:
    """Return the edit that a configuration needs, with what stands there now."""
    rooted = 0
    while rooted < len(path) - 1 and isinstance(value_at(data, path[: rooted + 1]), dict):
        rooted += 1
    before = value_at(data, path)
    if item and isinstance(before, list) and before:
        before = ABSENT  # only needed to know what an emptied list was
    return Edit(path=path, after=after, before=before, item=item, rooted=rooted)


class Reverted(NamedTuple):
    """A configuration without our edits."""

    text: str
    """The text."""

    left: tuple[str, ...]
    """Places that were ours and that somebody changed; they stay as they are."""


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with every edit that it does not have yet.

    Raises:
        ConfigError: An edit cannot be made in this text.
    """
    for edit in edits:
        if edit.holds(read_yaml(text, "the file")):
            continue
        if edit.item:
            text = add_item(text, edit.path, edit.after)
        elif edit.after is ABSENT:
            text = remove_value(text, edit.path)
        else:
            text = set_value(text, edit.path, edit.after)
    return text


def revert_edits(text: str, edits: Sequence[Edit]) -> Reverted:
    """Take edits back where they still stand, the last one first.

    Mappings and lists that an edit had to make are removed once they are empty.

    Raises:
        ConfigError: An edit cannot be taken back in this text.
    """
    left: list[str] = []
    for edit in reversed(edits):
        data = read_yaml(text, "the file")
        if not edit.holds(data):
            if (
                not edit.item
                and edit.after is not ABSENT
                and value_at(data, edit.path)
                not in (
                    ABSENT,
                    edit.before,
                )
            ):
                left.append(".".join(edit.path))
            continue
        if edit.item:
            text = remove_item(text, edit.path, edit.after)
        elif edit.before is ABSENT:
            text = remove_value(text, edit.path)
        else:
            text = set_value(text, edit.path, edit.before)
        text = _without_empty(text, edit)
    return Reverted(text, tuple(left))


def _without_empty(text: str, edit: Edit) -> str:
    """Remove what an edit emptied, as far up as the edit had made it."""
    if edit.item:
        if value_at(read_yaml(text, "the file"), edit.path) != []:
            return text
        if edit.before is not ABSENT:
            return text if edit.before == [] else set_value(text, edit.path, edit.before)
        text = remove_value(text, edit.path)
    if edit.before is not ABSENT:
        return text
    for depth in range(len(edit.path) - 1, edit.rooted, -1):
        if value_at(read_yaml(text, "the file"), edit.path[:depth]) != {}:
            break
        text = remove_value(text, edit.path[:depth])
    return text
