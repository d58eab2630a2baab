"""Ask for a model under another name, and leave everything else in the request as it is.

Pure. Knows nothing about where the request goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

_MODEL = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.)*")')


def with_model(body: bytes, parsed: Mapping[str, Any], model: str) -> bytes:
    """Return the body with another model's name, all else unchanged where that is possible."""
    asked = parsed.get("model")
    if not model or not parsed or asked == model:
        return body
    found = [match for match in _MODEL.finditer(body) if json.loads(match[1]) == asked]
    named = orjson.dumps(model)
    for match in found:
        start, end = match.span(1)
        changed = body[:start] + named + body[end:]
        if len(found) == 1 or orjson.loads(changed) == {**parsed, "model": model}:
            return changed
    return json.dumps({**json.loads(body), "model": model}).encode()
