"""The leaves of a JSON value and what is found at a path.

A path is keys joined by dots; ``[]`` marks the elements of a list. Pure; knows nothing about
schemas.
"""

from __future__ import annotations

from typing import Any, Final

from hermes_apprentice.domain.shape import Missing


class _Absent:
    """Marks a key that is left out."""


_ABSENT: Final = _Absent()


def occurrences(value: Any, path: str) -> list[Any]:
    """Return every value at a path, in order.

    Where a key, a list or an object above it is missing there is one missing
    value: ``None``, an empty text or list, or a mark for a key that is left out.
    """
    if value == {}:  # the whole answer: its keys are left out
        return [_ABSENT]
    current = [value]
    for part in path.split("."):
        name = part.rstrip("[]")
        current = [item.get(name, _ABSENT) if _is_object(item) else _gone(item) for item in current]
        for _ in range((len(part) - len(name)) // 2):
            current = [element for item in current for element in _elements(item)]
    return current


def _elements(item: Any) -> list[Any]:
    """Return the elements of a list; a value that stands alone is a list of one."""
    if isinstance(item, list) and item:
        return item
    return [item if isinstance(item, str | int | float) and item != "" else _gone(item)]


def _is_object(item: Any) -> bool:
    return isinstance(item, dict) and bool(item)


def _gone(item: Any) -> Any:
    """What a path below ``item`` finds when nothing is there."""
    return _ABSENT if missing_as(item) is None else item


def missing_as(value: Any) -> Missing | None:
    """Return how a value says that there is nothing to say, ``None`` if it says something."""
    if value is _ABSENT:
        return Missing.ABSENT
    if value is None:
        return Missing.NULL
    return Missing.EMPTY if value in ("", [], {}) else None


def leaf_paths(value: Any, path: str = "") -> tuple[str, ...] | None:
    """Return the leaves of a value in order; ``None`` if a key cannot be part of a path."""
    found: dict[str, None] = {}
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            if not key or set(key) & set(".[]"):
                return None
            below = leaf_paths(item, f"{path}.{key}" if path else key)
            if below is None:
                return None
            found.update(dict.fromkeys(below))
        return tuple(found)
    if isinstance(value, list) and value:
        for item in value:
            below = leaf_paths(item, f"{path}[]")
            if below is None:
                return None
            found.update(dict.fromkeys(below))
        return tuple(found)
    return (path,)


def containers_of(path: str) -> list[str]:
    """Return the paths above a leaf: ``a[].b`` lies in ``a`` and in ``a[]``."""
    return [path[:at] for at in range(len(path)) if path[at] == "." or path[at : at + 2] == "[]"]
