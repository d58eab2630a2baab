from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from hermes_apprentice.router.body import Body

VALUES: dict[str, Any] = {
    "model": "big",
    "messages": [{"role": "user", "content": 'Ärger \u2028 \U0001f600 " \\ \n'}],
    "tools": [{"type": "function", "function": {"name": "t", "parameters": {}}}],
    "stream": True,
    "n": 1,
    "temperature": 0.5,
    "stop": None,
    "": [],
}


@pytest.mark.parametrize("escaped", [True, False])
def test_a_body_says_the_same_as_the_object_that_it_is(escaped: bool) -> None:
    body = Body.parse(json.dumps(VALUES, ensure_ascii=escaped, indent=1).encode())
    assert list(body) == list(VALUES)
    assert {name: body[name] for name in VALUES} == VALUES
    assert dict(body) == {**body} == VALUES == body
    assert orjson.dumps(dict(body)) == orjson.dumps(VALUES)
    assert (len(body), bool(body), "tools" in body, "tool" in body) == (8, True, True, False)
    assert (body.get("tool"), body.get("tool", 3), body.get("stop", 3)) == (None, 3, None)
    with pytest.raises(KeyError):
        body["tool"]
    assert body["messages"] is body["messages"]


def test_of_two_fields_with_one_name_the_last_one_counts() -> None:
    data = b'{"model": "a", "n": 1, "model": "b"}'
    assert dict(Body.parse(data)) == orjson.loads(data)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "[ ]", "{\n}", "[0]", '{"a":1}', "[ {} ]", "null", "0", '""', "1", '"x"', "false"],
)
@pytest.mark.parametrize("read_before", [True, False])
def test_whether_a_field_is_filled_is_seen_without_reading_it(text: str, read_before: bool) -> None:
    body = Body.parse(b'{"tools": %b}' % text.encode())
    if read_before:
        body["tools"]
    assert body.filled("tools") is bool(json.loads(text))
    assert not body.filled("functions")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b'{"a": 1} x',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": NaN}',
        b'{"tools": [NaN]}',
        b'{"tools": ["\\ud800"]}',
        b'{"tools": ["\xff"]}',
        b'{"\xff": 1}',
        b'{"tools": ["\x01"]}',
        b'{"tools": [01]}',
        b'{"tools": [1,]}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_not_every_parser_takes_is_refused_wherever_it_stands(data: bytes) -> None:
    with pytest.raises(ValueError):
        Body.parse(data)


def test_a_number_beyond_every_range_is_read_as_python_reads_it() -> None:
    assert Body.parse(b'{"n": [1e999]}')["n"] == [float("inf")]
