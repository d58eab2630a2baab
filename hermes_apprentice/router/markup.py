"""HTML that cannot be injected into: text is escaped unless it was built here.

Knows nothing about what is shown.
"""

from __future__ import annotations

from html import escape

_VOID = frozenset({"meta", "link", "br"})


class Markup(str):
    """Finished HTML; only ``tag``, ``joined`` and ``verbatim`` make it."""

    __slots__ = ()


Child = str | Markup | None


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element.

    Args:
        name: Its name.
        children: Text, which is escaped, and elements, which are not; ``None`` is left out.
        attributes: By name, ``class_`` for ``class`` and ``_`` for ``-``; escaped, ``None`` is
            left out, and ``True`` stands for an attribute without a value.
    """
    written = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Return text and elements one after the other."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(child)
            for child in children
            if child is not None
        )
    )


def verbatim(text: str) -> Markup:
    """Take text of our own as it is; never anything that was read from somewhere."""
    return Markup(text)


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")
