"""The JSON object that a request consists of, read only as far as somebody looks.

Most of a call's bytes are descriptions of tools, which go to the upstream as they came:
they are checked, but become no Python objects. Pure; knows nothing about what the
fields mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import orjson

_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Body(Mapping[str, Any]):
    """A JSON object whose values are decoded when they are asked for."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        """Take values by name, decoded or ``msgspec.Raw``."""
        self._values = values

    @classmethod
    def parse(cls, data: bytes) -> Body:
        """Read an object's outline.

        Raises:
            ValueError: It is no JSON object in UTF-8, or one that nests too deeply, or has
                something that not every parser takes: NaN, or half of a surrogate pair.
        """
        data.decode()  # the decoder believes what it skips to be UTF-8
        try:
            return cls(_DECODER.decode(data))
        except RecursionError as exc:
            raise ValueError("it nests too deeply") from exc

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, msgspec.Raw):
            value = self._values[name] = _decoded(value)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default where there is none."""
        return self[name] if name in self._values else default

    def filled(self, name: str) -> bool:
        """Whether a value is there and is not empty, false, zero or null."""
        value = self._values.get(name)
        if isinstance(value, msgspec.Raw):
            text = memoryview(value)
            if text[0] in b"[{" and text[1] not in b" \t\r\n]}":
                return True
            value = self[name]
        return bool(value)


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return orjson.loads(memoryview(raw))
    except orjson.JSONDecodeError:
        return json.loads(bytes(raw))  # a number beyond a double's range
