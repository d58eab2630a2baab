"""Changes single values in a YAML text and leaves every other byte as it is.

A parser tells where each value stands, and the text is edited there: comments,
order, quoting, spacing and line ends of everything else stay. After each edit the
text is parsed again and must mean exactly what was wanted; where it does not
(anchors shared with other places, for one) nothing is changed and an error says
so. Knows nothing about Hermes.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from hermes_apprentice.errors import ConfigError

Path = tuple[str, ...]
"""Keys from the root to a value."""


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()
"""Stands for a key that is not there; not the same as a null."""

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?: [A-Za-z0-9_./@+-]+)*\Z")
_WORDS = frozenset("true false yes no on off null y n".split())
_LONG = 100


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Return what a YAML text says; an empty one says nothing.

    Raises:
        ConfigError: It cannot be parsed, or is not a mapping.
    """
    parser = YAML(typ="safe", pure=True)
    parser.version = (1, 1)  # what Hermes' own parser reads
    try:
        value = parser.load(text)
    except (YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}" if where is not None else ""
        problem = getattr(error, "problem", None) or str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{name} is not valid YAML{place}: {problem}. Nothing was changed; "
            "correct it and run the command again."
        ) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{name} must consist of settings ('key: value'), not of a {type(value).__name__}. "
            "Nothing was changed; correct it and run the command again."
        )
    try:
        return dict(_unshared(value))
    except RecursionError as error:
        raise ConfigError(f"{name} contains itself by an anchor; correct it.") from error


def _unshared(value: Any) -> Any:
    """Copy a value so that what an anchor repeats is a thing of its own at each place."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def value_at(data: Any, path: Sequence[str]) -> Any:
    """Return the value at ``path``, or ``ABSENT``."""
    for key in path:
        if not isinstance(data, dict) or key not in data:
            return ABSENT
        data = data[key]
    return data


def set_value(text: str, path: Path, value: Any) -> str:
    """Return the text with ``value`` at ``path``; mappings on the way are made.

    Raises:
        ConfigError: The text does not allow it.
    """
    wanted = read_yaml(text, "the file")
    inner: dict[str, Any] = wanted
    for depth, key in enumerate(path[:-1]):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            raise ConfigError(f"'{'.'.join(path[: depth + 1])}' is not a mapping; correct it.")
    inner[path[-1]] = value
    return _checked(_with_value(text, path, value), wanted, path)


def remove_value(text: str, path: Path) -> str:
    """Return the text without the entry at ``path``.

    Raises:
        ConfigError: The text does not allow it.
    """
    wanted = read_yaml(text, "the file")
    parent = value_at(wanted, path[:-1])
    if not isinstance(parent, dict) or path[-1] not in parent:
        return text
    del parent[path[-1]]
    mapping = _mapping(text, path[:-1])
    index = next(i for i, (key, _) in enumerate(mapping.value) if key.value == path[-1])
    if len(mapping.value) == 1 and path[:-1]:
        return _checked(_replace(text, mapping, "{}"), wanted, path)
    if not path[:-1] and not mapping.flow_style and len(mapping.value) == 1:
        wanted = {}
    spans = [(key.start_mark.index, _end(value)) for key, value in mapping.value]
    return _checked(_cut(text, mapping, spans, index), wanted, path)


def add_item(text: str, path: Path, item: Any) -> str:
    """Return the text with ``item`` put first into the list at ``path``.

    Raises:
        ConfigError: There is something else than a list.
    """
    data = read_yaml(text, "the file")
    present = value_at(data, path)
    if present is ABSENT or present is None or present == []:
        return set_value(text, path, [item])
    if not isinstance(present, list):
        raise ConfigError(f"'{'.'.join(path)}' is not a list; correct it.")
    wanted = copy.deepcopy(data)
    value_at(wanted, path).insert(0, item)
    node = _node(text, path)
    start = node.start_mark.index
    if node.flow_style:
        changed = f"{text[: start + 1]}{_flow(item)}, {text[start + 1 :]}"
    else:
        gap = f"{_newline(text)}{' ' * node.start_mark.column}"
        changed = f"{text[:start]}- {_flow(item)}{gap}{text[start:]}"
    return _checked(changed, wanted, path)


def remove_item(text: str, path: Path, item: Any) -> str:
    """Return the text without ``item`` in the list at ``path``; an emptied list is ``[]``.

    Raises:
        ConfigError: The text does not allow it.
    """
    wanted = read_yaml(text, "the file")
    present = value_at(wanted, path)
    if not isinstance(present, list) or item not in present:
        return text
    index = present.index(item)
    del present[index]
    node = _node(text, path)
    if len(node.value) == 1:
        return _checked(_replace(text, node, "[]"), wanted, path)
    if node.flow_style:
        spans = [(child.start_mark.index, _end(child)) for child in node.value]
    else:
        spans = [(text.rindex("-", 0, child.start_mark.index), _end(child)) for child in node.value]
        spans[0] = (node.start_mark.index, spans[0][1])
    return _checked(_cut(text, node, spans, index), wanted, path)


def _with_value(text: str, path: Path, value: Any) -> str:
    known = len(path)
    while known and value_at(_tree(text), path[:known]) is ABSENT:
        known -= 1
    if known == len(path):
        return _put(text, path, _flow(value))
    rest = path[known + 1 :]
    for key in reversed(rest):
        value = {key: value}
    key = path[known]
    if known:
        node = _node(text, path[:known])
        if isinstance(node, ScalarNode) or not node.value:
            return _put(text, path[:known], _flow({key: value}))
        start = node.start_mark.index
        if node.flow_style:
            entry = _flow({key: value})[1:-1]
            return f"{text[: start + 1]}{entry}, {text[start + 1 :]}"
        column = node.start_mark.column
        entry = _block(key, value, column, _newline(text))
        return f"{text[:start]}{entry}{' ' * column}{text[start:]}"
    return _appended(text, key, value)


def _appended(text: str, key: str, value: Any) -> str:
    root = _compose(text)
    newline = _newline(text)
    if root is not None and root.flow_style:
        start = root.start_mark.index
        comma = ", " if root.value else ""
        return f"{text[: start + 1]}{_flow({key: value})[1:-1]}{comma}{text[start + 1 :]}"
    column = root.start_mark.column if root is not None else 0
    if text and not text.endswith("\n"):
        text += newline
    return f"{text}{' ' * column}{_block(key, value, column, newline)}"


def _block(key: str, value: Any, column: int, newline: str) -> str:
    """Write an entry as lines, the first without its indentation."""
    if not isinstance(value, dict) or not value or len(_flow({key: value})) <= _LONG // 2:
        return f"{_scalar(key)}: {_flow(value)}{newline}"
    lines = [f"{_scalar(key)}:{newline}"]
    for inner, content in value.items():
        indent = " " * (column + 2)
        lines.append(indent + _block(inner, content, column + 2, newline))
    return "".join(lines)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Write a scalar plainly where that is safe, and as a JSON string otherwise."""
    if isinstance(value, str) and (not _PLAIN.match(value) or value.lower() in _WORDS):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _put(text: str, path: Path, written: str) -> str:
    """Write a value in place of the one at ``path``."""
    node = _node(text, path)
    if node.start_mark.index != node.end_mark.index:
        return _replace(text, node, written)
    # Nothing stands there; a comment may follow on the line.
    keys = [name for name, _ in _mapping(text, path[:-1]).value if name.value == path[-1]]
    colon = text.find(":", keys[0].end_mark.index) + 1
    return f"{text[:colon]} {written}{text[colon:]}"


def _replace(text: str, node: Any, written: str) -> str:
    start, end = node.start_mark.index, _end(node)
    if not isinstance(node, ScalarNode) and not node.flow_style:
        # A block becomes a flow value: onto the line of its key.
        head = text[:start].rstrip()
        return f"{head} {written}{text[end:]}"
    ended = "\n" if text[end - 1 : end] == "\n" else ""
    return f"{text[:start]}{written}{ended}{text[end:]}"


def _cut(text: str, node: Any, spans: Sequence[tuple[int, int]], index: int) -> str:
    """Remove one entry of a collection that keeps others, or the last one of the root."""
    start, end = spans[index]
    if node.flow_style:
        if index + 1 < len(spans):
            return text[:start] + text[spans[index + 1][0] :]
        start = spans[index - 1][1] if index else start
        return text[:start] + text[end:]
    line = text.rfind("\n", 0, start) + 1
    stop = end if text[end - 1 : end] == "\n" else text.find("\n", end) + 1
    if stop == 0:
        stop = len(text)
    if text[line:start].strip():
        # The first entry stands behind something else, as in "- key: value".
        following = spans[index + 1][0] if index + 1 < len(spans) else stop
        return text[:start] + text[following:]
    return text[:line] + text[stop:]


def _end(node: Any) -> int:
    """Return where a value really ends: a parser counts the comments behind a block to it."""
    if isinstance(node, ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(node, MappingNode) else last)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _tree(text: str) -> Any:
    return read_yaml(text, "the file")


def _compose(text: str) -> Any:
    return YAML(pure=True).compose(text)


def _mapping(text: str, path: Sequence[str]) -> MappingNode:
    node = _node(text, path)
    if not isinstance(node, MappingNode):
        raise ConfigError(f"'{'.'.join(path)}' is not a mapping; correct it.")
    return node


def _node(text: str, path: Sequence[str]) -> Any:
    node = _compose(text)
    for key in path:
        found = [value for name, value in node.value if name.value == key]
        if len(found) != 1:
            raise ConfigError(
                f"'{'.'.join(path)}' is written in a way that cannot be edited safely "
                "(merged or repeated keys); write it out plainly."
            )
        node = found[0]
    if not isinstance(node, (MappingNode, SequenceNode, ScalarNode)):
        raise ConfigError(f"'{'.'.join(path)}' cannot be edited.")
    return node


def _checked(text: str, wanted: dict[str, Any], path: Sequence[str]) -> str:
    """Return ``text`` if it says what was wanted."""
    try:
        same = read_yaml(text, "the edited file") == wanted
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(
            f"'{'.'.join(path)}' cannot be changed without touching other settings (shared "
            "anchors, or an unusual notation); write that part plainly and run the command again."
        )
    return text
