"""Changes to Hermes' configuration as values that can be applied and taken back.

An edit knows what stood there before and what it puts there. Taking edits back
touches a value only where it is still ours; what the user changed since stays.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    """What is to stand there, or the item that a list is to have."""

    before: Any = ABSENT
    """What stood there, or ``ABSENT``; for an item, what the list was if it was empty."""

    item: bool = False
    """Whether it is about one item of a list instead of a whole value."""

    named: bool = False
    """Whether it is an entry of our own name: ours, whatever the user changed in it since."""

    rooted: int = 0
    """How many of the mappings on the way were there before."""

    def holds(self, data: dict[str, Any]) -> bool:
        """Whether the configuration already says this."""
        found = value_at(data, self.path)
        if self.item:
            return isinstance(found, list) and self.after in found
        if self.named and isinstance(found, dict):
            return all(found.get(key) == value for key, value in self.after.items())
        return found is not ABSENT and bool(found == self.after)

    def still_ours(self, data: dict[str, Any]) -> bool:
        """Whether what stands there is to go when this edit is taken back."""
        if self.named:
            return value_at(data, self.path) is not ABSENT
        return self.holds(data)


def edit_of(
    data: dict[str, Any], path: Path, after: Any, *, item: bool = False, named: bool = False
) -> Edit:
    """Return the edit that a configuration needs, with what stands there now."""
    rooted = 0
    while rooted < len(path) - 1 and isinstance(value_at(data, path[: rooted + 1]), dict):
        rooted += 1
    before = value_at(data, path)
    if item and isinstance(before, list) and before:
        before = ABSENT  # only needed to know what an emptied list was
    return Edit(path=path, after=after, before=before, item=item, named=named, rooted=rooted)


def with_additions(edit: Edit, data: dict[str, Any]) -> Edit:
    """Return the edit of an entry of our name with the keys that the user added to it."""
    present = value_at(data, edit.path)
    if not edit.named or not isinstance(present, dict):
        return edit
    return replace(edit, after=present | edit.after)


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
        if not edit.still_ours(data):
            unchanged = (ABSENT, edit.before)
            if not edit.item and value_at(data, edit.path) not in unchanged:
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
