"""The reference of the MCP server's tools, made from the code."""

from __future__ import annotations

from typing import Any

from hermes_apprentice.interfaces.mcp_catalogue import Tool
from hermes_apprentice.interfaces.mcp_tools import TOOLS


def tool_reference() -> str:
    """Return one section per tool, in Markdown."""
    return "\n".join(_section(tool) for tool in TOOLS)


def _section(tool: Tool) -> str:
    schema = tool.schema()
    lines = [f"### `{tool.name}`{'' if tool.reads else ' (asks the operator)'}", ""]
    lines += [tool.description, ""]
    fields = schema["properties"]
    if not fields:
        return "\n".join([*lines, "No arguments.", ""])
    lines += ["| argument | values | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "required" if name in schema.get("required", ()) else f"`{field['default']!r}`"
        lines.append(
            f"| `{name}` | {_values(field)} | {default} | {field.get('description', '')} |"
        )
    return "\n".join([*lines, ""])


def _values(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "pattern" in field:
        return f"`{field['pattern']}`"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    if low is not None:
        beyond = "more than " if "exclusiveMinimum" in field else ""
        return f"{field['type']}, {beyond}{low} to {field['maximum']}"
    return f"{field['type']}, at most {field['maxLength']} characters"
